//! The build context as a tar archive in memory. The same files give the same bytes, whoever builds and when, so that the
//! builder's cache holds.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use tar::{Builder, EntryType, Header};

use super::embedded;

const FILE_MODE: u32 = 0o644;
const EXECUTABLE_MODE: u32 = 0o755;

/// Files by path.
#[derive(Debug, Clone, Default)]
pub struct Context {
    files: BTreeMap<String, (u32, Cow<'static, [u8]>)>,
}

impl Context {
    /// What the binary carries and the recipe needs: all but the scripts that run on the host.
    #[must_use]
    pub fn embedded() -> Self {
        let mut context = Self::default();
        for file in embedded::files().iter().filter(|file| !file.path.starts_with("image/setup/")) {
            let mode = if file.executable { EXECUTABLE_MODE } else { FILE_MODE };
            context.files.insert(file.path.to_owned(), (mode, Cow::Borrowed(file.bytes)));
        }
        context
    }

    /// Adds or replaces a plain file.
    pub fn put(&mut self, path: impl Into<String>, bytes: Vec<u8>) {
        self.files.insert(path.into(), (FILE_MODE, Cow::Owned(bytes)));
    }

    /// Adds or replaces a program.
    pub fn put_program(&mut self, path: impl Into<String>, bytes: Vec<u8>) {
        self.files.insert(path.into(), (EXECUTABLE_MODE, Cow::Owned(bytes)));
    }

    /// Whether there is a file of this path, or one below it.
    #[must_use]
    pub fn holds(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.files.keys().any(|file| file == path || file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }

    /// The archive: sorted, owned by root, of the epoch's time.
    ///
    /// # Errors
    /// A path that tar cannot hold.
    pub fn tar(&self) -> io::Result<Bytes> {
        let mut archive = Builder::new(Vec::new());
        let mut folders = BTreeSet::new();
        for (path, (mode, bytes)) in &self.files {
            for (end, _) in path.match_indices('/') {
                if folders.insert(&path[..end]) {
                    let mut header = header(EntryType::Directory, EXECUTABLE_MODE, 0);
                    archive.append_data(&mut header, format!("{}/", &path[..end]), io::empty())?;
                }
            }
            let mut header = header(EntryType::Regular, *mode, bytes.len() as u64);
            archive.append_data(&mut header, path, &bytes[..])?;
        }
        archive.into_inner().map(Bytes::from)
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::recipe::Recipe;

    fn entries(bytes: &[u8]) -> Vec<(String, u32, u64, Vec<u8>)> {
        let mut archive = tar::Archive::new(bytes);
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let header = entry.header();
                let (mode, time) = (header.mode().unwrap(), header.mtime().unwrap());
                let path = entry.path().unwrap().display().to_string();
                let mut bytes = Vec::new();
                io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
                (path, mode, time, bytes)
            })
            .collect()
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let mut one = Context::default();
        one.put("b/c", b"2".to_vec());
        one.put_program("a", b"1".to_vec());
        let mut other = Context::default();
        other.put_program("a", b"1".to_vec());
        other.put("b/c", b"2".to_vec());
        assert_eq!(one.tar().unwrap(), other.tar().unwrap());
        let names: Vec<_> =
            entries(&one.tar().unwrap()).into_iter().map(|(path, mode, time, _)| (path, mode, time)).collect();
        assert_eq!(names, [("a".into(), 0o755, 0), ("b/".into(), 0o755, 0), ("b/c".into(), 0o644, 0)]);
    }

    #[test]
    fn everything_that_the_recipe_copies_is_there() {
        let context = Context::embedded();
        let recipe = Recipe::parse(embedded::recipe());
        let sources: Vec<&str> = recipe.copied().collect();
        assert!(sources.len() > 10, "{sources:?}");
        for source in sources {
            assert!(context.holds(source), "{source} is copied by the recipe and not in the context");
        }
    }

    #[test]
    fn only_what_is_needed_is_there() {
        let bytes = Context::embedded().tar().unwrap();
        let entries = entries(&bytes);
        assert!(bytes.len() < 4 << 20, "{} bytes", bytes.len());
        for (path, mode, time, _) in &entries {
            assert!(!path.contains("/tests/") || path == "tests/", "{path}");
            assert!(!path.contains("fuzz") && !path.contains("setup"), "{path}");
            assert_eq!(*time, 0);
            assert!([0o644, 0o755].contains(mode));
        }
        let (_, mode, _, _) = entries.iter().find(|(path, ..)| path == "image/build/trust.sh").unwrap();
        assert_eq!(*mode, 0o755);
    }

    #[test]
    fn targets_that_the_manifests_name_are_there() {
        for package in ["ipc-protocol", "runner"] {
            let manifest = embedded::bytes(&format!("{package}/Cargo.toml")).unwrap();
            let manifest = std::str::from_utf8(manifest).unwrap();
            for path in manifest.split('"').filter(|word| word.ends_with(".rs")) {
                assert!(Context::embedded().holds(&format!("{package}/{path}")), "{package}/{path}");
            }
        }
    }
}
