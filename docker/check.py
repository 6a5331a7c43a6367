"""Builds and tests the CPU image: ``make image-check``. Prints its measurements as JSON.

The container runs as non-root on a read-only file system, without network and capabilities. It
embeds a text and passes its health check; SIGTERM under load loses no accepted request; SIGTERM
while loading ends it. Needs a Debian-based system, root, buildah, podman and runc; if the base
image cannot be pulled, mmdebstrap builds it.

Environment: ``BUILD_FLAGS``, options of the build such as ``--volume`` of a certificate or of
pip's configuration; ``TORCH_INDEX`` as in the Dockerfile.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
BASE = "docker.io/library/debian:12.12-slim"
OWN_BASE = "localhost/osa-check-base:bookworm"
IMAGE = "localhost/osa-encoder:check-cpu"
LIMITS = ("--runtime=runc", "--cgroup-manager=cgroupfs")
RUN = (
    "run", "--detach", "--network=none", "--read-only", "--read-only-tmpfs=false",
    "--tmpfs=/tmp:rw,size=256m,mode=1777", "--cap-drop=all", "--security-opt=no-new-privileges",
    "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096", "--env=OMP_NUM_THREADS=1",
)  # fmt: skip
CLIENT = """
import json, sys, threading, urllib.error, urllib.request
counts, lock = {"answered": 0, "refused": 0, "lost": 0}, threading.Lock()
body = json.dumps({"inputs": [f"sentence number {n} of a request" for n in range(20)]}).encode()
def post():
    request = urllib.request.Request(
        "http://127.0.0.1:8080/embed", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return "answered" if len(json.load(answer)) == 20 else "lost"
    except urllib.error.HTTPError as error:
        return "refused" if error.code == 503 and error.headers["retry-after"] else "lost"
    except urllib.error.URLError as error:
        return "gone" if isinstance(error.reason, ConnectionRefusedError) else "lost"
    except OSError:
        return "lost"
def run():
    while True:
        outcome = post()
        if outcome == "gone":
            return
        with lock:
            counts[outcome] += 1
            print(json.dumps(counts), flush=True)
        if outcome == "refused":  # told to retry later, when the server has ended
            return
threads = [threading.Thread(target=run) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
EMBED = """
import json, urllib.request
request = urllib.request.Request("http://127.0.0.1:8080/embed", b'{"inputs": "a text"}',
                                 {"Content-Type": "application/json"})
print(sum(x * x for x in json.load(urllib.request.urlopen(request, timeout=60))[0]))
"""


class CheckError(Exception):
    """The image failed a check."""


def call(*command: str, check: bool = True, timeout_s: float = 3600) -> str:
    """Run a command; returns its output.

    Raises:
        CheckError: It failed; the message has the end of its output.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, cwd=ROOT)
    if check and done.returncode:
        raise CheckError(f"{shlex.join(command)[:200]}\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout.strip()


def podman(*arguments: str, check: bool = True) -> str:
    """Run podman."""
    return call("podman", *LIMITS, *arguments, check=check, timeout_s=120)


def logs(name: str) -> str:
    """Output of a container."""
    done = subprocess.run(["podman", *LIMITS, "logs", name], capture_output=True, text=True)
    return done.stdout + done.stderr


def expect(holds: bool, text: str) -> None:
    """Raise CheckError with ``text`` unless the condition ``holds``."""
    if not holds:
        raise CheckError(text)


def base_image() -> str:
    """Name of the base image: pulled, or built of the same Debian release without a registry."""
    if not subprocess.run(["podman", "pull", "-q", BASE], capture_output=True).returncode:
        return BASE
    if not subprocess.run(["podman", "image", "exists", OWN_BASE]).returncode:
        return OWN_BASE
    with tempfile.TemporaryDirectory() as scratch:
        call("mmdebstrap", "--variant=minbase", "bookworm", f"{scratch}/base.tar")
        call("podman", "import", "-q", f"{scratch}/base.tar", OWN_BASE)
    return OWN_BASE


def build(base: str) -> float:
    """Build the image; returns the time it took [s]."""
    began = time.monotonic()
    arguments = [f"--build-arg=BASE={base}"]
    arguments.append(f"--build-arg=TORCH_INDEX={os.environ.get('TORCH_INDEX', '')}")
    arguments += shlex.split(os.environ.get("BUILD_FLAGS", ""))
    ignore = "--ignorefile=docker/Dockerfile.dockerignore"
    call("buildah", "bud", "--isolation=chroot", "--format=docker", "--layers", ignore, *arguments,
         "--file=docker/Dockerfile", "--target=cpu", f"--tag={IMAGE}", ".")  # fmt: skip
    return time.monotonic() - began


def inside(name: str, code: str) -> str:
    """Run Python code in a running container; returns its output."""
    return podman("exec", name, "python", "-c", code)


def start(*arguments: str) -> tuple[str, float]:
    """Start a container; returns its id and the time until it was ready [s]."""
    began = time.monotonic()
    name = podman(*RUN, *arguments, IMAGE)
    probe = "/usr/local/lib/osa/healthcheck.py"
    while subprocess.run(
        ["podman", *LIMITS, "exec", name, "python", "-I", probe], capture_output=True
    ).returncode:
        state = podman("inspect", "--format={{.State.Status}}", name)
        expect(state == "running", f"it is {state}: {logs(name)}")
        expect(time.monotonic() - began < 120, "it was not ready after 120 s")
    return name, time.monotonic() - began


def stop(name: str, timeout_s: int = 60) -> tuple[int, float]:
    """Send SIGTERM; returns the exit code and the time it took [s]."""
    began = time.monotonic()
    podman("kill", "--signal=TERM", name)
    code = int(podman("wait", name))
    took = time.monotonic() - began
    podman("rm", "--force", name)
    expect(took < timeout_s, f"it ended {took:.0f} s after SIGTERM")
    return code, took


def check_serving() -> dict[str, object]:
    """Start a container, check it, and stop it under load; returns the measurements."""
    name, ready_s = start()
    try:
        expect(podman("exec", name, "id", "-u") == "10001", "it runs as another user")
        writes = subprocess.run(["podman", *LIMITS, "exec", name, "touch", "/opt/osa/x", "/x"])
        expect(writes.returncode != 0, "the root file system can be written to")
        links = podman("exec", name, "ls", "/sys/class/net")
        expect(links.split() == ["lo"], f"it has a network: {links}")
        first = podman("exec", name, "cat", "/proc/1/comm")
        expect(first == "tini", f"PID 1 is {first}")
        length = float(inside(name, EMBED))
        expect(abs(length - 1) < 1e-3, f"the vector has length {length}")
        podman("healthcheck", "run", name)
        load = subprocess.Popen(
            ["podman", *LIMITS, "exec", name, "python", "-c", CLIENT], stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        lines: list[str] = []
        assert load.stdout is not None  # it is a pipe
        reader = threading.Thread(target=lines.extend, args=(load.stdout,))
        reader.start()
        time.sleep(5)
        code, drain_s = stop(name)
        load.wait(timeout=30)
        reader.join()
    except BaseException:
        podman("rm", "--force", name, check=False)
        raise
    counts = json.loads(lines[-1])
    expect(code == 0, f"exit code {code} after the drain")
    expect(counts["answered"] > 20, f"under load: {counts}")
    expect(counts["lost"] == 0, f"requests were lost in the drain: {counts}")
    return {"start_to_ready_s": round(ready_s, 1), "drain_s": round(drain_s, 1), "load": counts}


def check_odd_starts() -> dict[str, object]:
    """Send SIGTERM while the model loads; start with a wrong setting; returns the measurements."""
    name = podman(*RUN, IMAGE)
    time.sleep(1)
    _, ended_s = stop(name, timeout_s=5)
    wrong = podman(*RUN, "--env=OSA_SERVER__PORTS=1", IMAGE)
    code = int(podman("wait", wrong))
    printed = logs(wrong)
    podman("rm", "--force", wrong)
    expect(code == 2, f"exit code {code} for a wrong setting")
    expect("OSA_SERVER__PORTS" in printed, "it does not name the wrong setting")
    return {"sigterm_while_loading_s": round(ended_s, 1)}


def main() -> int:
    """Build and check; returns the exit code."""
    try:
        if len(sys.argv) > 1:
            call(sys.argv[1], "docker/Dockerfile")  # hadolint
        built_s = build(base_image())
        size = int(podman("image", "inspect", "--format={{.Size}}", IMAGE))
        labels = json.loads(podman("image", "inspect", "--format={{json .Labels}}", IMAGE))
        expect("org.opencontainers.image.version" in labels, f"labels are {labels}")
        report = {"build_s": round(built_s), "image_bytes": size, **check_serving()}
        print(json.dumps({**report, **check_odd_starts()}, indent=2))
    except CheckError as error:
        print(f"image-check: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
