//! The host side of aigo.
