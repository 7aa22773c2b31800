"""Groups of hosts: the file ``hosts.toml`` beside the policy. Later files override earlier ones.

::

    [groups]
    build = ["build1", "build2"]
    gateways = ["root@gateway1", "gateway2"]
"""

import tomllib
from collections.abc import Mapping, Sequence

from scopekeeper import regular_files
from scopekeeper.errors import ScopekeeperError, UsageError
from scopekeeper.hosts import names
from scopekeeper.policy.files import find_file

FILE = "hosts.toml"
_FOLDER = "~/.config/scopekeeper"
Groups = Mapping[str, Sequence[str]]


class HostsError(ScopekeeperError):
    """An invalid table of hosts; names the file and the group."""


def load(warnings: list[str]) -> Groups:
    """Return the hosts of each group; a foreign file becomes a warning. Raises HostsError."""
    found = find_file(FILE, "the table of hosts")
    warnings += found.ignored
    groups: dict[str, Sequence[str]] = {}
    for path in found.sources:
        try:
            text = regular_files.read(path, follow=True).decode("utf-8")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HostsError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise HostsError(f"{path}: not UTF-8 (byte {error.start})") from None
        groups |= parse(path, text)
    return groups


def parse(path: str, text: str) -> Groups:
    """Return the groups of one file; raises HostsError. Pure."""
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise HostsError(f"{path}: it is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, or a number that int() refuses
        raise HostsError(f"{path}: {error}") from None
    for key in document:
        if key != "groups":
            raise HostsError(f"{path}: unknown table {key[:40]!r}", "write [groups]")
    groups = document.get("groups", {})
    if not isinstance(groups, dict):
        raise HostsError(f"{path}: groups is no table", "write [groups]")
    for name, hosts in groups.items():
        _check(f"{path}: {name[:64]}", name, hosts)
    return groups


def _check(where: str, name: str, hosts: object) -> None:
    if not names.GROUP.fullmatch(name):
        raise HostsError(f"{where}: a group's name has letters, digits, and . _ - alone")
    if not isinstance(hosts, list) or not all(isinstance(each, str) for each in hosts):
        raise HostsError(f"{where}: it is a list of hosts", f'write {name} = ["HOST", "HOST"]')
    for host in hosts:
        if wrong := names.problem(host):
            raise HostsError(f"{where}: {host!r} is no host", wrong)


def resolve(wanted: Sequence[str], groups: Groups) -> list[str]:
    """Return the hosts that words name, each once, in their order; ``@GROUP`` is all of a group.

    Raises UsageError.
    """
    found: list[str] = []
    for word in wanted:
        if not word.startswith("@"):
            found.append(names.check(word))
        elif word[1:] in groups:
            found += groups[word[1:]]
        else:
            raise UsageError(f"there is no group {word!r}", _known(groups))
    hosts = list(dict.fromkeys(found))
    if not hosts:
        raise UsageError(f"{' '.join(wanted)} has no hosts", f"{_FOLDER}/{FILE} names them")
    if len(hosts) > names.MOST:
        raise UsageError(f"{len(hosts)} hosts", f"one call asks {names.MOST} at most")
    return hosts


def _known(groups: Groups) -> str:
    if not groups:
        return f"{_FOLDER}/{FILE} names groups, and there is none"
    return f"there are {', '.join(f'@{name}' for name in groups)}"
