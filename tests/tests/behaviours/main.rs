//! Behaviours of aigo as a whole, on a real engine. What each one shows is its name.

mod endings;
