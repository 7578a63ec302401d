"""Requests from inside a container's network, one after the other over kept-open connections, the arms in turn.

client.py latency COUNT NAME=HOST:PORT…    milliseconds per small request
client.py events COUNT NAME=HOST:PORT…     delay of each event of a stream, and of the first one
Prints {NAME: [milliseconds, …]} as JSON; `events` adds NAME-first.
"""

import json
import socket
import sys
import time

BODY = b'{"model":"bench","max_tokens":16,"messages":[{"role":"user","content":"' + b"x" * 900 + b'"}]}'
HEAD = ("POST /v1/messages HTTP/1.1\r\nhost: {host}\r\nx-api-key: CREDENTIAL_PROXY_PLACEHOLDER\r\n"
        "content-type: application/json\r\ncontent-length: {length}\r\n\r\n")
WARM_UP = 20
STREAMS = 5


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def request(address: str, body: bytes) -> bytes:
    return HEAD.format(host=address, length=len(body)).encode() + body


def exchange(connection: socket.socket, sent: bytes) -> float:
    began = time.perf_counter()
    connection.sendall(sent)
    answer = b""
    while True:
        answer += connection.recv(65536)
        head, end, body = answer.partition(b"\r\n\r\n")
        if end:
            length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n")
                          if line.startswith(b"content-length:"))
            if len(body) >= length:
                break
    taken = (time.perf_counter() - began) * 1e3
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer.decode(errors="replace"))
    return taken


def latency(count: int, arms: dict[str, str]) -> dict[str, list[float]]:
    open_arms = {name: (connect(address), request(address, BODY)) for name, address in arms.items()}
    taken = {name: [] for name in arms}
    for index in range(count + WARM_UP):
        for name, (connection, sent) in open_arms.items():
            time.sleep(0.001)
            once = exchange(connection, sent)
            if index >= WARM_UP:
                taken[name].append(once)
    return taken


def stream(address: str, count: int) -> list[float]:
    delays = []
    with connect(address) as connection:
        connection.sendall(request(address, b"%d" % count))
        left = b""
        while len(delays) < count:
            got = connection.recv(65536)
            seen = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            if not got:
                raise RuntimeError(f"cut after {len(delays)} events: {left!r}")
            *whole, left = (left + got).split(b"\n\n")
            delays += [(seen - int(event.rpartition(b"data: ")[2])) / 1e6 for event in whole]
    return delays


def events(count: int, arms: dict[str, str]) -> dict[str, list[float]]:
    taken = {name: [] for name in (*arms, *(f"{arm}-first" for arm in arms))}
    for turn in range(STREAMS + 1):
        for name, address in arms.items():
            first, *others = stream(address, count // STREAMS)
            # The first turn opens the connections to the upstream.
            if turn > 0:
                taken[f"{name}-first"].append(first)
                taken[name] += others
    return taken


what, wanted, *given = sys.argv[1:]
print(json.dumps({"latency": latency, "events": events}[what](int(wanted), dict(arm.split("=", 1) for arm in given))))
