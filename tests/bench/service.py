"""The service with fifty sessions: its memory, its processor time, what they use, the way of an event, and the next service
after a SIGKILL."""

import json
import statistics
import sys
import time

from daemon import Daemon, cpu_seconds
from place import DEADLINE, Place, capture, memory, now
from table import row

FIFTY = 50
# Silent until told to talk: so many lines, with a pause of seconds after each.
AGENT = ("while read -r lines pause; do while [ $lines -gt 0 ]; do lines=$((lines - 1)); echo line; sleep $pause; done; done")
PAUSE = 0.25
# How long they talk around a kill, and how long there is no service then, in seconds.
TALK, AWAY = 8, 1
# Between two lines of the one whose lines are timed.
STAMPS = 0.03
# After launches: a session in which nothing has happened for five seconds is looked at less often.
QUIET = 8
# Between calls whose time is taken, so that each is alone.
LONE = 0.1


def fifty(daemon: Daemon) -> list[str]:
    sessions = [daemon.create("sh", "-c", AGENT, keep=True) for _ in range(FIFTY)]
    with daemon.watch(dict.fromkeys(sessions, 0)) as watch:
        watch.each(b"event: ready", patience=2 * DEADLINE)
    time.sleep(QUIET)
    return sessions


def idle_cpu(daemon: Daemon, seconds: float) -> float:
    """Processor time of the service while nobody asks it for anything, in percent of one CPU."""
    used, begun = cpu_seconds(daemon.pid), now()
    time.sleep(seconds)
    return (cpu_seconds(daemon.pid) - used) / (now() - begun) * 1e5


def usage(daemon: Daemon, place: Place) -> list[str]:
    """The service reads the counters at most once a second, and answers from what it has read meanwhile: which calls had them
    read is told by figures that are others than in the call before."""
    if "bySession" not in daemon.ask("GET", "/metrics"):
        # An older one, measured to compare.
        print("  not measured: this aigo does not tell what each session uses", file=sys.stderr, flush=True)
        return []
    lone, read, dockers, before = [], [], [], None
    containers = capture("docker", "ps", "--quiet", "--filter", "label=aigo.instance").splitlines()
    for index in range(place.runs(400, 40)):
        time.sleep(LONE)
        asked = now()
        figures = daemon.ask("GET", "/metrics")
        lone.append(now() - asked)
        if len(figures["bySession"]) != FIFTY:
            raise RuntimeError(f"the figures of {len(figures['bySession'])} sessions instead of {FIFTY}")
        if before not in (None, figures["bySession"]):
            read.append(lone[-1])
        before = figures["bySession"]
        if index % 40 == 0:
            asked = now()
            told = capture("docker", "stats", "--no-stream", "--format", "{{.ID}}", *containers)
            dockers.append(now() - asked)
            if len(told.splitlines()) != FIFTY:
                raise RuntimeError(f"docker stats tells of {told.splitlines()}")
            before = None
    return [
        row(f"service: CPU and memory of {FIFTY} containers read for `GET /metrics`, against `docker stats --no-stream`", read,
            "ms", baseline=dockers, target="≤ 10 ms", met=statistics.median(read) <= 10),
        row("service: all such calls, most of them within a second of the one before", lone, "ms", baseline=dockers),
    ]


def events(daemon: Daemon, place: Place) -> list[str]:
    """The agent answers each message with the time at which it read it, just before it prints that."""
    count = place.runs(500, 20)
    session = daemon.create("python3", "-u", "/workspace/agent.py", keep=True)
    with daemon.watch({session: 0}) as watch:
        watch.each(b"event: ready")
    taken = []
    with daemon.watch({session: daemon.last_events()[session]}) as watch:
        daemon.ask("POST", f"/sessions/{session}/messages", {"text": "m"})
        for _, seen, line in watch.lines(b"data: "):
            event = json.loads(line)
            if event["kind"] != "text":
                continue
            taken.append(seen - int(event["text"].split()[1]) / 1e6)
            if len(taken) == count:
                break
            time.sleep(STAMPS)
            daemon.ask("POST", f"/sessions/{session}/messages", {"text": "m"})
    daemon.ask("POST", f"/sessions/{session}/cancel")
    return [row(f"service: the agent prints a line → the reader of its `/events` has it, beside {FIFTY} sessions", taken,
                "ms", target="≤ 10 ms p50", met=statistics.median(taken) <= 10)]


def adoption(daemon: Daemon, place: Place, sessions: list[str]) -> list[str]:
    taken = []
    for index in range(place.runs(10, 2)):
        print(f"  kill -9: {index}", file=sys.stderr, flush=True)
        for session in sessions:
            daemon.ask("POST", f"/sessions/{session}/messages", {"text": f"{int(TALK / PAUSE)} {PAUSE}"})
        time.sleep(AWAY)
        daemon.kill()
        told = daemon.last_events()
        if sorted(told) != sorted(sessions):
            raise RuntimeError(f"{len(told)} sessions live instead of {len(sessions)}")
        time.sleep(AWAY)
        begun = daemon.start()
        daemon.wait()
        with daemon.watch(told) as watch:
            taken.append(watch.each(b"event: text") - begun)
        # They say the rest: the next round begins in silence.
        time.sleep(TALK)
    return [row(f"service: exec after `kill -9` → an event after it of each of {FIFTY} running sessions read", taken, "ms",
                target="≤ 1000 ms", met=max(taken) <= 1000)]


def measure(place: Place) -> list[str]:
    with Daemon(place, "service", limits_max_sessions=FIFTY + 1) as daemon:
        sessions = fifty(daemon)
        cpu = idle_cpu(daemon, place.runs(30, 5))
        rss, peak = memory(daemon.pid)
        return [
            row(f"service: RSS with {FIFTY} sessions", [rss], "MiB", target="≤ 30 MiB", met=rss <= 30),
            row("service: largest RSS (VmHWM) until then, their launch included", [peak], "MiB"),
            row(f"service: processor time with {FIFTY} silent sessions", [cpu], "% of a CPU", target="≈ 0: ≤ 1 %",
                met=cpu <= 1),
            *usage(daemon, place), *events(daemon, place), *adoption(daemon, place, sessions),
        ]
