//! Golden files against the public functions of the crates.
