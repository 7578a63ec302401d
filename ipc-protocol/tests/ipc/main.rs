//! Tests of the file protocol with both faces on one real directory.

mod common;
mod round_trip;
