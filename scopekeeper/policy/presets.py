"""Policy files to begin with, for machines of three sorts; sizes follow from the memory. Pure."""

import functools
from dataclasses import dataclass

from scopekeeper.quantities import show_bytes

_MIB, _GIB = 1 << 20, 1 << 30
_LEAST = 64 * _MIB
_KEPT, _SESSION, _MEMBER = _GIB // 8, _GIB // 2, _GIB // 4
"""What is kept, and what a session and a member get, at least, if there is so much."""
_BROWSER = 3 * _GIB // 2, 4 * _GIB
"""What a browser with a few pages takes, and with many."""


@dataclass(frozen=True, slots=True)
class _Preset:
    """A sort of machine; sizes are parts of its memory."""

    purpose: str
    kept: float
    """What is left available for everything else,"""
    kept_most: int
    """at most, in bytes."""
    of_session: float
    of_member: float
    pressure: int
    bytes_per_scope: int
    """The memory for which a lane of short runs gets one more scope."""


_PRESETS = {
    "small": _Preset(
        "a small machine, such as a VPS or a Raspberry Pi",
        1 / 8, _GIB // 2, 3 / 4, 1 / 2, 20, _GIB // 2,
    ),
    "workstation": _Preset(
        "a workstation, whose user comes first", 1 / 6, 8 * _GIB, 2 / 3, 1 / 2, 20, _GIB,
    ),
    "server": _Preset(
        "a server for many sessions", 1 / 16, 8 * _GIB, 1 / 2, 1 / 4, 40, _GIB,
    ),
}  # fmt: skip
NAMES = tuple(_PRESETS)

_TEXT = """\
# Rules of scopekeeper for {purpose},
# with {total} of memory.
#
# Save it as ~/.config/scopekeeper/config.toml, for root as
# /etc/scopekeeper/config.toml, and change what does not fit.
# `scopekeeper policy check` checks it, `scopekeeper policy show` shows what is
# in force. The options of a launch override all of it.

[lanes.default]
# A launch waits while the machine has less memory available than this, and
# fails after wait_most. Clients give a server 10 s (Codex) or 30 s to start.
min_available = "{kept}"
# It waits as well while processes wait for memory in more than this share of
# the time, in percent.
max_pressure = {pressure}
when_short = "wait"
wait_most = "8s"

# One session in one lane, with all its servers and commands. The kernel slows
# it down above memory_high; above memory_max it kills something in it.
memory_high = "{high}"
memory_max = "{session}"
tasks_max = 4000

# One server or command. Above its limit of memory, the kernel kills it with all
# that it started, and nothing else.
member_memory_max = "{member}"
member_memory_swap_max = "{swap}"
member_tasks_max = 1000

# If the machine runs out of memory all the same, the kernel kills one of them
# before the gateway and the programs of people (0 to 1000, 1000 is the first).
oom_score_adjust = 500

# Lanes whose sessions live for one run: so many at once. A launch beyond that
# ends the oldest one that an ended gateway left behind, or fails.
[lanes.cron]
max_scopes = {scopes}
when_full = "stop-orphan"
wait_most = "5m"      # nobody sits and waits for it
# ttl = "6h"          # a run ends at this age

[lanes.subagent]
max_scopes = {scopes}
when_full = "stop-orphan"

# MCP servers by the names that `scopekeeper ls --members` shows: those with a
# browser grow.
[servers.playwright]
member_memory_max = "{browser}"

[servers.chrome-devtools]
member_memory_max = "{browser}"
"""


def text(name: str, total_bytes: int) -> str:
    """Return the file of a preset of NAMES for a machine with so much memory."""
    preset = _PRESETS[name]
    part = functools.partial(_part, total_bytes)
    session, member = part(preset.of_session, _SESSION), part(preset.of_member, _MEMBER)
    return _TEXT.format(
        purpose=preset.purpose,
        total=show_bytes(total_bytes),
        kept=_size(part(preset.kept, _KEPT, preset.kept_most)),
        pressure=preset.pressure,
        high=_size(session * 7 // 8),
        session=_size(session),
        member=_size(member),
        swap=_size(member // 4),
        scopes=max(2, total_bytes // preset.bytes_per_scope),
        browser=_size(min(part(1 / 8, *_BROWSER), member)),
    )


def _part(total: int, share: float, least: int, most: int | None = None) -> int:
    """Return a share of the memory, at least and at most so much, and never above a half of it.

    A larger share is as large as it is.
    """
    wanted = max(round(total * share), least)
    return min(wanted, most or wanted, round(total * max(share, 1 / 2)))


def _size(count: int) -> str:
    """Return a size as a person would write it, rounded down: ``192M``, ``1.5G``, ``12G``."""
    count = max(count, _LEAST)
    steps = ((_GIB, 64 * _MIB), (2 * _GIB, _GIB // 4), (8 * _GIB, _GIB // 2))
    step = next((step for below, step in steps if count < below), _GIB)
    count -= count % step
    return f"{count // _MIB}M" if count < _GIB else f"{count / _GIB:.12g}G"
