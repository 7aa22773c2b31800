"""Measures short calls: the version, an error, a list of three scopes, a detached run."""

import contextlib
import os
import subprocess

from benchmarks.launch import SCOPEKEEPER, fresh, interpreter, living_scope, ours
from benchmarks.measure import Command, Row, medians

FALSE = ["/bin/sh", "-c", '"$@" || true', "sh", SCOPEKEEPER, "no-such-command"]
"""The error for an unknown command; a measured command has to exit 0."""


def starting(rounds: int, block: int) -> list[Row]:
    """Compare them with the bare interpreter, and a detached run with one launch."""
    bare = [interpreter(), "-I", "-S", "-c", "pass"]
    shown = fresh("shown")
    commands: dict[str, Command] = {
        "floor": lambda: bare,
        "version": lambda: [SCOPEKEEPER, "--version"],
        "error": lambda: FALSE,
        "floor by sh": lambda: ["/bin/sh", "-c", '"$@" || true', "sh", *bare],
        "ls": lambda: [SCOPEKEEPER, "ls"],
    }
    runs: dict[str, Command] = {
        "run": lambda: ours(shown, "-n", "true"),
        "exec": lambda: [SCOPEKEEPER, "exec", "-d", "-s", fresh("detached"), "--", "/bin/true"],
    }
    with contextlib.ExitStack() as stack:
        for session in (shown, fresh("shown"), fresh("shown")):
            stack.enter_context(living_scope(session))
        found = medians(commands, rounds=rounds, block=block)
        first = [SCOPEKEEPER, "exec", "-d", "-s", fresh("first"), "--", "/bin/true"]
        subprocess.run(first, stdout=subprocess.DEVNULL, check=True, env=os.environ)
        found |= medians(runs, rounds=rounds, block=block)
    floor = "python3 -I -S -c pass"
    return [
        Row("--version", found["version"], floor, found["floor"], 1.5),
        Row("an unknown command, by sh", found["error"], f"{floor}, by sh", found["floor by sh"],
            1.5),
        Row("ls, 3 scopes", found["ls"], floor, found["floor"], 3.0),
        Row("exec -d", found["exec"], "run, joining a scope", found["run"], 3.0),
    ]  # fmt: skip
