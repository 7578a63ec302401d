//! One module a command.

pub mod agents;
pub mod audit;
pub mod completions;
pub mod config;
pub mod control;
pub mod doctor;
pub mod hand_over;
pub mod image;
pub mod logs;
pub mod ps;
pub mod queue;
pub mod records;
pub mod run;
pub mod serve;
pub mod service;
