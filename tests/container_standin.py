"""A stand-in for docker: a client, and a daemon that runs "containers" outside of the client.

Install with `install(folder)`: `folder/docker` is the client. A container is a process that the
daemon starts, in the daemon's cgroup and session, with a file of its id, labels and pid. The daemon
is started by the test. Knows `run`, `ps`, `rm` and `stop`, with the options that matter here.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path


def install(folder: Path) -> Path:
    """Write the client into a folder; return its path."""
    client = folder / "docker"
    client.write_text(f'#!/bin/sh\nexec {sys.executable} -I {Path(__file__)} {folder} "$@"\n')
    client.chmod(0o755)
    (folder / "containers").mkdir()
    for fifo in ("requests", "answers"):
        os.mkfifo(folder / fifo)
    return client


def containers(folder: Path) -> dict[str, dict[str, object]]:
    """Return the containers that the daemon knows, by id."""
    found = {}
    for path in (folder / "containers").glob("*.json"):
        found[path.stem] = json.loads(path.read_text())
    return found


def is_running(pid: int) -> bool:
    """Return whether the process of a container lives."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def daemon(folder: Path) -> None:
    """Start a container for each line of requests; answer with its id."""
    requests = os.open(folder / "requests", os.O_RDWR)
    answers = os.open(folder / "answers", os.O_RDWR)
    with os.fdopen(requests) as lines:
        for line in lines:
            asked = json.loads(line)
            process = subprocess.Popen(asked["command"], start_new_session=True, env={})
            container_id = os.urandom(32).hex()
            kept = {"pid": process.pid, "labels": asked["labels"], "rm": asked["rm"]}
            path = folder / "containers" / container_id
            path.with_suffix(".part").write_text(json.dumps(kept))
            path.with_suffix(".part").rename(path.with_suffix(".json"))
            threading.Thread(target=process.wait, daemon=True).start()
            os.write(answers, f"{container_id}\n".encode())


def client(folder: Path, words: list[str]) -> int:
    """Do what the client of docker does."""
    if (folder / "down").exists():
        print("Cannot connect to the daemon", file=sys.stderr)
        return 1
    with (folder / "calls").open("a") as calls:
        calls.write(json.dumps(words) + "\n")
    command, *rest = words
    if command == "run":
        return _run(folder, rest)
    known = containers(folder)
    if command == "ps":
        key, _, label = rest[-1].partition("=")
        assert (rest[-2], key) == ("--filter", "label")
        for container_id, kept in known.items():
            living = is_running(int(str(kept["pid"])))
            if label in kept["labels"] and (living or "--all" in rest):  # type: ignore[operator]
                print(container_id)
        return 0
    if command not in ("rm", "stop") or rest[-1] not in known:
        print("Error: No such container", file=sys.stderr)
        return 1
    kept = known[rest[-1]]
    if is_running(int(str(kept["pid"]))):
        os.kill(int(str(kept["pid"])), signal.SIGKILL)
    if command == "rm":
        (folder / "containers" / f"{rest[-1]}.json").unlink()
    return 0


def _run(folder: Path, words: list[str]) -> int:
    labels = [word[len("--label=") :] for word in words if word.startswith("--label=")]
    at = next(at for at, word in enumerate(words) if not word.startswith("-"))
    asked = {"labels": labels, "rm": "--rm" in words, "command": words[at + 1 :]}
    with (folder / "requests").open("w") as requests:
        requests.write(json.dumps(asked) + "\n")
    with (folder / "answers").open() as answers:
        answers.readline()
    if "-d" not in words:
        signal.pause()  # a client stays until its container has ended
    return 0


if __name__ == "__main__":
    if sys.argv[2] == "daemon":
        daemon(Path(sys.argv[1]))
    else:
        raise SystemExit(client(Path(sys.argv[1]), sys.argv[2:]))
