"""The agent of the message figures, run in the container: stamps what it reads, and writes messages when told."""

import os
import sys
import time

MESSAGES = "/workspace/ipc/messages"


def stamp() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def say(count: int, pause: float) -> None:
    for index in range(count):
        time.sleep(pause)
        hidden = f"{MESSAGES}/.bench-{index}"
        # From before the file exists: what the agent itself pays for writing it is part of the way.
        began = stamp()
        with open(hidden, "w", encoding="ascii") as file:
            file.write(f'{{"type":"message","text":"{began}"}}')
        os.rename(hidden, f"{MESSAGES}/{time.time_ns() // 1_000_000:013}-{index:06}-benc.json")


for line in sys.stdin.buffer:
    read = stamp()
    words = line.decode().split()
    if words[0] == "say":
        say(int(words[1]), float(words[2]))
    else:
        print(f"{words[0]} {read}", flush=True)
