"""The runner: its size, the memory of its two processes, and the time to its first words."""

import ctypes
import json
import os
import pathlib
import shutil
import statistics

from place import Place, memory, now
from table import row

IN_MODIFY = 0x2
LIBC = ctypes.CDLL(None, use_errno=True)


def sizes(place: Place) -> list[str]:
    size = os.stat(place.runner).st_size / (1 << 20)
    session = place.session("sleep", "infinity")
    session.until("ready")
    first = session.container_pid()
    # The worker is the runner once more; the agent is the worker's child.
    worker, = pathlib.Path(f"/proc/{first}/task/{first}/children").read_text().split()
    (init, init_peak), (work, work_peak) = memory(first), memory(worker)
    shared = sum(proportional(pid) for pid in (first, worker))
    rss, peak = memory(session.process.pid)
    session.cancel()
    both = init + work
    return [
        row("runner: size on disk", [size], "MiB", target="≤ 3 MiB", met=size <= 3),
        row("runner: RSS of PID 1 (VmHWM)", [init_peak], "MiB", target="≤ 3 MiB", met=init_peak <= 3),
        row("runner: RSS of its worker (VmHWM)", [work_peak], "MiB", target="≤ 3 MiB", met=work_peak <= 3),
        row("runner: both added up, pages of the one binary counted twice", [both], "MiB", target="≤ 3 MiB",
            met=both <= 3),
        row("runner: both, shared pages counted once (PSS)", [shared], "MiB"),
        row("`aigo` RSS in a session that has just begun", [rss], "MiB", target="≤ 25 MiB", met=rss <= 25),
        row("`aigo` largest RSS (VmHWM) until then", [peak], "MiB", target="≤ 25 MiB", met=peak <= 25),
    ]


def proportional(pid: int | str) -> float:
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def first_words(place: Place) -> float:
    """Milliseconds from execve(2) to the first write to the journal, outside of a container."""
    folder = place.folder / "runner"
    for name in ("workspace", "etc", "ipc/input", "ipc/messages", "ipc/tasks", "ipc/replies", "record/events"):
        (folder / name).mkdir(parents=True)
    layout = {name: str(folder / name) for name in ("workspace", "ipc", "record", "home", "etc")}
    config = {"version": 2, "session": "bench", "agent": {"adapter": "command", "argv": ["true"]},
              "identity": {"uid": 0, "gid": 0}, "termGraceMs": 300, "layout": layout}
    watch = LIBC.inotify_init()
    LIBC.inotify_add_watch(watch, str(folder / "record" / "events").encode(), IN_MODIFY)
    env = {"AIGO_RUNNER_CONFIG": json.dumps(config), "PATH": os.environ["PATH"]}
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        os.write(writes, repr(now()).encode())
        os.execve(place.runner, ["aigo-runner"], env)
    os.read(watch, 4096)
    seen = now()
    began = float(os.read(reads, 64))
    os.waitpid(child, 0)
    for descriptor in (watch, reads, writes):
        os.close(descriptor)
    shutil.rmtree(folder)
    return seen - began


def measure(place: Place) -> list[str]:
    taken = [first_words(place) for _ in range(place.runs(300, 20))]
    words = row("runner: exec → first line of its journal (on the host)", taken, "ms", target="≤ 5 ms",
                met=statistics.median(taken) <= 5)
    rows = sizes(place)
    return [rows[0], words, *rows[1:]]
