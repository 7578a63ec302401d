"""A thousand requests for a service with four places: what a request costs while others wait, in which order they begin, and
how long a place stays empty."""

import datetime
import json
import statistics
import sys
import time

from daemon import Daemon
from place import Place, now
from table import row

PLACES = 4
# The longest that one session may take on average: then something is wrong.
EACH = 5


def milliseconds(at: str) -> float:
    """Of a time as events have it (RFC 3339)."""
    return datetime.datetime.fromisoformat(at[:26].rstrip("Z") + "+00:00").timestamp() * 1e3


def times(daemon: Daemon, kind: str) -> dict[str, float]:
    """When each session told of the one event of this kind, in the order of these times."""
    rows = daemon.rows("SELECT session, body FROM events WHERE json_extract(body, '$.kind') = ?", kind)
    told = {session: milliseconds(json.loads(body)["at"]) for session, body in rows}
    return dict(sorted(told.items(), key=lambda item: item[1]))


def measure(place: Place) -> list[str]:
    count, some = place.runs(1000, 40), place.runs(100, 10)
    with Daemon(place, "queue", limits_max_sessions=PLACES, queue_length=2 * count) as daemon:
        asked, posts = [], []
        for _ in range(count):
            begun = now()
            asked.append(daemon.create("true"))
            posts.append(now() - begun)
        waiting = len(daemon.ask("GET", "/queue")["items"])
        print(f"  {count} requests are made, {waiting} wait", file=sys.stderr, flush=True)
        daemon.until_idle(EACH * count)
        time.sleep(1)
        begun, ended = times(daemon, "session"), times(daemon, "ended")
    order = list(begun)
    if len(order) != count:
        raise RuntimeError(f"{len(order)} of {count} sessions began")
    number = {session: index for index, session in enumerate(asked)}
    # Those that begin together may tell of it in another order.
    astray = [abs(number[session] - index) for index, session in enumerate(order)]
    starts, ends = list(begun.values()), list(ended.values())
    # All places are taken before the first end; each end lets the next one begin.
    empty = [start - end for start, end in zip(starts[PLACES:], ends)]
    paces = [later - earlier for earlier, later in zip(starts[PLACES:], starts[PLACES + 1:])]
    first = statistics.median(empty[:some])
    last = statistics.median(empty[-some:])
    return [
        row(f"queue: the last {some} of {count} requests, against the first {some}", posts[-some:], "ms",
            baseline=posts[:some]),
        row("queue: how far from its place in the queue each one began", [float(places) for places in astray], "places",
            target=f"in order: < {PLACES} at once", met=max(astray) < PLACES),
        row(f"queue: one ends → the next begins, the last {some} against the first {some}", empty[-some:], "ms",
            baseline=empty[:some], target="no slower: ≤ × 1.25 or + 2 ms", met=last <= max(first * 1.25, first + 2)),
        row(f"queue: from one beginning to the next, the last {some} against the first {some}", paces[-some:], "ms",
            baseline=paces[:some]),
    ]
