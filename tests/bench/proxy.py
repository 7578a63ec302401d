"""The credential proxy of a real session, asked from inside its container's network, against the upstream itself and
against nginx as a reverse proxy that injects a header and holds nothing back, too."""

import contextlib
import json
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import time

from place import DEADLINE, KEY, Place, memory
from table import row

HERE = pathlib.Path(__file__).parent
UPSTREAM, UPSTREAM_OUTSIDE, NGINX, EVENTS, NGINX_EVENTS = 18081, 18082, 18083, 18084, 18085
ANSWER = '{"id":"msg_bench","type":"message","content":[{"type":"text","text":"' + "y" * 700 + '"}]}'
CONNECTIONS, SECONDS = 32, 4


def server(listens: list[str], location: str) -> str:
    lines = "".join(f"listen {listen} backlog=512; " for listen in listens)
    return f"server {{ {lines} location / {{ {location} }} }}\n"


def reverse_proxy(name: str, listen: str, upstream: int) -> str:
    location = (f'proxy_pass http://{name}; proxy_http_version 1.1; proxy_set_header Connection ""; '
                f'proxy_set_header x-api-key "{KEY}"; proxy_buffering off; proxy_request_buffering off;')
    return f"upstream {name} {{ server 127.0.0.1:{upstream}; keepalive 128; }}\n" + server([listen], location)


@contextlib.contextmanager
def running(command: list[str], *addresses: tuple[str, int]):
    """A server as a child, up once all its addresses answer."""
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + DEADLINE
        for address in addresses:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(address, timeout=1):
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command} does not answer on {address}")
                time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(timeout=DEADLINE)


def nginx(place: Place, name: str, servers: str, *addresses: tuple[str, int]):
    folder = place.folder / name
    folder.mkdir(exist_ok=True)
    config = (HERE / "nginx.conf.in").read_text()
    for key, value in {"@WORKERS@": "2", "@FOLDER@": str(folder), "@SERVERS@": servers}.items():
        config = config.replace(key, value)
    (folder / "nginx.conf").write_text(config)
    return running(["nginx", "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")], *addresses)


@contextlib.contextmanager
def proxied(place: Place, upstream: int):
    """A session whose model API is at a loopback port: its proxy's address, its container's pid, itself."""
    session = place.session("sleep", "infinity", upstream=upstream)
    address = session.until("launch_step", step="proxy")[1]["detail"]
    session.until("ready")
    try:
        yield address, session.container_pid(), session
    finally:
        session.cancel()


def inside(pid: int, *command: str) -> str:
    """Runs a program of the host in the container's network."""
    entered = ["nsenter", f"--net=/proc/{pid}/ns/net", *command]
    return subprocess.run(entered, capture_output=True, text=True, check=True).stdout


def requests_per_second(pid: int, address: str, seconds: int) -> float:
    said = inside(pid, "wrk", "-t2", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(HERE / "post.lua"), f"http://{address}")
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    return float(re.search(r"Requests/sec:\s*([0-9.]+)", said)[1])


def measure(place: Place) -> list[str]:
    return small_requests(place) + streams(place)


def small_requests(place: Place) -> list[str]:
    with proxied(place, UPSTREAM) as (aigo, pid, session):
        gateway = aigo.rpartition(":")[0]
        answer = f"default_type application/json; return 200 '{ANSWER}';"
        upstream = server([f"127.0.0.1:{UPSTREAM}", f"{gateway}:{UPSTREAM_OUTSIDE}"], answer)
        other = reverse_proxy("model", f"{gateway}:{NGINX}", UPSTREAM)
        with nginx(place, "upstream", upstream, ("127.0.0.1", UPSTREAM), (gateway, UPSTREAM_OUTSIDE)), \
                nginx(place, "reverse", other, (gateway, NGINX)):
            arms = {"direct": f"{gateway}:{UPSTREAM_OUTSIDE}", "aigo": aigo, "nginx": f"{gateway}:{NGINX}"}
            named = [f"{name}={address}" for name, address in arms.items()]
            client = str(HERE / "client.py")
            took = json.loads(inside(pid, sys.executable, client, "latency", str(place.runs(2000, 100)), *named))
            rate = {name: [] for name in arms}
            for _ in range(place.runs(6, 1)):
                for name, address in arms.items():
                    rate[name].append(requests_per_second(pid, address, place.runs(SECONDS, 1)))
        rss, peak = memory(session.process.pid)
    added = statistics.median(took["aigo"]) - statistics.median(took["direct"])
    share = statistics.median(rate["aigo"]) / statistics.median(rate["nginx"])
    return [
        row("proxy: a small request, against the upstream itself", took["aigo"], "ms", baseline=took["direct"],
            target="≤ +0.3 ms p50", met=added <= 0.3),
        row("proxy: the same, against nginx in front of the upstream", took["aigo"], "ms", baseline=took["nginx"]),
        row(f"proxy: requests per second over {CONNECTIONS} connections, against nginx", rate["aigo"], "/s",
            baseline=rate["nginx"], ratio=True, target="≥ × 0.8", met=share >= 0.8),
        row("proxy: the same, against the upstream itself", rate["aigo"], "/s", baseline=rate["direct"], ratio=True),
        row("`aigo` RSS after that load", [rss], "MiB", target="≤ 25 MiB", met=rss <= 25),
        row("`aigo` largest RSS (VmHWM) until then", [peak], "MiB", target="≤ 25 MiB", met=peak <= 25),
    ]


def streams(place: Place) -> list[str]:
    with proxied(place, EVENTS) as (aigo, pid, _):
        gateway = aigo.rpartition(":")[0]
        source = [sys.executable, "-B", str(HERE / "events_server.py"), f"127.0.0.1:{EVENTS}", f"{gateway}:{EVENTS}"]
        other = reverse_proxy("stream", f"{gateway}:{NGINX_EVENTS}", EVENTS)
        with running(source, ("127.0.0.1", EVENTS), (gateway, EVENTS)), \
                nginx(place, "streams", other, (gateway, NGINX_EVENTS)):
            arms = {"direct": f"{gateway}:{EVENTS}", "aigo": aigo, "nginx": f"{gateway}:{NGINX_EVENTS}"}
            named = [f"{name}={address}" for name, address in arms.items()]
            took = json.loads(inside(pid, sys.executable, str(HERE / "client.py"), "events",
                                     str(place.runs(1000, 50)), *named))
    added = statistics.median(took["aigo"]) - statistics.median(took["direct"])
    first = statistics.median(took["aigo-first"]) - statistics.median(took["direct-first"])
    return [
        row("proxy: delay of an event of a stream (one every 20 ms), against the upstream itself", took["aigo"], "ms",
            baseline=took["direct"], target="not held back: ≤ +0.3 ms", met=added <= 0.3),
        row("proxy: delay of a stream's first event, against the upstream itself", took["aigo-first"], "ms",
            baseline=took["direct-first"], target="not held back: ≤ +1 ms", met=first <= 1),
        row("proxy: delay of an event of a stream, against nginx", took["aigo"], "ms", baseline=took["nginx"]),
    ]
