"""Where everything happens: a folder, a project in it, and sessions of the binary that people install."""

import json
import os
import pathlib
import queue
import shutil
import socket
import subprocess
import threading
import time

IMAGE = os.environ.get("IMAGE", "aigo-agent-runner:latest")
# Nobody's key: it is injected towards servers of this benchmark only.
KEY = "sk-ant-bench-0000"
# Longest wait for anything of one session.
DEADLINE = 60


def now() -> float:
    """Milliseconds of CLOCK_MONOTONIC, which containers share with the host."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) / 1e6


def capture(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class Place:
    """A temporary folder with a project, its data directory, and the binaries."""

    def __init__(self, folder: pathlib.Path, quick: bool):
        self.folder, self.quick = folder, quick
        self.aigo, self.runner = os.environ["AIGO"], os.environ["RUNNER"]
        self.data = folder / "data"
        self.project = folder / "project"
        self.project.mkdir()
        folder.chmod(0o755)
        # The agent of the message figures: the image has a python3 to run it.
        shutil.copy(pathlib.Path(__file__).parent / "agent.py", self.project / "agent.py")
        for path in (self.project, self.project / "agent.py"):
            os.chown(path, 1000, 1000)

    def runs(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def session(self, *command: str, upstream: int = 9, keep: bool = False) -> "Session":
        """Starts `aigo run` with a command as agent, and a model API at a loopback port (9: nobody there)."""
        return Session(self, command, upstream, keep)


class Session:
    """One `aigo run --output stream-json`; its events come with the time at which their line was read."""

    def __init__(self, place: Place, command: tuple[str, ...], upstream: int, keep: bool):
        self.place = place
        env = {name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC", "CLAUDE"))}
        env |= {"AIGO_DATA_DIR": str(place.data), "ANTHROPIC_API_KEY": KEY,
                "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{upstream}"}
        arguments = [place.aigo, "run", "--workspace", str(place.project), "--image", IMAGE, "--output", "stream-json",
                     "--program", "command", *(["--keep-open"] if keep else []), "--", *command]
        self.asked = now()
        self.asked_at = time.time()
        self.process = subprocess.Popen(arguments, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.lines: queue.Queue[tuple[float, bytes] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put((now(), line))
        self.lines.put(None)

    def event(self) -> tuple[float, dict]:
        """The next event, and when it was seen."""
        item = self.lines.get(timeout=DEADLINE)
        if item is None:
            raise RuntimeError("the session ended early: " + self.process.stderr.read().decode())
        return item[0], json.loads(item[1])

    def until(self, kind: str, **fields) -> tuple[float, dict]:
        """Reads on to an event of a kind and, where given, with these fields."""
        while True:
            at, event = self.event()
            if event["kind"] == kind and all(event.get(name) == value for name, value in fields.items()):
                return at, event

    @property
    def id(self) -> str:
        """Its id: this data directory has one live session at a time."""
        return next((self.place.data / "sessions").iterdir()).name

    def container_pid(self) -> int:
        return int(capture("docker", "inspect", "--format", "{{.State.Pid}}", f"aigo-{self.id}"))

    def ask(self, request: dict) -> None:
        """One request over the session's control socket, as `aigo send` and `aigo stop` make it."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(DEADLINE)
            control.connect(str(self.place.data / "sessions" / self.id / "control"))
            control.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(control.makefile().readline())
        if not answer["ok"]:
            raise RuntimeError(f"{request} was refused: {answer}")

    def cancel(self) -> None:
        self.ask({"op": "cancel", "by": "the benchmark"})
        self.end()

    def end(self) -> None:
        """Waits for the end, with everything let go."""
        self.process.wait(timeout=DEADLINE)


def memory(pid: int | str) -> tuple[float, float]:
    """VmRSS and VmHWM of a process, in MiB (proc(5))."""
    fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["VmHWM"].split()[0]) / 1024
