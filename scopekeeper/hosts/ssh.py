"""The call of ssh that runs a scopekeeper on another host. Pure.

It is the system's ssh with the user's own configuration: keys, ports, jump hosts and a shared
connection (``ControlPath``) are set there. It never asks: a host that wants a password, or whose
key is unknown, has failed.
"""

import re
import shlex
from collections.abc import Sequence

MARK = "--- scopekeeper answers ---"
"""The line before the answer: what a shell's start files print comes before it, and is dropped."""
CONNECT = 10
"""Seconds that a connection may take to come about."""
_OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": str(CONNECT),
    # a host that is gone ends the call after some 45 s
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "3",
    # of the configuration: what is for a session of a person
    "RemoteCommand": "none",
    "ClearAllForwardings": "yes",
}
# ssh gives commands a short PATH; pipx, uv and pip install to the folder that is added. The mark
# goes to both streams: each has its own noise before.
_SCRIPT = f'echo "{MARK}"; echo "{MARK}" >&2; PATH="$PATH:$HOME/.local/bin"; exec scopekeeper "$@"'
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def words(host: str, arguments: Sequence[str]) -> list[str]:
    """Return the words of the call; host was checked by ``names.check``."""
    options = [word for name, value in _OPTIONS.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-x", "-T", *options, "--", host, command(arguments)]


def command(arguments: Sequence[str]) -> str:
    """Return the command line for the login shell of the host, whichever that is.

    The script is for sh. Its quotes hold for any shell, and so do those of the arguments.
    """
    return " ".join(("sh", "-c", shlex.quote(_SCRIPT), "sh", *map(quote, arguments)))


def quote(word: str) -> str:
    r"""Quote a word for sh, bash, zsh, dash and fish, which reads ``\\`` inside of quotes too."""
    if _PLAIN.fullmatch(word):
        return word
    parts = re.split(r"([\\'])", word)
    return "".join(
        f"\\{part}" if at % 2 else f"'{part}'" for at, part in enumerate(parts) if part
    ) or "''"  # fmt: skip
