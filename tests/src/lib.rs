//! Behaviours of aigo against a real engine.
