//! Behaviours of aigo as a whole, on a real engine. What each one shows is its name.

mod commands;
mod endings;
mod kill;
mod output;
mod owner;
mod prompts;
mod resources;
mod steering;
mod terminal;
mod timeouts;
mod workspace;
