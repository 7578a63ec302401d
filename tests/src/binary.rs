//! Finds the `aigo` that is tested.

use std::path::PathBuf;

/// Names another one than the one that was built beside the tests.
pub const VARIABLE: &str = "AIGO_BIN";

/// The program.
///
/// # Panics
/// If it is not there: tests of something else than what was built would be worthless.
pub fn aigo() -> PathBuf {
    if let Some(named) = std::env::var_os(VARIABLE) {
        let path = PathBuf::from(named);
        assert!(path.is_file(), "{VARIABLE} names {}, which is not there", path.display());
        return path;
    }
    // Test executables lie in `target/<profile>/deps`, programs one level above.
    let test = std::env::current_exe().expect("a running program has a path");
    let path = test.ancestors().nth(2).expect("cargo puts tests into target/<profile>/deps").join("aigo");
    assert!(
        path.is_file(),
        "there is no {}: run `make test`, which builds it, or name one in {VARIABLE}",
        path.display()
    );
    path
}
