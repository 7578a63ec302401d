//! The journal: every event of a session, one JSON object a line, in segments `events/<8 digits>.jsonl`.
//!
//! ```text
//!   runner (Writer)                                    host (Reader)
//!   append ── one write(2) ──► 00000001.jsonl ──────►  cursor {segment, offset, seq}
//!     │ at or beyond the size, at a line end           │ complete lines only; a torn tail waits
//!     ▼                                                ▼ events and cursor stored in one transaction
//!   next segment ────────────► 00000002.jsonl          prune: segments before the cursor's are removed
//!     │
//!     ▼ MAX_UNREAD_SEGMENTS are there: the runner stops reading its agent (back-pressure)
//! ```
//!
//! The cursor moves to the next segment only with an event read there. So the last complete line of the journal is
//! never removed, and a restarted writer always finds the number to go on from.
//!
//! There is no fsync(2) per event: it would cost a disk's latency for each line of a stream, and would only matter
//! when the machine dies, which the container does not outlive either. What was written survives the death of the
//! runner, which is what the journal is for.

mod reader;
mod recover;
mod segment;
mod writer;

pub use reader::{Batch, Cursor, Fault, Reader};
pub use recover::{OpenError, Recovered};
pub use segment::Segment;
pub use writer::{AppendError, Writer};
