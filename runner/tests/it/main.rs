//! The runner from outside: the real binary, and its parser as a library.

#![allow(clippy::unwrap_used, reason = "tests")]

mod claude;
mod command;
mod common;
mod setup;
mod translate;
