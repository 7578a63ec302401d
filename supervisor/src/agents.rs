//! Named principals, what each may use, and the kernel objects that hold them to it.
//!
//! An agent's containers share one CPU quota because they live in one cgroup of the agent's:
//!
//! ```text
//! driver cgroupfs                      driver systemd (of the system, or of the user for a rootless engine)
//! /aigo                                aigo.slice
//!   /INSTANCE                            aigo-INSTANCE.slice
//!     /AGENT      cpu.max = the quota      aigo-INSTANCE-AGENT.slice      CPUQuota= the quota
//!       /CONTAINER                           docker-CONTAINER.scope
//! ```
//!
//! [`Enforcement`] says what of this is possible here, from plain facts, and what it means where it is not; memory and
//! processes are bounded for each container by the engine. [`AgentGroups`] makes, changes and removes the cgroups.
//!
//! Facts that shape this:
//! - In version 1 a cgroup's quota may not be larger than its parent's (sched-bwc.rst): a container gets at most its
//!   agent's quota for itself, and when a quota is lowered the containers go first.
//! - An engine makes a cgroup parent that is missing, without a quota. So the parent is made before the container, and
//!   only what has no container is removed; [`AgentGroups::confirm`] looks where a container really is.
//! - The containers of one agent are throttled in the agent's cgroup, and their own counters do not show it.

#[cfg_attr(not(target_os = "linux"), path = "agents/cgroupfs/elsewhere.rs")]
mod cgroupfs;
mod change;
pub mod enforcement;
mod error;
mod groups;
mod host;
pub mod limits;
pub mod name;
mod place;
mod quota;
mod systemd;

pub use change::{Changed, Kept, Runs};
pub use enforcement::{CpuEnforcement, Enforcement, Hindrance, Holder, on_this_kernel};
pub use error::AgentError;
pub use groups::{AgentGroups, Placement};
pub use host::HostSide;
pub use limits::{AgentLimits, LimitPolicy, Lowered, SetLimits};
pub use name::{AgentName, InvalidAgentName};
