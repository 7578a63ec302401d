//! Behaviours at the edges of aigo, where something else comes in: what people type, keys, the model's API, the network,
//! a container in the hands of an attacker, programs that read the output. What each one shows is its name.

// Helpers of tests are tests.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod canary;
mod cli;
mod faults;
mod hostile;
mod keys;
mod mount_swap;
mod no_runner;
mod outputs;
mod proxy;
mod recording;
mod service;
mod support;
mod tasks;
