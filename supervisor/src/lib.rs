//! The host side of aigo.
pub mod engine;
