"""Draws the pictures of docs/concepts.md: ``python -m tests.pictures.diagrams``."""

from collections.abc import Sequence

from tests.pictures.__main__ import PICTURE
from tests.pictures.drawing import WIDTH, Drawing

FOLDER = PICTURE.parent
_INSIDE = WIDTH - 44
"""Where the boxes end; what is to the right of them is the way of the owner's end."""


def parts() -> str:
    """Return the picture of owner, session, scopes and members, and of what ends each."""
    it = Drawing(
        "An owner starts the members of a session. Each scope of the session has members, and "
        "each member has processes. A stop ends a session, a scope or a member. The owner's end "
        "ends members of lifetime gateway at once, and of lifetime session after a day."
    )
    it.box("owner", 14, 14, WIDTH - 28, 56)
    it.words(26, 37, "owner: my-gateway.service", "title", room=340)
    it.words(26, 57, "a gateway, in one life of it (its epoch)", "dim", room=340)
    it.arrow("plain", "M80 70V110")
    it.words(90, 95, "starts members, and owns each", room=240)
    it.box("session", 14, 112, _INSIDE - 14, 418)
    it.words(26, 135, "session agent:main:main", "title", room=310)
    it.ends(26, 155, ["scopekeeper stop -s agent:main:main"], room=310)
    _servers(it)
    _terminal(it)
    it.arrow("ending", f"M{WIDTH - 24} 70V243H{_INSIDE - 30}")
    it.arrow("ending", f"M{WIDTH - 24} 243V440H132")
    it.lines(
        14, 552,
        ["Dashed: what the end of the owner ends.", "Lifetime detached: ends only by a stop that",
         "names it."],
        "dim", room=WIDTH - 28,
    )  # fmt: skip
    return it.svg(600)


def _servers(it: Drawing) -> None:
    it.box("scope", 26, 166, _INSIDE - 38, 206)
    it.words(38, 188, "scope: lane main", "title", room=200)
    it.ends(38, 207, ["stop SCOPE; its time (ttl); idle"], room=290)
    for number, (name, processes) in enumerate((("time", 3), ("git", 2), ("fetch", 1))):
        x = 38 + 98 * number
        it.box("member", x, 218, 90, 50)
        it.words(x + 10, 237, name, "title", room=76)
        it.processes(x + 16, 254, processes)
    it.words(38, 287, "members: MCP servers, lifetime gateway", room=300)
    it.ends(
        38, 307,
        ["its owner has ended: at once", "stop -n NAME", "nobody can talk to it any more",
         "its command has ended: its leftovers"],
        room=290,
    )  # fmt: skip


def _terminal(it: Drawing) -> None:
    it.box("scope", 26, 382, _INSIDE - 38, 136)
    it.words(38, 404, "scope: lane main, run 4f1d09c7", "title", room=300)
    it.box("member", 38, 415, 90, 50)
    it.words(48, 434, "bash", "title", room=76)
    it.processes(54, 451, 2)
    it.words(38, 484, "member: a terminal, lifetime session", room=300)
    it.ends(38, 504, ["its owner has ended: after a day"], room=290)


def launch() -> str:
    """Return the picture of a launch."""
    steps = (
        ("scope", "Find the scope of session and lane",
         ["None: ask systemd for one. Without", "systemd: make a cgroup."]),
        ("scope", "Make a cgroup for the member", ["A directory inside the scope's."]),
        ("scope", "Write the record",
         ["Owner, times, kind and lifetime, as an", "attribute of that cgroup."]),
        ("scope", "Move in", ["This process, by its own write to", "cgroup.procs."]),
        ("member", "Become the command (execve)",
         ["Same pid, pipes and terminal. No process", "of scopekeeper stays."]),
    )  # fmt: skip
    it = Drawing(
        "A launch: find or make the scope, make a cgroup for the member, write the record, move "
        "in, become the command."
    )
    y = _time_line(it, "scopekeeper run", "the command", steps)
    return it.svg(y)


def stop() -> str:
    """Return the picture of a stop."""
    steps = (
        ("scope", "Mark the record",
         ["From now on no launch joins. Why it ends", "is in a file before that."]),
        ("scope", "SIGTERM to every process",
         ["And SIGCONT. Interactive shells get", "SIGHUP too."]),
        ("scope", "Wait for the kernel, up to the grace",
         ["populated 0 in cgroup.events."]),
        ("scope", "cgroup.kill, if anything lives",
         ["The kernel kills all of it at once, forks", "included."]),
        ("scope", "Look once more", ["Only what is empty now counts as ended."]),
    )  # fmt: skip
    it = Drawing(
        "A stop: mark the record, send SIGTERM, wait up to the grace, kill the cgroup, look once "
        "more. Empty: exit status 0. Something lives: exit status 5."
    )
    y = _time_line(it, "scopekeeper stop", "", steps)
    half = (WIDTH - 38) / 2
    for number, (kind, title, words) in enumerate((
        ("member", "Empty", ["History written,", "scope removed:", "exit status 0"]),
        ("end", "Not empty", ["What lives is named,", "nothing is forgotten:", "exit status 5"]),
    )):  # fmt: skip
        x = 14 + number * (half + 10)
        it.box(kind, x, y, half, 92)
        it.words(x + 12, y + 23, title, "title", room=half - 20)
        it.lines(x + 12, y + 42, words, "dim", room=half - 20)
    return it.svg(y + 106)


def _time_line(
    it: Drawing, before: str, after: str, steps: Sequence[tuple[str, str, list[str]]]
) -> float:
    """Add a process as a line, and its steps; return where it ends.

    before is what runs, after what it is from the last step on, '' if it stays the same.
    """
    it.words(14, 30, before, "title", room=200)
    x, y, top = 30.0, 60.0, 42.0
    heights = [32 + 18 * len(words) for _, _, words in steps]
    whole = sum(heights) + 6
    kept = whole - heights[-1] if after else whole
    it.bar("scope", x, top, kept)
    if after:
        it.bar("member", x, top + kept, whole - kept)
    for number, ((kind, title, words), height) in enumerate(zip(steps, heights, strict=True), 1):
        it.step(kind, x, y, number)
        it.words(54, y + 5, title, "title", room=WIDTH - 66)
        it.lines(54, y + 24, words, "dim", room=WIDTH - 66)
        y += height
    if after:
        it.words(14, y + 14, after, "title", room=200)
        return y + 30
    return y + 6


PICTURES = {"parts.svg": parts, "launch.svg": launch, "stop.svg": stop}


if __name__ == "__main__":
    for name, drawn in PICTURES.items():
        (FOLDER / name).write_text(drawn(), encoding="utf-8")
