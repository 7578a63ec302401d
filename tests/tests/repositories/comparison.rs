//! The comparison: the same script on the same repository, with aigo and without.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::unistd::Uid;
use serde_json::Value;
use tests::{Expect, Home, Look, engine};

use crate::agent::{Recipe, STEP};
use crate::summary::Stamps;
use crate::tree::Tree;

/// The owner of the repositories where the tests run as root; the image's user has this id, too.
const OWNER: u32 = 1000;
/// Longest life of a container without aigo, in seconds.
const LONGEST: &str = "170";
/// The line by which `git status --ignored` alone names the mailbox: git's excludes hide it from everything else.
const IGNORED_MAILBOX: &str = "! ipc/";

/// What each container without aigo has from the runner otherwise.
const AGENT: [&str; 6] = ["--env", "HOME=/home/agent", "--env", "USER=agent", "--env", "LOGNAME=agent"];

/// Makes the repository, runs the agent in it with aigo and without, and compares everything; `look` sees the workspace
/// afterwards.
pub(crate) fn compare(recipe: &Recipe, look: impl Fn(&Path)) {
    compare_filled(recipe, |_| (), look);
}

/// The same with files that are there before the first script of the recipe.
pub(crate) fn compare_filled(recipe: &Recipe, fill: impl Fn(&Path), look: impl Fn(&Path)) {
    let Some(home) = Home::open() else { return };
    let home = recipe.owns.iter().fold(home, |home, name| home.keeping(name));
    let (workspace, reference) = (home.workspace(), home.root().join("reference"));

    fill(&workspace);
    if Uid::current().is_root() {
        home.give_workspace_to(OWNER);
    }
    let built = without_aigo(&workspace, &recipe.build_script());
    assert_eq!(built, "", "the script that makes the repository has nothing to say");
    let copied = Command::new("cp").arg("-a").args([&workspace, &reference]).status().unwrap();
    assert!(copied.success(), "cp -a of the repository: {copied}");

    let before = Stamps::of(&reference);
    let script = recipe.work_script();
    let wanted = without_aigo(&reference, &script);
    let after = Stamps::of(&reference);

    let run = home.command(&script).finish().expect(Expect::FINISHED);
    let said: Vec<&str> = run.texts().into_iter().filter(|line| *line != IGNORED_MAILBOX).collect();
    same_transcript(&said, &wanted);
    let wanted = Tree::of(&reference);
    assert!(wanted.len() > 0, "the reference is empty");
    let differences = Tree::of(&workspace).differences(&wanted);
    assert!(
        differences.is_empty(),
        "the folder differs from what the same commands make without aigo: {differences:#?}"
    );
    assert_eq!(home.leftovers(), [""; 0]);
    for command in
        [&["status", "--porcelain=v2", "--ignored", "--branch"][..], &["ls-files", "--stage"], &["stash", "list"]]
    {
        assert!(git(&workspace, command) == git(&reference, command), "git {command:?} on this host differs");
    }
    before.expect(&after, &summary(&home));
    look(&workspace);
}

/// Runs a script in a container of the image with the folder as workspace, as the folder's owner and without aigo: what it
/// printed.
fn without_aigo(folder: &Path, script: &str) -> String {
    let owner = fs::metadata(folder).unwrap();
    let user = format!("{}:{}", owner.uid(), owner.gid());
    let mount = format!("type=bind,source={},target=/workspace", folder.display());
    let output = Command::new("docker")
        .args(["run", "--rm", "--network", "none", "--hostname", "aigo", "--workdir", "/workspace", "--user", &user])
        .args(AGENT)
        .args(["--mount", &mount, "--entrypoint", "timeout", &engine::image(), LONGEST, "sh", "-c", script])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let Output { status, stdout, stderr } = output;
    assert!(status.success(), "the script without aigo: {status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).into_owned()
}

/// Compares each command with its output and exit code.
fn same_transcript(said: &[&str], wanted: &str) {
    let wanted: Vec<&str> = wanted.trim_end_matches('\n').split('\n').collect();
    if said == wanted {
        return;
    }
    let at = said.iter().zip(&wanted).take_while(|(said, wanted)| said == wanted).count();
    let from = said[..at].iter().rposition(|line| line.starts_with(STEP)).unwrap_or(0);
    let part = |lines: &[&str]| lines[from..(at + 12).min(lines.len())].join("\n");
    panic!(
        "a command does something else than without aigo; with aigo:\n{}\n\nwithout:\n{}",
        part(said),
        part(&wanted)
    );
}

/// The summary of the only session, as `aigo show --json` gives it.
fn summary(home: &Home) -> Value {
    let json = |arguments: &[&str]| -> Value {
        let said = home.aigo(arguments);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        serde_json::from_str(&said.stdout).unwrap()
    };
    let listed = json(&["ps", "--all", "--json"]);
    json(&["show", "--json", listed[0]["id"].as_str().unwrap()])["summary"].clone()
}

/// What this host's git says of the repository, with nobody's configuration.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["--no-optional-locks", "-c", "safe.directory=*", "-C"])
        .arg(folder)
        .args(arguments)
        .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1"), ("LC_ALL", "C")])
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
