//! Mailboxes: folders in which each file is one message, whose names sort in the order of writing.
//!
//! ```text
//!  writer ── temporary file, fsync, rename ──► <name>.json
//!                                                  │ scan: earliest names first, bounded in number, bytes and rate
//!          ┌───────────────────────────────────────┼──────────────────────────────┐
//!          ▼                                       ▼                              ▼
//!     Item (taken)                            incomplete JSON                  refused
//!          │ caller stores it, then           │ waits TORN_GRACE,               │ host: moved to the dead letters,
//!          ▼ calls remove                     ▼ then refused                    │       which no container sees
//!        gone                                                                   │ runner: left until the caller has
//!          │ cannot be unlinked                                                 │       reported it and calls remove
//!          ▼                                                                    ▼ cannot be moved
//!        stuck: one warning with the remedy, never looked at again  ◄───────────┘
//! ```
//!
//! A taken item is not handed out again until [`Inbox::put_back`], so a reader may take its time between the two steps.
//! After a crash everything that was not removed is handed out again: whoever stores it drops duplicates by id.

mod body;
mod dead_letter;
mod inbox;
mod outbox;
mod parts;
mod rate;
mod warning;

pub use body::{Body, decode, derived_id};
pub use dead_letter::DeadLetters;
pub use inbox::{Inbox, Item, RefusedItem, Scan, Unwanted};
pub use outbox::{Missing, Outbox, SendError, Sent};
pub use parts::{Dropped, Joined, Joiner, TooLong, split};
pub use rate::RateLimit;
pub use warning::Warning;
