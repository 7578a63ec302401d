"""Both directions of the mailbox: a follow-up to the agent's stdin, and an agent's message to a reader of the store."""

import pathlib
import statistics
import subprocess
import sys
import time

from place import Place, memory, now
from table import p99, row

PAUSE = 0.03


def own_cost(count: int) -> list[float]:
    """What the stamping agent itself takes from a pipe's write to its stamp, in milliseconds."""
    agent = pathlib.Path(__file__).parent / "agent.py"
    taken = []
    with subprocess.Popen([sys.executable, "-u", str(agent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for index in range(count):
            sent = now()
            process.stdin.write(b"%d\n" % index)
            process.stdin.flush()
            taken.append(int(process.stdout.readline().split()[1]) / 1e6 - sent)
            time.sleep(PAUSE)
        process.stdin.close()
    return taken


def follow_ups(session, count: int) -> list[float]:
    taken = []
    for index in range(count):
        sent = now()
        session.ask({"op": "message", "text": f"m{index}"})
        while True:
            text = session.until("text")[1]["text"]
            if text.startswith(f"m{index} "):
                break
        taken.append(int(text.split()[1]) / 1e6 - sent)
        time.sleep(PAUSE)
    return taken


def agent_messages(session, count: int) -> list[float]:
    session.ask({"op": "message", "text": f"say {count} {PAUSE}"})
    taken = []
    for _ in range(count):
        seen, event = session.until("message")
        taken.append(seen - int(event["text"]) / 1e6)
    return taken


def measure(place: Place) -> list[str]:
    count = place.runs(500, 20)
    cost = own_cost(count)
    session = place.session("python3", "-u", "/workspace/agent.py", keep=True)
    session.until("ready")
    follow_ups(session, 5)
    down = follow_ups(session, count)
    up = agent_messages(session, count)
    rss, peak = memory(session.process.pid)
    session.cancel()
    return [
        row("follow-up: request at the session's control socket → read by the agent from its stdin", down, "ms",
            target="≤ 2 ms p50, ≤ 10 ms p99", met=statistics.median(down) <= 2 and p99(down) <= 10),
        row("  of which the stamping agent itself (a pipe on the host)", cost, "ms"),
        row("agent's message: before the agent writes it → event read from `aigo run`'s output", up, "ms",
            target="≤ 3 ms p50", met=statistics.median(up) <= 3),
        row("`aigo` RSS after these messages", [rss], "MiB", target="≤ 25 MiB", met=rss <= 25),
        row("`aigo` largest RSS (VmHWM) until then", [peak], "MiB", target="≤ 25 MiB", met=peak <= 25),
    ]
