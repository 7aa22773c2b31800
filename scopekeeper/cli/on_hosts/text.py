"""What ``why -H`` and ``stop -H`` print: the sentences of each host, after its name."""

from collections.abc import Mapping
from typing import Any

from scopekeeper.cli.on_hosts.call import Plan, refuse
from scopekeeper.cli.on_hosts.lists import print_lines
from scopekeeper.hosts.answer import Fields


def plan(given: Mapping[str, Any]) -> Plan[list[str]]:
    """Return what hosts are asked; raises UsageError."""
    refuse(given, mine="--mine")
    is_stop = "dry_run" in given
    return Plan(_read, print_lines, kept=("no_trunc",), acts=is_stop and not given["dry_run"])


def _read(document: Fields) -> list[str]:
    return document.texts("lines")
