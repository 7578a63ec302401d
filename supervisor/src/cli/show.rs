//! What a person sees: style, safe text, the transcript, tables.

pub mod launch;
pub mod sanitize;
pub mod stored;
pub mod style;
pub mod summary;
pub mod transcript;
