//! Tests of the file protocol with both faces on one real directory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "also in the helpers of tests, which clippy does not see as tests"
)]

mod attacks_journal;
mod attacks_read;
mod attacks_uid;
mod attacks_write;
mod common;
mod golden;
mod laws;
mod losses;
mod round_trip;
mod watching;
