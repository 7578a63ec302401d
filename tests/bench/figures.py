"""Runs the sections and prints one table: see docs/benchmarks.md for what each figure means."""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

import admission
import burst
import launch
import messages
import proxy
import runner
import service
from place import Place, capture
from table import HEADER

SECTIONS = {"launch": launch.measure, "messages": messages.measure, "proxy": proxy.measure, "runner": runner.measure,
            "service": service.measure, "queue": admission.measure, "burst": burst.measure}


def machine() -> str:
    """What the figures were measured on."""
    components = json.loads(capture("docker", "version", "--format", "{{json .Server}}"))
    runc = next((part["Version"] for part in components["Components"] if part["Name"] == "runc"), "unknown")
    limits = capture("docker", "info", "--format", "cgroup v{{.CgroupVersion}}, {{.Driver}}")
    model = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown CPU")
    nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.strip().rpartition("/")[2]
    return (f"{os.cpu_count()} cores ({model}), Linux {platform.release()}, Docker {components['Version']}, runc {runc}, "
            f"{limits}, nginx {nginx}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="all of them if none is named")
    parser.add_argument("--quick", action="store_true", help="few runs: shows that it works, the figures mean little")
    options = parser.parse_args()
    print(f"machine: {machine()}", flush=True)
    print(f"load average at the start: {os.getloadavg()[0]:.2f}", flush=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="aigo-bench.") as folder:
        place = Place(pathlib.Path(folder), options.quick)
        for name in options.sections or SECTIONS:
            print(f"measuring: {name} …", file=sys.stderr, flush=True)
            rows += SECTIONS[name](place)
    print(f"load average at the end: {os.getloadavg()[0]:.2f}\n")
    print(HEADER)
    for row in rows:
        print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
