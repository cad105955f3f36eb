//! The server as its clients see it: over a TCP connection.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batching;
mod connections;
mod contract;
mod edits;
mod life;
mod routes;
mod security;
mod support;
