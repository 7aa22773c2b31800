"""What a started process sees of itself, as the kernel shows it."""

import os
import stat
from dataclasses import dataclass

from tests.machine import environment_of, signal_set, text_of

from .census import words_of

OURS = "SCOPEKEEPER_"
_LIMITS = ("Max open files", "Max core file size", "Max processes", "Max locked memory")


@dataclass(frozen=True, slots=True)
class Seen:
    """Two of these are equal where the two processes cannot tell how they were started."""

    words: list[str]
    environment: dict[str, str]
    descriptors: dict[int, str]
    signals: dict[str, int]
    folder: str
    others: dict[str, str]

    @property
    def ours(self) -> set[str]:
        """The names of the variables that scopekeeper added."""
        return {name for name in self.environment if name.startswith(OURS)}

    @property
    def without_ours(self) -> dict[str, str]:
        """The environment that is not scopekeeper's."""
        return {k: v for k, v in self.environment.items() if k not in self.ours}


def look(pid: int) -> Seen:
    """Look at a process that has come up."""
    status = dict(
        line.split(":\t", 1)
        for line in text_of(f"/proc/{pid}/status").splitlines()
        if ":\t" in line
    )
    limits = {
        line[:26].strip(): line[26:].strip() for line in text_of(f"/proc/{pid}/limits").splitlines()
    }
    return Seen(
        words_of(pid),
        environment_of(pid),
        dict(_descriptors(pid)),
        {name: signal_set(pid, name) for name in ("SigBlk", "SigIgn", "ShdPnd")},
        os.readlink(f"/proc/{pid}/cwd"),
        {
            "umask": status["Umask"],
            "no_new_privs": status["NoNewPrivs"],
            "oom_score_adj": text_of(f"/proc/{pid}/oom_score_adj").strip(),
            **{name: limits[name] for name in _LIMITS},
        },
    )


def _descriptors(pid: int) -> list[tuple[int, str]]:
    """Return the standard streams and what else was handed down: what kind each is.

    What a server has opened by itself (event loops, files) comes and goes; what is handed down are
    pipes and sockets with low numbers.
    """
    folder, found = f"/proc/{pid}/fd", []
    for number in sorted(int(name) for name in os.listdir(folder)):
        try:
            target = os.readlink(f"{folder}/{number}")
            mode = os.stat(f"{folder}/{number}").st_mode
        except FileNotFoundError:
            continue
        kind = stat.filemode(mode)[0]
        name = target.partition(":")[0] if ":[" in target else target
        found.append((number, f"{kind} {name}"))
    return found
