//! A database that cannot be used is told in one sentence, with what to do about it.

use std::fs;
use std::process::Command;

use tests::{Home, Service};

/// What `aigo ps` says about the database.
fn said(home: &Home) -> String {
    // What an attempt before this one has left.
    for beside in ["aigo.db-wal", "aigo.db-shm"] {
        let _ = fs::remove_file(home.data().join(beside));
    }
    let said = home.aigo(["ps"]);
    assert_ne!(said.code, Some(0), "{said:?}");
    said.stderr
}

#[track_caller]
fn says_once(said: &str, words: &[&str]) {
    for word in words {
        assert_eq!(said.matches(word).count(), 1, "`{word}` once in: {said}");
    }
}

#[test]
fn a_database_that_cannot_be_used_is_named_once_with_the_remedy() {
    let home = Home::without_engine();
    assert!(Service::start(&home).stop().success());
    let path = home.data().join("aigo.db");
    // What was written last is in a file beside it, which would be read instead.
    let settle = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA journal_mode = DELETE').fetchall()";
    assert!(Command::new("python3").args(["-c", settle]).arg(&path).status().unwrap().success());
    let good = fs::read(&path).unwrap();

    fs::write(&path, "this is the shopping list of somebody. ".repeat(50)).unwrap();
    says_once(&said(&home), &["aigo.db", "is not a database", "move it away"]);

    let mut damaged = good.clone();
    damaged[100..].fill(0xa5);
    fs::write(&path, damaged).unwrap();
    says_once(&said(&home), &["is damaged", "restore it from a backup"]);

    // The version of the tables stands in the header, see https://sqlite.org/fileformat.html#user_version_number
    let mut newer = good.clone();
    newer[60..64].copy_from_slice(&999_u32.to_be_bytes());
    fs::write(&path, newer).unwrap();
    says_once(&said(&home), &["was written by a newer aigo", "update this one"]);

    fs::write(&path, good).unwrap();
    assert_eq!(home.aigo(["ps"]).code, Some(0));
}
