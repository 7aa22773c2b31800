"""What the value of a rule may be. Pure."""

from collections.abc import Mapping

from scopekeeper import quantities
from scopekeeper.scope.records import LIFETIMES

Value = str | int | bool | None

FOREVER = -1
"""A duration without an end, in microseconds."""
CHOICES: Mapping[str, tuple[str, ...]] = {
    "lifetime": LIFETIMES,
    "orphans": ("stop", "report"),
    "on_leader_exit": ("stop", "linger"),
    "when_full": ("refuse", "stop-orphan"),
    "when_short": ("refuse", "wait"),
    "stderr": ("inherit", "journal", "file"),
    "idle_of": ("scope", "member"),
    "escaped": ("report", "return", "stop"),
    "managed_oom_preference": ("none", "avoid", "omit"),
}
DURATIONS = (
    "orphan_grace", "session_grace", "leader_grace", "abandoned_grace", "ttl", "grace", "timeout",
    "no_output_timeout", "idle", "wait_most",
)  # fmt: skip
_ENDLESS = (
    "session_grace", "orphan_grace", "abandoned_grace", "ttl", "timeout", "no_output_timeout",
    "idle",
)  # fmt: skip
"""Durations that may be ``infinity``."""
_FLAGS = ("ephemeral", "replace", "supersede", "rewrap", "scratch")
_NUMBERS = {
    "max_scopes": (1, 2**63 - 1, "a whole number above zero"),
    "max_pressure": (0, 99, "a whole number of percent, from 0 to 99"),
    "oom_score_adjust": (0, 1000, "a whole number from 0 to 1000"),
}
_COUNTS = ("tasks_max", "member_tasks_max", "cpu_weight")


def checked(key: str, value: object) -> Value:
    """Return a value from TOML as the rules have it; raises ValueError with one sentence."""
    if key in _FLAGS:
        if not isinstance(value, bool):
            raise ValueError(f"{key} is true or false")
        return value
    if key in _NUMBERS:
        least, most, shape = _NUMBERS[key]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"{key} is {shape}")
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        shape = "a whole number" if key in _COUNTS else "a text in quotes"
        raise ValueError(f"{key} is {shape}")  # noqa: TRY004  all are wrong values
    return _of_text(key, str(value))


def by_key(key: str, error: ValueError) -> str:
    """Return what is wrong with a value; the key is named as in the file, not as an option."""
    return str(error).replace(f"--{key.replace('_', '-')}:", f"{key}:", 1).removeprefix("--")


def _of_text(key: str, text: str) -> Value:
    if key in CHOICES:
        if text not in CHOICES[key]:
            raise ValueError(f"{key} is {' or '.join(map(repr, CHOICES[key]))}, not {text!r}")
        return text
    if key in DURATIONS:
        if text == "infinity" and key in _ENDLESS:
            return FOREVER if key.endswith("grace") else None
        return quantities.duration(key, text)
    if key == "scratch_max" and text == "infinity":
        return text
    if key in ("min_available", "scratch_max"):
        quantities.size(key, text)
    else:
        quantities.limit(key, text)
    return text
