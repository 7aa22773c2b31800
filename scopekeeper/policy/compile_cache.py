"""Compiles the policy into the few lines that a launch reads instead of TOML.

The first line is the signature of the files. Each other line has a lane class ('' for all other
classes), or a colon and the name of a server, and options of ``run``, separated by tabs.
"""

import contextlib
import os
from collections.abc import Mapping

from scopekeeper import quantities, whole_file
from scopekeeper.policy.cache_format import COUNTS, DURATIONS, LIMITS, compiled_path
from scopekeeper.policy.load import load
from scopekeeper.policy.rules import BUILT_IN, DEFAULT, Policy
from scopekeeper.policy.toml_file import PolicyError
from scopekeeper.policy.values import Value
from scopekeeper.scope.names import EPHEMERAL_LANES

_SWITCHES = ("ephemeral", "scratch")
"""Rules that can also turn off what another table, or a default, turns on."""
_FLAGS = ("replace", "supersede")
_TEXTS = ("lifetime", "when_full", "when_short", "managed_oom_preference", "stderr")


def refresh(signature: str) -> tuple[str, str]:
    """Compile the policy and cache it; return the lines, and the problem with the files."""
    try:
        text = "\n".join((signature, *lines(load())))
    except PolicyError as error:
        return "", f"{error}; what was in force before it stays"
    path = compiled_path()
    if path:
        with contextlib.suppress(OSError):  # the next launch compiles it again
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(path), 0o755)
            whole_file.replace(path, text.encode("utf-8", "surrogateescape"))
    return text, ""


def lines(policy: Policy) -> list[str]:
    """Return a line for each lane class and server of the policy, and one for all other lanes."""
    named = sorted({*policy.lanes, *EPHEMERAL_LANES} - {DEFAULT})
    servers = [
        _line(f":{name}", {key: setting.value for key, setting in table.items()})
        for name, table in sorted(policy.servers.items())
    ]
    of_lanes = [_of_lane("", policy, DEFAULT), *(_of_lane(each, policy, each) for each in named)]
    return of_lanes + servers


def _of_lane(name: str, policy: Policy, lane_class: str) -> str:
    settings = policy.settings(lane_class)
    said = {key: each.value for key, each in settings.items() if each.source != BUILT_IN}
    return _line(name, said | {"ephemeral": bool(settings["ephemeral"].value)})


def _line(name: str, said: Mapping[str, Value]) -> str:
    given = {key: value for key, value in said.items() if value is not None}
    options = [f"{key}={int(bool(given[key]))}" for key in _SWITCHES if key in given]
    options += [f"{key}={given[key]}us" for key in DURATIONS if key in given]
    options += [f"{key}=1" for key in _FLAGS if given.get(key)]
    options += [f"{key}={given[key]}" for key in _TEXTS if key in given]
    options += [f"{key}={_count(key, given[key])}" for key in COUNTS if key in given]
    options += [f"{key}={_limit(key, given[key])}" for key in LIMITS if key in given]
    return "\t".join((name, *options))


def _count(key: str, value: Value) -> int:
    """Return a number; 0 for a size without an end."""
    if value == "infinity":
        return 0
    return value if isinstance(value, int) else quantities.size(key, str(value))


def _limit(key: str, value: Value) -> str:
    number = quantities.limit(key, str(value))
    return "infinity" if number == quantities.UNLIMITED else str(number)
