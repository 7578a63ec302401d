"""`aigo serve` as people run it, asked over HTTP by clients of this process."""

import contextlib
import http.client
import json
import os
import pathlib
import selectors
import signal
import socket
import sqlite3
import subprocess
import time

from place import DEADLINE, IMAGE, Place, now

API = "/api/v1/container"
# Small enough that fifty fit on any host.
MEMORY = 64 << 20
# How often a socket that is not there yet is tried again, in seconds.
RETRY = 0.001


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Daemon:
    """A service on a data directory of its own; the next one after a kill answers at the same address."""

    def __init__(self, place: Place, name: str, **settings: object):
        self.place, self.data, self.port = place, place.folder / name, free_port()
        self.settings = {f"AIGO_{key.upper()}": str(value) for key, value in settings.items()}
        # Not the host's own.
        self.config = place.folder / f"{name}.toml"
        self.config.touch(mode=0o600)
        self.start()
        self.wait()

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *_: object) -> None:
        """Ends its sessions, and it."""
        try:
            self.end_all()
        finally:
            self.connection.close()
            self.process.terminate()
            self.process.wait(timeout=DEADLINE)

    def start(self) -> float:
        """Starts the program; when that was."""
        foreign = ("ANTHROPIC", "CLAUDE", "AIGO")
        env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | self.settings
        command = [self.place.aigo, "serve", "--listen", f"127.0.0.1:{self.port}", "--data-dir", str(self.data),
                   "--config", str(self.config)]
        with open(self.place.folder / "serve.log", "ab") as log:
            begun = now()
            self.process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return begun

    def wait(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE):
                break
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("aigo serve does not serve: " + (self.place.folder / "serve.log").read_text())
            time.sleep(RETRY)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)

    def kill(self) -> None:
        self.connection.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    @property
    def pid(self) -> int:
        return self.process.pid

    def ask(self, method: str, path: str, body: dict | None = None) -> dict:
        """One request over the connection that is kept open."""
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            self.connection.request(method, API + path, None if body is None else json.dumps(body), headers)
            answer = self.connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # The service closes connections that were silent for 10 s; nothing was done.
            self.connection.close()
            self.connection.request(method, API + path, None if body is None else json.dumps(body), headers)
            answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text.decode()}")
        return json.loads(text) if text else {}

    def create(self, *argv: str, keep: bool = False) -> str:
        """Asks for a session of a program; its id."""
        session = {"workspace": str(self.place.project), "image": IMAGE, "limits": {"memoryBytes": MEMORY},
                   "program": {"type": "command", "argv": list(argv)}, "keepOpen": keep}
        return self.ask("POST", "/sessions", session)["id"]

    def end_all(self) -> None:
        """Cancels what lives, and waits until nothing of it is left."""
        # Those who wait first, the last of them first: nobody's turn comes meanwhile.
        for session, in self.rows("SELECT id FROM sessions WHERE ended_at IS NULL ORDER BY created_at DESC"):
            # It may have ended by itself.
            with contextlib.suppress(RuntimeError):
                self.ask("POST", f"/sessions/{session}/cancel")
        self.until_idle()

    def until_idle(self, patience: float = DEADLINE) -> None:
        """Waits until no session has a folder any more, and nobody waits."""
        deadline = time.monotonic() + patience
        while self.rows("SELECT 1 FROM sessions WHERE ended_at IS NULL LIMIT 1") or any((self.data / "sessions").iterdir()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"sessions still live after {patience} s")
            time.sleep(0.1)

    def rows(self, query: str, *values: object) -> list[tuple]:
        """Reads the service's database, as nobody but a measurement should."""
        with contextlib.closing(sqlite3.connect(f"file:{self.data / 'aigo.db'}?mode=ro", uri=True, timeout=DEADLINE)) as db:
            return db.execute(query, values).fetchall()

    def last_events(self) -> dict[str, int]:
        """The number of the last event of each session that lives."""
        return dict(self.rows("SELECT session, max(seq) FROM events JOIN sessions ON id = session WHERE ended_at IS NULL "
                              "GROUP BY session"))

    def watch(self, after: dict[str, int]) -> "Watch":
        return Watch(self.port, after)


class Watch:
    """The event streams of many sessions at once, each after an event."""

    def __init__(self, port: int, after: dict[str, int]):
        self.streams = selectors.DefaultSelector()
        for session, seq in after.items():
            stream = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream.sendall(f"GET {API}/sessions/{session}/events?after={seq} HTTP/1.0\r\nhost: 127.0.0.1\r\n\r\n".encode())
            self.streams.register(stream, selectors.EVENT_READ, [session, b""])

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self.streams.get_map().values()):
            key.fileobj.close()
        self.streams.close()

    def lines(self, wanted: bytes, patience: float = DEADLINE):
        """Yields (session, when it was read, the rest of the line) for each line that begins so."""
        deadline = time.monotonic() + patience
        while self.streams.get_map():
            ready = self.streams.select(timeout=max(0, deadline - time.monotonic()))
            seen = now()
            if not ready:
                raise RuntimeError(f"no {wanted} within {patience} s from {len(self.streams.get_map())} sessions")
            for key, _ in ready:
                got = key.fileobj.recv(65536)
                if not got:
                    self.streams.unregister(key.fileobj)
                    key.fileobj.close()
                *whole, key.data[1] = (key.data[1] + got).split(b"\n")
                for line in whole:
                    if line.startswith(wanted):
                        yield key.data[0], seen, line[len(wanted):]

    def each(self, wanted: bytes, patience: float = DEADLINE) -> float:
        """When the last of all sessions has told its first line that begins so."""
        missing = {key.data[0] for key in self.streams.get_map().values()}
        for session, seen, _ in self.lines(wanted, patience):
            missing.discard(session)
            if not missing:
                return seen
        raise RuntimeError(f"{len(missing)} sessions ended without {wanted}")


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process so far (proc_pid_stat(5))."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
