//! Sessions on the fake engine: every engine call goes wrong once, every owner dies once, and nothing may be left.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should panic")]

mod api;
mod house;
mod launch;
mod queue;
mod recover;
mod service;
