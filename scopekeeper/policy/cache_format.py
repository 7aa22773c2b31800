"""The format and the path of the cache of launch options. No I/O but one stat."""

import posix

from scopekeeper.scope.records import LIFETIMES

DURATIONS = ("ttl", "grace", "timeout", "no_output_timeout", "wait_most")
COUNTS = ("max_scopes", "min_available", "max_pressure", "oom_score_adjust", "scratch_max")
LIMITS = (
    "memory_max", "memory_high", "memory_swap_max", "tasks_max", "cpu_weight", "member_memory_max",
    "member_memory_swap_max", "member_tasks_max",
)  # fmt: skip
CHOICES = {
    "ephemeral": ("0", "1"), "replace": ("1",), "supersede": ("1",), "lifetime": LIFETIMES,
    "when_full": ("refuse", "stop-orphan"), "when_short": ("refuse", "wait"),
    "managed_oom_preference": ("none", "avoid", "omit"),
    "scratch": ("0", "1"),
    "stderr": ("inherit", "journal", "file"),
}  # fmt: skip
"""The compiled settings: microseconds with their unit, numbers, numbers or infinity, choices."""
_DIGITS = 19


def is_valid(key: str, value: str) -> bool:
    """Return whether the cache may hold this value of a setting."""
    if key in CHOICES:
        return value in CHOICES[key]
    if key in DURATIONS and value.endswith("us"):
        value = value[:-2]
    elif key in LIMITS and value == "infinity":
        return True
    elif key not in COUNTS and key not in LIMITS:
        return False
    return value.isascii() and value.isdecimal() and len(value) <= _DIGITS


def compiled_path() -> str:
    """Return the path of the compiled rules; '' without a runtime directory."""
    return runtime_path("rules")


def runtime_path(name: str) -> str:
    """Return the path of a file of ours in the runtime directory; '' without that."""
    uid = posix.getuid()
    runtime = "/run" if uid == 0 else f"/run/user/{uid}"
    try:
        return f"{runtime}/scopekeeper/{name}" if posix.stat(runtime).st_uid == uid else ""
    except OSError:
        return ""
