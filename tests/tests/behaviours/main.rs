//! Behaviours of aigo as a whole, on a real engine. What each one shows is its name.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test fails; the lint knows only of functions marked as tests"
)]

mod commands;
mod endings;
mod faults;
mod image;
mod kill;
mod limits;
mod ordinary_users;
mod output;
mod owner;
mod podman;
mod prompts;
mod resources;
mod steering;
mod terminal;
mod timeouts;
mod workspace;
