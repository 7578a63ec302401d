//! What a person sees: style, safe text, the transcript, tables.

pub mod launch;
pub mod sanitize;
pub mod stored;
pub mod style;
pub mod summary;
pub mod transcript;

/// A time as people read it; JSON has all of its digits.
pub fn second(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}
