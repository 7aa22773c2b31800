"""The names of hosts as ssh takes them. Pure.

ssh takes a name that begins with ``-`` for an option, and its configuration can pass names to
programs (``ProxyCommand``, ``Match exec``): so only plain characters are accepted.
"""

import re

from scopekeeper.errors import UsageError

MOST = 256
"""Hosts in one call."""
GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
"""The name of a group, without its ``@``."""
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}")
"""An IPv6 address has two colons at least."""


def problem(text: str) -> str:
    """Return what is wrong with ``[USER@]HOST``, '' if nothing is."""
    user, at, host = text.rpartition("@")
    if at and not _USER.fullmatch(user):
        return "the user has letters, digits, and . _ - alone"
    if _NAME.fullmatch(host) or (host.count(":") > 1 and _ADDRESS.fullmatch(host)):
        return ""
    if host.count(":") == 1:
        return "give its port in ~/.ssh/config"
    return "a host has letters, digits, and . _ - alone, and does not begin with -"


def check(text: str) -> str:
    """Return ``[USER@]HOST``; raises UsageError for anything else."""
    if wrong := problem(text):
        raise UsageError(f"{text!r} is no host", wrong)
    return text
