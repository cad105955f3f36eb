//! Criterion benches of objectives, clustering and the encoder.
