//! The files that `build.rs` put into the binary.

/// A file of the repository.
#[derive(Debug)]
pub struct File {
    /// Relative to the repository's root, with `/`.
    pub path: &'static str,
    pub executable: bool,
    pub bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// All files, sorted by path.
#[must_use]
pub fn files() -> &'static [File] {
    FILES
}

/// One file's bytes; `None` if it is not embedded.
#[must_use]
pub fn bytes(path: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|file| file.path == path).map(|file| file.bytes)
}

/// The recipe.
#[must_use]
pub fn recipe() -> &'static str {
    bytes("Dockerfile").and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}
