//! The credential proxy over real sockets: what passes, what does not, and what never leaves.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "helpers of tests, in one binary")]

mod abuse;
mod canary;
mod faults;
mod limits;
mod recording;
mod relay;
mod replaying;
mod support;
mod tls;
