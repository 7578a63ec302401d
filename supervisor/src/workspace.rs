//! The user's folder: what is known about it before anything starts, the mount points that we make in it and take
//! away again, and what the agent changed.

pub mod changes;
pub mod facts;
pub mod mountpoints;
pub mod stray;
