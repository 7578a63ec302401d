//! Repositories as people have them, each with what makes it hard: submodules, worktrees, large files behind a filter, a
//! virtual environment, `node_modules` with 50,000 files, 200,000 files in one tree, CRLF, names that differ only in case,
//! names that are not UTF-8, a folder `ipc` of its own.
//!
//! ```text
//!             build (once, in a container of the image)
//! workspace ───────────────────────────────────────────► workspace ── cp -a ──► reference
//!     │                                                                             │
//!     │ the script, in a session of aigo                the script, in a container of the same image without aigo
//!     ▼                                                                             ▼
//! transcript, tree, git's own words, summary   ===========   transcript, tree, git's own words, computed difference
//! ```
//!
//! The script is the agent: it edits, commits, stashes, cleans, rebases, runs tests and replaces words in all files, as agents
//! do by their Bash tool. All that it depends on is fixed: git's version (the image's), names and dates of commits, the user
//! id. Everything must then be exactly equal: exit code and output of each command, commit ids, index, stashes, and each file.
//!
//! Large files use a filter of git that the repository brings along as two shell scripts, since git-lfs is not in the image.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test fails; the lint knows only of functions marked as tests"
)]

mod agent;
mod comparison;
mod large;
mod names;
mod nested;
mod summary;
mod tools;
mod tree;
