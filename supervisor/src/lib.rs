//! The host side of aigo: a library, and the `aigo` binary on top of it.
//!
//! ```text
//! cli, serve ─► request ─► policy ─► Permit ─► plan ─► LaunchPlan ─► engine ─► container ─► runner ─► agent
//!                      pure                pure        effects                        │
//!          session (driver, machine) ◄───────── ipc files, engine events, timers ─────┘
//!             └─► store ─► readers                       proxy ◄── the agent's model requests
//! ```

pub mod admission;
pub mod agents;
pub mod cli;
pub mod client;
pub mod config;
pub mod dirs;
pub mod doctor;
pub mod door;
pub mod engine;
pub mod error_chain;
pub mod failpoint;
pub mod image;
pub mod notify;
pub mod plan;
pub mod policy;
pub mod proxy;
pub mod request;
pub mod serve;
pub mod service;
pub mod session;
pub mod stall;
pub mod store;
pub mod tcp_owner;
pub mod units;
pub mod usage;
pub mod workspace;
