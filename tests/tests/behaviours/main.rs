//! Behaviours of aigo as a whole, on a real engine. What each one shows is its name.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test fails; the lint knows only of functions marked as tests"
)]

mod commands;
mod endings;
mod engines;
mod faults;
mod identity;
mod image;
mod kill;
mod limits;
mod ordinary_users;
mod other_agents;
mod output;
mod owner;
mod podman;
mod project_folder;
mod prompts;
mod resources;
mod steering;
mod subnets;
mod terminal;
mod timeouts;
mod true_summary;
mod workspace;
