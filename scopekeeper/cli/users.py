"""``--all-users``: a command is about the scopes of its own user, unless asked for everybody's."""

import functools
import os
import pwd
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

import click

from scopekeeper.errors import ScopekeeperError

_Command = TypeVar("_Command", bound=Callable[..., object])


def with_all_users(help_text: str) -> Callable[[_Command], _Command]:
    """Give a command the option; it is called with ``all_users``."""
    return click.option("--all-users", is_flag=True, help=help_text)


def uid_of(*, all_users: bool) -> int | None:
    """Return the uid whose scopes are meant, None for everybody's."""
    return None if all_users else os.getuid()


def require_root(verb: str) -> None:
    """Refuse what only root can do for others; raises ScopekeeperError."""
    if os.geteuid() != 0:
        raise ScopekeeperError(f"only root can {verb}", "leave out --all-users")


@functools.cache  # the password database may be a server's
def user(uid: int) -> str:
    """Return a user's name, the number of one without."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def others(uids: Iterable[int]) -> str:
    """Return a line on scopes of other users, given by the uid of each; '' where there are none."""
    counted = Counter(uids)
    if not counted:
        return ""
    scopes, users = counted.total(), len(counted)
    return (
        f"{scopes} scope{'' if scopes == 1 else 's'} of {users} other "
        f"user{'' if users == 1 else 's'}: --all-users"
    )
