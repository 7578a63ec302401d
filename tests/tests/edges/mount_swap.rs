//! The folder that was judged is the one that the agent gets, also when somebody swaps it at any moment.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use supervisor::session::status::EndReason;
use tests::{Home, Look};

/// Each half of the attempts.
const ATTEMPTS: usize = 100;

/// A project, and a folder that the agent must never see in its place.
struct Bait {
    project: PathBuf,
    real: PathBuf,
    secret: PathBuf,
}

impl Bait {
    fn new(home: &Home) -> Self {
        let place = |name: &str| home.root().join("people").join(name);
        let bait = Self { project: place("project"), real: place("real"), secret: place("victim/.ssh") };
        fs::create_dir_all(&bait.secret).unwrap();
        fs::write(bait.secret.join("key"), "SECRET").unwrap();
        fs::create_dir(&bait.project).unwrap();
        fs::write(bait.project.join("marker"), "PROJECT").unwrap();
        bait
    }

    /// Puts a link to the secret in the place of the project.
    fn swap(&self) {
        fs::rename(&self.project, &self.real).unwrap();
        symlink(&self.secret, &self.project).unwrap();
    }

    fn swap_back(&self) {
        fs::remove_file(&self.project).unwrap();
        fs::rename(&self.real, &self.project).unwrap();
    }
}

/// How a session during swaps ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Its agent ran, on the project.
    Ran,
    /// Another folder was found before its agent started.
    Found,
    /// It was refused, or the engine did not find the folder.
    Refused,
}

/// One session during swaps.
fn attempt(home: &Home, bait: &Bait) -> Outcome {
    let script = "cat marker key 2>/dev/null; echo end";
    let run = home.command(script).workspace(&bait.project).finish();
    let said = format!("{run:?}");
    assert!(!said.contains("SECRET"), "the agent saw another folder: {said}");
    if run.code() == Some(0) {
        assert_eq!(run.texts().concat(), "PROJECTend", "{said}");
        return Outcome::Ran;
    }
    // What is refused before it starts has no end.
    if run.events.is_empty() {
        return Outcome::Refused;
    }
    match &run.ended().1.reason {
        EndReason::SetupFailed { step } if step == "workspace" => Outcome::Found,
        // The engine may not find the folder while it is being swapped.
        EndReason::EngineError => Outcome::Refused,
        _ => panic!("an end for another reason: {said}"),
    }
}

fn count(outcomes: &[Outcome], wanted: Outcome) -> usize {
    outcomes.iter().filter(|outcome| **outcome == wanted).count()
}

fn assert_left_as_found(home: &Home, bait: &Bait) {
    let names = |folder: &Path| {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&bait.secret), ["key"], "something of ours is left in the other folder");
    assert_eq!(names(&bait.project), ["marker"], "something of ours is left in the project");
    assert_eq!(home.leftovers(), [""; 0]);
}

/// The engine's events about containers, as its own client prints them.
fn engine_events() -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new("docker")
        .args(["events", "--filter", "type=container", "--format", "{{.Action}}"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

#[test]
fn a_swap_that_is_timed_by_the_engines_events_gets_nothing_through() {
    let Some(home) = Home::open() else { return };
    let bait = Arc::new(Bait::new(&home));
    let (mut events, mut lines) = engine_events();
    let armed = Arc::new(AtomicBool::new(false));
    let swaps = Arc::new(AtomicUsize::new(0));
    let swapper = std::thread::spawn({
        let (bait, armed, swaps) = (Arc::clone(&bait), Arc::clone(&armed), Arc::clone(&swaps));
        move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
                // Judged before it was made, mounted when it starts. Other tests' containers come by, too: the more the better.
                if line.trim() == "create" && armed.swap(false, Ordering::SeqCst) {
                    bait.swap();
                    std::thread::sleep(Duration::from_millis(400));
                    bait.swap_back();
                    swaps.fetch_add(1, Ordering::SeqCst);
                }
                line.clear();
            }
        }
    });
    let mut outcomes = Vec::new();
    for _ in 0..ATTEMPTS {
        armed.store(true, Ordering::SeqCst);
        outcomes.push(attempt(&home, &bait));
        armed.store(false, Ordering::SeqCst);
        // A swap that came late is over.
        tests::host::wait_until("the project to be back", || bait.project.join("marker").exists().then_some(()));
    }
    events.kill().unwrap();
    events.wait().unwrap();
    swapper.join().unwrap();
    assert!(swaps.load(Ordering::SeqCst) > ATTEMPTS / 2, "too few swaps: {swaps:?}");
    let found = count(&outcomes, Outcome::Found);
    println!("{found} of {ATTEMPTS} sessions found another folder at their start");
    assert!(found > 0, "no swap fell between the judgement and the mount: {outcomes:?}");
    assert_left_as_found(&home, &bait);
}

#[test]
fn a_swap_at_any_moment_gets_nothing_through() {
    let Some(home) = Home::open() else { return };
    let bait = Arc::new(Bait::new(&home));
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let (bait, stop) = (Arc::clone(&bait), Arc::clone(&stop));
        move || {
            let mut pause = 1;
            while !stop.load(Ordering::SeqCst) {
                // Other moments each time: 1 to 97 milliseconds, without a common divisor with anything of ours.
                pause = (pause * 31 + 17) % 97;
                std::thread::sleep(Duration::from_millis(pause + 1));
                bait.swap();
                std::thread::sleep(Duration::from_millis(96 - pause));
                bait.swap_back();
            }
        }
    });
    let outcomes: Vec<Outcome> = (0..ATTEMPTS).map(|_| attempt(&home, &bait)).collect();
    stop.store(true, Ordering::SeqCst);
    swapper.join().unwrap();
    let [ran, found] = [Outcome::Ran, Outcome::Found].map(|outcome| count(&outcomes, outcome));
    println!("{ran} of {ATTEMPTS} sessions ran on the project, {found} found another folder at their start");
    assert_left_as_found(&home, &bait);
}
