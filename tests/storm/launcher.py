"""A gateway in Python that starts and ends members as it is asked, one request a line of JSON.

``{"start": N, "session": S}`` starts N members that wait, and answers their pids; with ``command``
they run that; with ``owner`` another process owns them. ``{"end": pids, "signal": 9}`` signals
them; ``{"wait": pids}`` waits until they have ended. ``ahead`` is how far its clock is ahead.
"""

import json
import os
import subprocess
import sys
from typing import Any

import scopekeeper

from .clock import Clock


def main() -> None:
    """Answer requests until the end of input."""
    clock = Clock()
    members: dict[int, Any] = {}
    with clock.everywhere():
        for line in sys.stdin:
            request = json.loads(line)
            clock.ahead = request.get("ahead", clock.ahead)
            print(json.dumps(answer(request, members)), flush=True)


def answer(request: dict[str, Any], members: dict[int, Any]) -> list[int]:
    """Do what a request asks for."""
    if "start" in request:
        options = {"owner": request["owner"]} if "owner" in request else {}
        cohort = scopekeeper.Cohort(session=request["session"], **options)
        command = request.get("command", ["sleep", "infinity"])
        made = [cohort.spawn(command, name=f"m{number}", stdin=subprocess.DEVNULL)
                for number in range(request["start"])]  # fmt: skip
        members.update((each.pid, each) for each in made)
        return [each.pid for each in made]
    if "end" in request:
        for pid in request["end"]:
            members[pid].send_signal(request["signal"])
        return []
    for pid in request["wait"]:
        members.pop(pid).wait()
    return []


class Launcher:
    """Such a gateway as a child of this process."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", __spec__.name], env={**os.environ, **environment}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def ask(self, **request: Any) -> list[int]:
        """Ask for something, and return its answer."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(request) + "\n")
        self._child.stdin.flush()
        found: list[int] = json.loads(self._child.stdout.readline())
        return found

    def close(self) -> None:
        """End it."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait()


if __name__ == "__main__":
    main()
