"""Twenty launches at once, against twenty `docker run` of the same image at once."""

import statistics
import subprocess
import sys
import threading
import time

import launch
from daemon import Daemon
from place import Place, now
from table import row

TWENTY = 20


def all_at_once(work, count: int) -> None:
    """Runs work(index) on as many threads; the first error is raised."""
    failed = []

    def one(index: int) -> None:
        try:
            work(index)
        except Exception as error:  # noqa: BLE001, told below
            failed.append(error)

    threads = [threading.Thread(target=one, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def docker(command: list[str]) -> float:
    """Milliseconds until each of twenty commands has given its first byte; returns when all have ended."""
    begun = now()
    processes = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) for _ in range(TWENTY)]
    silent = [process for process in processes if not process.stdout.read(1)]
    taken = now() - begun
    for process in processes:
        process.stdout.close()
        process.wait()
    if silent:
        raise RuntimeError(f"{len(silent)} of {command} gave no output")
    return taken


def docker_networks(place: Place) -> float:
    """The same with a network for each."""
    seen = [0.0] * TWENTY
    begun = now()

    def one(index: int) -> None:
        before = now() - begun
        seen[index] = before + launch.with_network(place, index)

    all_at_once(one, TWENTY)
    return max(seen)


def aigo(daemon: Daemon) -> float:
    """Milliseconds from the first request until a reader has `ready` of each; returns when all have ended."""
    begun = now()
    sessions = [daemon.create("sleep", "0.2") for _ in range(TWENTY)]
    with daemon.watch(dict.fromkeys(sessions, 0)) as watch:
        taken = watch.each(b"event: ready") - begun
    daemon.until_idle()
    return taken


def measure(place: Place) -> list[str]:
    ours, alone, networked = [], [], []
    with Daemon(place, "burst", limits_max_sessions=2 * TWENTY) as daemon:
        for index in range(place.runs(8, 2)):
            print(f"  burst {index}", file=sys.stderr, flush=True)
            ours.append(aigo(daemon))
            time.sleep(1)
            alone.append(docker(launch.docker_run(place)))
            time.sleep(1)
            networked.append(docker_networks(place))
            # What the engine still tidies up should not weigh on the next round.
            time.sleep(1)
    met = statistics.median(ours) <= statistics.median(alone)
    return [
        row(f"burst: {TWENTY} requests → `ready` of each read, against {TWENTY} `docker run` at once → first output of each",
            ours, "ms", baseline=alone, ratio=True, target="no slower", met=met),
        row("burst: the same, against `docker network create` + `docker run` on that network", ours, "ms",
            baseline=networked, ratio=True),
    ]
