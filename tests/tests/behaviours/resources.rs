//! Limits of the container: memory and processes.

use tests::{Expect, Home, Look};

/// Holds more memory than it may.
const HOG: &str = "tail /dev/zero";

#[test]
fn an_agent_that_needs_too_much_memory_is_out_of_memory() {
    let Some(home) = Home::open() else { return };
    let run = home.command(&format!("exec {HOG}")).flags(["--memory", "64m"]).finish().expect(Expect::OUT_OF_MEMORY);
    assert!(run.detail().contains("--memory"), "{run:?}");
}

#[test]
fn a_child_that_needs_too_much_memory_is_a_warning() {
    let Some(home) = Home::open() else { return };
    let run = home.command(&format!("{HOG}; echo went on; sleep 1")).flags(["--memory", "64m"]).finish();
    let run = run.expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["went on"]);
    assert!(run.warnings().contains(&"out_of_memory"), "{run:?}");
}

#[test]
fn an_agent_that_needs_too_many_processes_has_exhausted_them() {
    let Some(home) = Home::open() else { return };
    let script = "for i in $(seq 100); do sleep 100 & done";
    let run = home.command(script).flags(["--pids", "32"]).finish().expect(Expect::PIDS_EXHAUSTED);
    assert!(run.detail().contains("--pids"), "{run:?}");
}

#[test]
fn an_old_shortage_is_not_to_blame_for_a_later_failure() {
    let Some(home) = Home::open() else { return };
    // What failed for want of memory and processes has been dealt with; the end is about something else.
    // Processes are wanted by another shell: one that cannot have them ends itself.
    let script = format!("{HOG}; sh -c 'for i in $(seq 100); do sleep 1 & done'; sleep 13; exit 3");
    let run = home.command(&script).flags(["--memory", "64m", "--pids", "32"]).finish().expect(Expect::AGENT_EXIT);
    assert!(run.warnings().contains(&"out_of_memory") && run.warnings().contains(&"pids_exhausted"), "{run:?}");
}

#[test]
fn memory_that_was_used_is_told() {
    let Some(home) = Home::open() else { return };
    let script = "head -c 50000000 /dev/zero | tail -c 50000000 | { sleep 1; wc -c; }";
    let run = home.command(script).finish().expect(Expect::FINISHED);
    let peak = run.ended().2.peak_memory_bytes.unwrap();
    assert!(peak > 40_000_000, "{peak}");
}

#[test]
fn an_agent_that_is_held_back_by_its_cpu_quota_is_told_so() {
    let Some(home) = Home::open() else { return };
    let busy = "end=$(($(date +%s) + 4)); while [ $(date +%s) -lt $end ]; do :; done";
    let run = home.command(busy).flags(["--cpus", "0.1"]).finish().expect(Expect::FINISHED);
    let throttled = run.ended().2.throttled.unwrap();
    assert!(throttled.own_ms > 500 && throttled.shared_ms == 0, "{throttled:?}");
    let idle = home.command("sleep 1").finish().expect(Expect::FINISHED);
    assert!(idle.ended().2.throttled.is_none_or(|throttled| throttled.own_ms < 500), "{idle:?}");
}
