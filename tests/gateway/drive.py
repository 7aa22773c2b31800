"""Starts the gateway as a process or as a unit, waits until it is ready, and ends it."""

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

GATEWAY = Path(__file__).resolve().parent / "gateway.py"
EXIT_S = 15.0  # the SDK gives servers that stay 4 s, then kills their process groups
SCOPEKEEPER = Path(sys.executable).parent / "scopekeeper"


class NotReadyError(Exception):
    """The gateway or one of its servers did not come up."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway whose nine servers have answered."""

    process: "subprocess.Popen[str]"
    pid: int
    children: list[int]
    servers: list[dict[str, Any]]


@contextlib.contextmanager
def gateway(
    options: Sequence[str],
    environment: Mapping[str, str],
    *,
    within: Sequence[str] = (),
    seconds: float = 60.0,
    errors: IO[str] | None = None,
) -> Iterator[Gateway]:
    """Have a gateway that runs; ``within`` is a command that starts it, such as systemd-run.

    It ends in order when the block does, and by itself when this process is gone.
    """
    with subprocess.Popen(
        [*within, sys.executable, str(GATEWAY), *options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
        env=dict(environment), start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        try:
            ready = _ready(process, seconds)
            yield Gateway(process, ready["pid"], ready["children"], ready["servers"])
        except BaseException:
            process.kill()  # in order takes seconds, and the witness ends what is left
            raise
        finally:
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(EXIT_S)
            process.kill()


def _ready(process: "subprocess.Popen[str]", seconds: float) -> dict[str, Any]:
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], seconds)[0]:
        raise NotReadyError(f"no answer within {seconds:g} s")
    line = process.stdout.readline()
    if not line:
        raise NotReadyError(f"the gateway exited with status {process.wait()}")
    ready: dict[str, Any] = json.loads(line)
    if not ready["ready"]:
        raise NotReadyError("; ".join(ready["failed"]))
    return ready


def environment(mark: Path) -> dict[str, str]:
    """Return our environment with the witness's mark in its PATH, and a history of its own."""
    path = f"{os.environ.get('PATH', os.defpath)}:{mark}"
    return {**os.environ, "PATH": path, "SCOPEKEEPER_STATE": f"{mark}.state"}


def repository(folder: Path) -> Path:
    """Make a repository with one commit for the git servers."""
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    git += ["-c", "init.defaultBranch=main", "-c", "commit.gpgSign=false"]
    folder.mkdir()
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *command], check=True, stdin=subprocess.DEVNULL)
    return folder


def scopekeeper(*arguments: str, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run the installed command as an operator does, and return what it said."""
    return subprocess.run(
        [str(SCOPEKEEPER), *arguments], text=True, capture_output=True, check=False, env=dict(env),
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
