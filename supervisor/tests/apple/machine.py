#!/usr/bin/env -S python3 -IS
"""Stands in for Apple's `container` with a state: containers, networks and images are files in the folder beside it, and a
container is a process of this machine. It speaks the command line and prints the JSON of version 1.1, as documented.

It is run some hundred times, so what takes long to load is loaded where it is used.

What it has not: file systems of their own (a mount is refused), capabilities, users but by setuid, networks but loopback.
"""

import contextlib
import fcntl
import json
import os
import signal
import sys
import time

HOME = os.path.join(os.path.dirname(sys.argv[0]), "state")
CREATE = ["--cap-add", "--cap-drop", "--read-only", "--ulimit", "--shm-size"]
NETWORK = ["--label", "--internal", "--subnet"]
PATH = "/usr/local/bin:/usr/bin:/bin"


def fail(code, message):
    print(f'Error: {code}: "{message}"', file=sys.stderr)
    sys.exit(1)


@contextlib.contextmanager
def store(kind):
    """All records of a kind, by name; what is changed is kept."""
    os.makedirs(HOME, exist_ok=True)
    with open(f"{HOME}/{kind}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = f"{HOME}/{kind}.json"
        before = text_of(path) or "{}"
        records = json.loads(before)
        yield records
        after = json.dumps(records)
        if after != before:
            with open(f"{path}.new", "w") as fresh:
                fresh.write(after)
            os.rename(f"{path}.new", path)


def text_of(path):
    """What a file holds; nothing if it is not there."""
    with contextlib.suppress(OSError), open(path) as file:
        return file.read()
    return ""


def options(words, flags=()):
    """Options with their values, up to the first word that is none; and the rest."""
    found, words = {}, list(words)
    while words and words[0].startswith("-"):
        name = words.pop(0)
        found.setdefault(name, []).append(True if name in flags else words.pop(0))
    return found, words


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def pairs(texts):
    return dict(text.split("=", 1) for text in texts)


def plain(reference):
    return reference.removeprefix("docker.io/").removeprefix("library/")


def create(words):
    if words == ["--help"]:
        return print("USAGE: container create\n" + "\n".join(f"  {option} <value>" for option in CREATE))
    found, (image, *arguments) = options(words, flags=("--read-only",))
    name = found["--name"][0]
    if "--mount" in found or "--volume" in found:
        fail("unsupported", "this stand-in mounts nothing")
    with store("images") as images:
        digest = images[plain(image)]["id"]
    network = found["--network"][0]
    with store("containers") as containers:
        if name in containers:
            fail("exists", f"container already exists: {name}")
        containers[name] = {
            "argv": found["--entrypoint"] + arguments,
            "env": pairs(found.get("--env", [])),
            "pid": None,
            "listed": {
                "id": name,
                "configuration": {
                    "id": name,
                    "image": {"reference": f"docker.io/library/{plain(image)}", "descriptor": {"digest": digest}},
                    "labels": pairs(found.get("--label", [])),
                    "networks": [] if network == "none" else [{"network": network, "options": {"hostname": name}}],
                    "creationDate": now(),
                    "resources": {
                        "cpus": int(found.get("--cpus", ["4"])[0]),
                        "memoryInBytes": int(found.get("--memory", ["1024M"])[0][:-1]) << 20,
                    },
                },
                "status": {"state": "stopped", "networks": []},
            },
        }
    print(name)


def start(words):
    import subprocess

    assert words[0] == "--attach"
    name = words[1]
    with store("containers") as containers:
        if name not in containers:
            fail("notFound", f"container with ID {name} not found")
        container = containers[name]
        log = open(f"{HOME}/{name}.log", "ab")
        env = {"PATH": PATH, **container["env"]}
        process = subprocess.Popen(
            container["argv"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True
        )
        listed = container["listed"]
        container["pid"] = process.pid
        attachments = [
            {"network": one["network"], "hostname": name, "ipv4Address": "127.0.0.1/8", "ipv4Gateway": "127.7.7.1"}
            for one in listed["configuration"]["networks"]
        ]
        listed["status"] = {"state": "running", "networks": attachments, "startedDate": now()}
        memory = listed["configuration"]["resources"]["memoryInBytes"]
    while process.poll() is None:
        if resident(process.pid) > memory or not os.path.isdir(HOME):
            # The machine's kernel would kill it; or the test is over.
            end(process.pid, signal.SIGKILL)
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with store("containers") as containers:
        if name in containers:
            status = containers[name]["listed"]["status"]
            status.update(state="stopped", networks=[])
            containers[name]["pid"] = None
    code = process.returncode
    sys.exit(code if code >= 0 else 128 - code)


def resident(pid):
    numbers = text_of(f"/proc/{pid}/statm").split()
    return int(numbers[1]) * os.sysconf("SC_PAGE_SIZE") if numbers else 0


def end(pid, number):
    """A first process is deaf to what it does not catch, but for SIGKILL."""
    with contextlib.suppress(OSError):
        if number == signal.SIGKILL:
            os.killpg(pid, number)
        _, _, caught = text_of(f"/proc/{pid}/status").partition("SigCgt:")
        if caught and int(caught.split()[0], 16) >> (number - 1) & 1:
            os.kill(pid, number)


def running(name):
    with store("containers") as containers:
        if name not in containers:
            print(f"Error: No such container: {name}", file=sys.stderr)
            sys.exit(1)
        return containers[name]["pid"]


def until_stopped(name, seconds):
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        with store("containers") as containers:
            if name not in containers or containers[name]["pid"] is None:
                return True
        time.sleep(0.02)
    return False


def kill(words):
    found, (name,) = options(words)
    pid = running(name)
    if pid is None:
        fail("invalidState", f"container {name} is not running")
    number = signal.Signals[found["--signal"][0]]
    end(pid, number)
    if number == signal.SIGKILL:
        until_stopped(name, 10)
    print(name)


def stop(words):
    found, (name,) = options(words)
    pid = running(name)
    if pid is not None:
        end(pid, signal.SIGTERM)
        if not until_stopped(name, int(found["--time"][0])):
            end(pid, signal.SIGKILL)
            until_stopped(name, 10)
    print(name)


def delete(words):
    found, (name,) = options(words, flags=("--force",))
    pid = running(name)
    if pid is not None:
        if not found:
            fail("invalidState", f"container {name} is not yet stopped and can not be deleted")
        end(pid, signal.SIGKILL)
        until_stopped(name, 10)
    with store("containers") as containers:
        if containers.pop(name, None) is None:
            fail("notFound", f"container with ID {name} not found")
    print(name)


def logs(words):
    found, (name,) = options(words)
    running(name)
    text = text_of(f"{HOME}/{name}.log").strip("\n")
    if found:
        text = "\n".join([line for line in text.split("\n") if line][-int(found["-n"][0]) :])
    if text:
        print(text)


def execute(words):
    import subprocess

    found, (name, *argv) = options(words)
    if running(name) is None:
        fail("invalidState", f"container {name} is not running")
    user = int(found["--user"][0]) if found else None
    try:
        sys.exit(subprocess.run(argv, env={"PATH": PATH}, stdin=subprocess.DEVNULL, user=user).returncode)
    except FileNotFoundError:
        fail("internalError", f"failed to find target executable {argv[0]}")


def network_create(words):
    if words == ["--help"]:
        return print("USAGE: container network create\n" + "\n".join(f"  {option}" for option in NETWORK))
    found, (name,) = options(words, flags=("--internal",))
    subnet = found.get("--subnet", ["127.0.0.0/8"])[0]
    gateway = subnet.rsplit(".", 1)[0] + ".1" if "--subnet" in found else "127.7.7.1"
    with store("networks") as networks:
        if name in networks:
            fail("exists", f"network {name} already exists")
        taken = [other["status"]["ipv4Subnet"] for other in networks.values()]
        if "--subnet" in found and subnet in taken:
            fail("exists", f"IPv4 subnet {subnet} overlaps an existing network with subnet {subnet}")
        networks[name] = {
            "id": name,
            "configuration": {
                "name": name,
                "mode": "hostOnly" if "--internal" in found else "nat",
                "labels": pairs(found.get("--label", [])),
            },
            "status": {"ipv4Subnet": subnet, "ipv4Gateway": gateway},
        }
    print(name)


def network_delete(words):
    with store("networks") as networks:
        if networks.pop(words[0], None) is None:
            fail("notFound", f"no network for id {words[0]}")
    print(words[0])


def image_inspect(words):
    with store("images") as images:
        image = images.get(plain(words[0]))
    if image is None:
        fail("notFound", f"Image with reference {words[0]}")
    print(json.dumps([image]))


def image_delete(words):
    with store("images") as images:
        images.pop(plain(words[0]))
    print(words[0])


def build(words):
    import subprocess

    found, (context,) = options(words, flags=("--no-cache",))
    tag = found["--tag"][0]
    lines = text_of(found["--file"][0]).splitlines()
    arguments = pairs(found.get("--build-arg", []))
    made = {}
    for number, line in enumerate(lines, 1):
        verb, _, rest = line.partition(" ")
        print(f"#{number} [{number}/{len(lines)}] {line}", file=sys.stderr)
        if verb == "COPY":
            source, target = rest.split()
            made[target] = f"{context}/{source}"
        if verb == "RUN":
            for target, source in made.items():
                rest = rest.replace(target, source)
            run = subprocess.run(["sh", "-c", rest], env={"PATH": PATH, **arguments}, capture_output=True, text=True)
            for said in run.stdout.splitlines():
                print(f"#{number} 0.012 {said}", file=sys.stderr)
            if run.returncode:
                message = f'process "{rest}" did not complete: exit code: {run.returncode}'
                print(f"#{number} ERROR: {message}", file=sys.stderr)
                sys.exit(1)
        print(f"#{number} DONE 0.0s", file=sys.stderr)
    with store("images") as images:
        images[tag] = image(tag, pairs(found.get("--label", [])))


def image(tag, labels):
    digest = f"sha256:{os.urandom(32).hex()}"
    reference = f"docker.io/library/{tag}"
    config = {"Env": [f"PATH={PATH}"], "Cmd": ["sh"], "Labels": labels}
    platform = {"os": "linux", "architecture": "arm64"}
    return {
        "id": digest,
        "name": reference,
        "configuration": {"reference": reference, "descriptor": {"digest": digest}},
        "index": {"digest": digest},
        "variants": [{"platform": platform, "size": 1 << 20, "config": {"created": now(), "config": config}}],
    }


def listing(kind):
    with store(kind) as records:
        print(json.dumps([record.get("listed", record) for record in records.values()]))


def main():
    words = sys.argv[1:]
    match words:
        case ["--version"]:
            print("container CLI version 1.1.0 (build: release, commit: ee848e3)")
        case ["system", "status"]:
            print("FIELD     VALUE\nstatus    running\napp-root  /data/com.apple.container/")
        case ["create", *rest]:
            create(rest)
        case ["start", *rest]:
            start(rest)
        case ["kill", *rest]:
            kill(rest)
        case ["stop", *rest]:
            stop(rest)
        case ["delete", *rest]:
            delete(rest)
        case ["logs", *rest]:
            logs(rest)
        case ["exec", *rest]:
            execute(rest)
        case ["list", "--all", "--format", "json"]:
            listing("containers")
        case ["network", "list", "--format", "json"]:
            listing("networks")
        case ["network", "create", *rest]:
            network_create(rest)
        case ["network", "delete", *rest]:
            network_delete(rest)
        case ["image", "list", "--format", "json"]:
            listing("images")
        case ["image", "inspect", *rest]:
            image_inspect(rest)
        case ["image", "delete", *rest]:
            image_delete(rest)
        case ["build", *rest]:
            build(rest)
        case _:
            print(f"Error: Unknown words: {words}", file=sys.stderr)
            sys.exit(64)


main()
