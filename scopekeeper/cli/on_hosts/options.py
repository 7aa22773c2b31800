"""``-H``: a command that asks other hosts instead of this machine, as ``systemctl -H`` does."""

import functools
from collections.abc import Callable
from typing import Any

import click

_Command = Callable[..., Any]
HOST = "[USER@]HOST|@GROUP"
"""Metavar of the option."""


option = click.option(
    "-H", "--host", "hosts", metavar=HOST, multiple=True, help="Ask this host by ssh instead of "
    "this machine; @GROUP is a group of hosts.toml. May be repeated.",
)  # fmt: skip


def with_hosts(module: str) -> Callable[[_Command], _Command]:
    """Add ``-H`` to a command; it has to be the first of the command's decorators.

    module is the file beside this one whose ``plan(given)`` returns a ``call.Plan``: what is
    asked of the hosts, and how their answers are printed. given has the command's parameters.
    """

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def with_option(hosts: tuple[str, ...], **given: Any) -> Any:  # noqa: ANN401
            if not hosts:
                return command(**given)
            from scopekeeper.cli.on_hosts import call  # few calls have hosts

            return call.call(module, hosts, click.get_current_context())

        return option(with_option)

    return decorate
