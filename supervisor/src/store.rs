//! The store: SQLite in the data directory, in WAL mode, written by one thread per process.
//!
//! What is stored comes before what is shown: readers get a wake-up and read from their own cursor, so nobody can lag,
//! lose or double an event. Several processes may have the database open; each session has one owner.

mod audit;
mod claim;
mod events;
mod fault;
mod mounts;
mod retention;
mod sessions;
mod settings;
mod writer;

pub use audit::{AuditRow, Decision, NewAudit, socket_actor};
pub use claim::Claim;
pub use events::{Appended, JournalCursor, NewEvent, Position};
pub use sessions::{DEFAULT_AGENT, Outcome, SessionFilter, SessionPage, SessionRow, Totals};
pub use writer::{Store, StoreError};
