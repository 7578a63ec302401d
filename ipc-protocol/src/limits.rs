//! Every bound of the protocol, named once. Units are in the names or in the first sentence.

use std::time::Duration;

/// Largest message file in bytes. A larger one is dead-lettered unread.
pub const MAX_MESSAGE_BYTES: u64 = 1024 * 1024;

/// Largest text of one `message` input in bytes after joining its parts; a prompt beyond it is refused on the host.
pub const MAX_INPUT_TEXT_BYTES: usize = 8 * 1024 * 1024;

/// Largest encoded part of a long input in bytes: leaves room in [`MAX_MESSAGE_BYTES`] for the rest of the body.
pub const MAX_INPUT_PART_BYTES: usize = 900 * 1024;

/// Deepest nesting of JSON that is accepted (the default recursion limit of `serde_json`).
pub const MAX_JSON_DEPTH: usize = 128;

/// Deepest nesting of a JSON value that an event carries as it is; a deeper one travels as text. The rest of
/// [`MAX_JSON_DEPTH`] is for what is wrapped around it: the event itself, lists of events, whatever a reader adds.
pub const MAX_VALUE_DEPTH: usize = 96;

/// A journal segment is closed at the first line end at or beyond this many bytes.
pub const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Longest journal line in bytes; the host treats a longer one as an attack and stops reading that journal.
pub const MAX_LINE_BYTES: usize = 2 * 1024 * 1024;

/// Longest text value in an event in bytes; the rest is cut and the full length given.
pub const MAX_TEXT_BYTES: usize = 256 * 1024;

/// Longest short value (a name, an id of the agent's, a model, a step's detail) in bytes.
pub const MAX_SHORT_BYTES: usize = 4 * 1024;

/// Journal segments that may wait unread before the runner stops reading its agent (back-pressure).
pub const MAX_UNREAD_SEGMENTS: usize = 16;

/// Files in one container-written folder that the host looks at in one scan.
pub const MAX_SCAN_FILES: usize = 1024;

/// Container-written files that the host takes from one session in one second; the rest waits.
pub const MAX_FILES_PER_SECOND: u32 = 200;

/// Files in a session's dead-letter folder; beyond it the oldest are removed.
pub const MAX_DEAD_LETTERS: usize = 256;

/// Longest message id in characters.
pub const MAX_ID_CHARS: usize = 64;

/// How often the runner rewrites `status.json`.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long the host hears nothing of a runner, neither a heartbeat nor an event, before it calls the runner silent. Twelve
/// heartbeats: a machine that is busy to its limits delays some.
pub const SILENCE: Duration = Duration::from_secs(60);

/// The slow re-scan that backs up file events.
pub const RESCAN: Duration = Duration::from_secs(1);

/// The same once file events have proved to come, and nothing has changed for [`RESCAN`].
pub const CALM_RESCAN: Duration = Duration::from_secs(10);

/// Names in one container-written folder that the host looks at in one scan to find the earliest ones.
pub const MAX_LISTED_NAMES: usize = 65_536;

/// Message bytes held in memory from one scan; the rest waits for the next.
pub const MAX_SCAN_BYTES: usize = 8 * 1024 * 1024;

/// How long a message file may be incomplete: agents that do not write by rename get this much to finish.
pub const TORN_GRACE: Duration = Duration::from_secs(2);

/// Inputs that may wait in `input/` for a runner that does not take them; more are refused.
pub const MAX_PENDING_INPUTS: usize = 1024;

/// Long inputs that the runner joins at the same time.
pub const MAX_OPEN_JOINS: usize = 8;

/// Largest `status.json` in bytes.
pub const MAX_STATUS_BYTES: u64 = 64 * 1024;

/// Journal bytes that the host takes in one read (one line may be longer, up to [`MAX_LINE_BYTES`]).
pub const MAX_READ_BYTES: usize = 1024 * 1024;

/// Time between two looks where file events cannot be had.
pub const POLL: Duration = Duration::from_millis(50);
