"""Reads and compares the options of ``scopekeeper run`` in the args of a wrapped server. Pure."""

import shlex
from collections.abc import Mapping, Sequence

from scopekeeper.launch.arguments import FLAGS, REPEATED, parse
from scopekeeper.mcp_configs.quoting import member_name
from scopekeeper.mcp_configs.servers import PROGRAM

NAME = "--name"
_CHOSEN = ("name", "kind")
"""What ``wrap`` chooses itself."""
_UNCLEAR = {"": ""}


def options_in(words: Sequence[str]) -> Mapping[str, str]:
    """Return the options in ``run …``, without its name and kind."""
    parsed = parse([*words[1:], PROGRAM])
    options = parsed[0] if parsed else _UNCLEAR
    return {key: value for key, value in options.items() if key not in _CHOSEN}


def spelled(options: Mapping[str, str]) -> list[str]:
    """Return each option as it is typed in a shell, one text for each."""
    typed = []
    for key, value in options.items():
        option = f"--{key.replace('_', '-')}"
        if key in FLAGS.values():
            typed.append(option)
            continue
        values = value.split("\0") if key in REPEATED.values() else [value]
        typed += [f"{option} {shlex.quote(each)}" for each in values]
    return typed


def name_in(words: Sequence[str], server: str) -> list[str]:
    """Return the name option for a wrapped server, with the name that it has."""
    parsed = parse([*words[1:], PROGRAM])
    name = parsed[0].get("name") if parsed else None
    if name and f"{NAME}={name}" in words:  # it marks args that were empty
        return [f"{NAME}={name}"]
    return [NAME, name or member_name(server)]
