"""From the request to `ready`, against `docker run` of the same image with the same flags to its first output."""

import datetime
import json
import statistics
import subprocess
import sys
import time

from place import IMAGE, Place, now
from table import row, show

# What aigo gives every container (supervisor/src/plan.rs), in the words of Docker's command line.
CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SYS_CHROOT"]
TARGET_MS = 50


def docker_run(place: Place, *more: str) -> list[str]:
    ipc, record = place.folder / "ipc", place.folder / "record"
    inner = ["input", "messages", "tasks", "replies"]
    for folder in [ipc, record, *(ipc / name for name in inner)]:
        folder.mkdir(exist_ok=True)
    flags = ["--cpus", "2", "--memory", "4g", "--memory-swap", "4g", "--memory-swappiness", "0", "--pids-limit", "1024",
             "--cap-drop", "ALL", *(f"--cap-add={name}" for name in CAPABILITIES), "--user", "0:0",
             "--workdir", "/workspace", "--hostname", "aigo", "--oom-score-adj", "500", "--log-driver", "local",
             "--log-opt", "max-size=10m", "--log-opt", "max-file=2", "--add-host", "host-gateway:host-gateway",
             "--mount", f"type=bind,src={place.project},dst=/workspace",
             "--mount", f"type=bind,src={record},dst=/run/aigo/private/record",
             "--mount", f"type=bind,src={ipc},dst=/run/aigo/ipc",
             *(f"--mount=type=bind,src={ipc / name},dst=/run/aigo/ipc/{name}" for name in inner),
             "--mount", f"type=bind,src={ipc},dst=/workspace/ipc",
             "--env", "ANTHROPIC_API_KEY=x", "--env", "ANTHROPIC_BASE_URL=http://host-gateway:3001"]
    return ["docker", "run", "--rm", *flags, *more, "--entrypoint", "aigo-runner", IMAGE, "--version"]


def first_output(command: list[str]) -> float:
    """Milliseconds to the first byte of a command's output; returns when it has ended."""
    started = now()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        if not process.stdout.read(1):
            raise RuntimeError(f"no output from {command}")
        taken = now() - started
    return taken


def with_network(place: Place, index: int) -> float:
    name = f"aigo-bench-{index}"
    started = now()
    subprocess.run(["docker", "network", "create", "--opt", "com.docker.network.bridge.enable_icc=false", name],
                   stdout=subprocess.DEVNULL, check=True)
    try:
        created = now() - started
        return created + first_output(docker_run(place, "--network", name))
    finally:
        subprocess.run(["docker", "network", "rm", name], stdout=subprocess.DEVNULL, check=True)


def journal(place: Place, session) -> dict[str, float]:
    """When the runner itself wrote its first words, in milliseconds of the wall clock."""
    times = {}
    for segment in sorted((place.data / "sessions" / session.id / "record" / "events").glob("*.jsonl")):
        for line in segment.read_text().splitlines():
            event = json.loads(line)
            times.setdefault(event["kind"], event["at"])
    return times


def aigo_run(place: Place) -> tuple[float, dict[str, float]]:
    """Milliseconds to `ready` as a reader sees it, and when each step was done, from the same start."""
    session = place.session("sleep", "0.2")
    steps = {}
    while True:
        seen, event = session.event()
        stored = datetime.datetime.fromisoformat(event["at"][:26].rstrip("Z") + "+00:00").timestamp()
        steps.setdefault(event.get("step") or event["kind"], (stored - session.asked_at) * 1e3)
        if event["kind"] == "ready":
            break
    wrote = journal(place, session)
    steps["runner's first line"] = wrote["runner_started"] - session.asked_at * 1e3
    steps["runner writes ready"] = wrote["ready"] - session.asked_at * 1e3
    session.end()
    return seen - session.asked, steps


def breakdown(all_steps: list[dict[str, float]]) -> None:
    """Where the time goes: each step against the one before it, medians of the same runs."""
    order = ["status", "network", "proxy", "container", "start", "ready"]
    words = {"status": "process start, store, engine's version, policy → first event", "network": "create the network",
             "proxy": "start the proxy", "container": "create the container", "start": "the engine starts the container",
             "ready": "the engine's answer → `ready` is stored"}
    print("\nwhere the launch's time goes (medians, ms):")
    before = None
    for step in order:
        durations = [steps[step] - (steps[before] if before else 0) for steps in all_steps]
        print(f"  {show(statistics.median(durations)):>6}  {words[step]}")
        before = step
    for name, since in [("runner's first line", "container"), ("runner writes ready", "runner's first line"), ("start", "runner writes ready")]:
        # The journal counts in whole milliseconds.
        durations = [steps[name] - steps[since] for steps in all_steps]
        word = "the engine answers the start" if name == "start" else name
        print(f"  {statistics.median(durations):>6.0f}  from `{since}` to: {word}")


def measure(place: Place) -> list[str]:
    ready, started, alone, networked, steps = [], [], [], [], []
    for index in range(place.runs(40, 4)):
        print(f"  launch {index}", file=sys.stderr, flush=True)
        seen, times = aigo_run(place)
        ready.append(seen)
        started.append(seen - times["status"])
        steps.append(times)
        alone.append(first_output(docker_run(place)))
        networked.append(with_network(place, index))
        # What the engine still tidies up should not weigh on the next round.
        time.sleep(0.2)
    breakdown(steps)
    over = statistics.median(ready) - statistics.median(alone)
    return [
        row("launch: exec of `aigo run` → `ready` read, against `docker run` on the default bridge → first output", ready,
            "ms", baseline=alone, target="≤ +50 ms", met=over <= TARGET_MS),
        row("launch: the same, against `docker network create` + `docker run` on that network", ready, "ms",
            baseline=networked),
        row("launch: first event in the process → `ready` read, against `docker run` on the default bridge", started, "ms",
            baseline=alone, target="≤ +50 ms",
            met=statistics.median(started) - statistics.median(alone) <= TARGET_MS),
    ]
