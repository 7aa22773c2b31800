"""Compiles the policy into the few lines that a launch reads instead of TOML.

The first line is the signature of the files. Each other line has a lane class ('' for all other
classes) and options of ``run``, separated by tabs.
"""

import contextlib
import os

from scopekeeper import quantities, whole_file
from scopekeeper.policy.cache_format import DURATIONS, NUMBERS, compiled_path
from scopekeeper.policy.load import load
from scopekeeper.policy.rules import DEFAULT, Policy, Value
from scopekeeper.policy.toml_file import PolicyError
from scopekeeper.scope.names import EPHEMERAL_LANES

_FLAGS = ("replace", "supersede")
_TEXTS = ("lifetime", "when_full")


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
    """Return a line for every lane class of the policy and built in, and one for all others."""
    named = sorted({*policy.lanes, *EPHEMERAL_LANES} - {DEFAULT})
    return [_line("", policy, DEFAULT), *(_line(each, policy, each) for each in named)]


def _line(name: str, policy: Policy, lane_class: str) -> str:
    said = {key: setting.value for key, setting in policy.settings(lane_class).items()}
    options = [f"ephemeral={int(bool(said['ephemeral']))}"]
    options += [f"{key}={said[key]}us" for key in DURATIONS if said[key] is not None]
    options += [f"{key}=1" for key in _FLAGS if said[key]]
    if said["max_scopes"] is None:
        del said["when_full"]
    options += [f"{key}={said[key]}" for key in _TEXTS if said.get(key) is not None]
    options += [f"{key}={_number(key, said[key])}" for key in NUMBERS if said[key] is not None]
    return "\t".join((name, *options))


def _number(key: str, value: Value) -> str:
    if key == "max_scopes":
        return str(value)
    number = quantities.limit(key, str(value))
    return "infinity" if number == quantities.UNLIMITED else str(number)
