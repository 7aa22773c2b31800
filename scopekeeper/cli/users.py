"""``--all-users``, and users in output: commands handle the caller's scopes by default."""

import functools
import os
import pwd
from collections import Counter
from collections.abc import Callable, Iterable

from scopekeeper.errors import ScopekeeperError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _Command = TypeVar("_Command", bound=Callable[..., object])


def with_all_users(help_text: str) -> "Callable[[_Command], _Command]":
    """Add the option to a command; it is called with ``all_users``."""
    import click

    return click.option("--all-users", is_flag=True, help=help_text)


def uid_of(*, all_users: bool) -> int | None:
    """Return the uid whose scopes a command handles; None for all users."""
    return None if all_users else os.getuid()


def require_root(verb: str) -> None:
    """Raise ScopekeeperError unless root calls."""
    if os.geteuid() != 0:
        raise ScopekeeperError(f"only root can {verb}", "leave out --all-users")


@functools.cache  # the password database may be a server's
def user(uid: int) -> str:
    """Return a user's name; the uid if the user has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def user_fields(uid: int) -> dict[str, object]:
    """Return the JSON keys that name a user."""
    return {"uid": uid, "user": user(uid)}


def others(uids: Iterable[int]) -> str:
    """Return a line that counts scopes of other users, one uid for each; '' if there are none."""
    counted = Counter(uids)
    if not counted:
        return ""
    scopes, users = counted.total(), len(counted)
    return (
        f"{scopes} scope{'' if scopes == 1 else 's'} of {users} other "
        f"user{'' if users == 1 else 's'}: --all-users"
    )
