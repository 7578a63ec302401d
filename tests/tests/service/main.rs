//! `aigo serve` as a whole, on a real engine: its API, its death at any moment, and clients that mean no good.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test fails; the lint knows only of functions marked as tests"
)]

mod api;
mod attending;
mod audit;
mod counters;
mod crashes;
mod database;
mod engine;
mod hostile;
mod http_rules;
mod killed;
mod limits;
mod openapi;
mod podman;
mod requests;
mod soak;
mod support;
mod tcp_door;
