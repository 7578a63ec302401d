//! Collects what `aigo image build` needs into the binary, so that it works without a source tree: the recipe, the files
//! that it copies, and the sources of the runner. The list is sorted and nothing of the builder's machine is in it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Files and folders of the repository, relative to its root. A test holds them against the recipe's COPY lines.
const ROOTS: [&str; 16] = [
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "image/build",
    "image/ca/README.md",
    "image/npm/package-lock.json",
    "image/npm/package.json",
    "image/prebuilt/README.md",
    "image/python",
    "image/setup",
    "ipc-protocol/Cargo.toml",
    "ipc-protocol/src",
    "runner/Cargo.toml",
    "runner/src",
    "supervisor/Cargo.toml",
    "tests/Cargo.toml",
];

fn main() -> io::Result<()> {
    let missing = |name: &str| io::Error::other(format!("cargo did not set {name}"));
    let package = std::env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| missing("CARGO_MANIFEST_DIR"))?;
    let out = std::env::var_os("OUT_DIR").ok_or_else(|| missing("OUT_DIR"))?;
    let root = Path::new(&package).parent().ok_or_else(|| io::Error::other("the package has no parent folder"))?;

    let mut files = Vec::new();
    for name in ROOTS {
        println!("cargo::rerun-if-changed={}", root.join(name).display());
        collect(&root.join(name), &mut files)?;
    }
    files.sort();

    let mut list = String::from("pub(super) static FILES: &[File] = &[\n");
    for file in &files {
        let name = file.strip_prefix(root).map_err(io::Error::other)?;
        let executable = fs::metadata(file)?.permissions().mode() & 0o100 != 0;
        // Writing to a String cannot fail.
        let _ = writeln!(
            list,
            "    File {{ path: {:?}, executable: {executable}, bytes: include_bytes!({:?}) }},",
            name.display().to_string(),
            file.display().to_string()
        );
    }
    list.push_str("];\n");
    fs::write(Path::new(&out).join("embedded.rs"), list)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let about = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if fs::metadata(path).map_err(about)?.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(about)? {
        let entry = entry?;
        let name = entry.file_name();
        // Editors leave hidden files and copies that end in a tilde.
        let name = name.to_string_lossy();
        if !name.starts_with('.') && !name.ends_with('~') {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}
