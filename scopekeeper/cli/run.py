"""``scopekeeper run``: the full command line; plain ones never come here (scopekeeper.launch)."""

import click

from scopekeeper.errors import UsageError
from scopekeeper.launch.run import run as launch


@click.command(
    "run",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
)
@click.option("-s", "--session", metavar="KEY", help="Session; else $SCOPEKEEPER_SESSION, "
              "else the owner's unit or pid-<parent>.")  # fmt: skip
@click.option("-l", "--lane", metavar="LANE", help="Lane; else $SCOPEKEEPER_LANE, else main.")
@click.option("-n", "--name", metavar="NAME", help="Name of the member; else the command's.")
@click.option("--run", metavar="RUN", help="Makes the scope unique within session and lane; "
              "else $SCOPEKEEPER_RUN.")  # fmt: skip
@click.option("--session-id", metavar="ID", help="The gateway's id of this life of the session; "
              "else $SCOPEKEEPER_SESSION_ID.")  # fmt: skip
@click.option("--kind", metavar="mcp|pty|exec", help="What is started. Default mcp.")
@click.option("--lifetime", metavar="gateway|session|detached",
              help="Who may end it. Default session for pty, else gateway.")  # fmt: skip
@click.option("--owner", metavar="PID", help="The gateway, where the parent is only a helper "
              "of it; else $SCOPEKEEPER_OWNER.")  # fmt: skip
@click.option("--replace", is_flag=True, help="First stop the earlier member of the same session, "
              "lane and name. Another gateway's stays.")  # fmt: skip
@click.option("--ttl", metavar="DURATION", help="End the scope after this long (90s, 15m, 2h).")
@click.option("--grace", metavar="DURATION", help="Time between SIGTERM and the kill. Default 5s.")
@click.option("--memory-max", metavar="SIZE", help="Limit of the scope, when it is made.")
@click.option("--memory-high", metavar="SIZE", help="Memory above which the scope is slowed.")
@click.option("--tasks-max", metavar="N", help="Most tasks in the scope.")
@click.option("--cpu-weight", metavar="1-10000", help="Share of the CPU, when the scope is made.")
@click.option("--member-memory-max", metavar="SIZE", help="Limit of this member alone.")
@click.option("--member-tasks-max", metavar="N", help="Most tasks of this member alone.")
@click.option("--placement", metavar="auto|user|system|cgroup:PATH",
              help="Where the scope is made; else $SCOPEKEEPER_PLACEMENT, else auto.")  # fmt: skip
@click.option("--no-bus", is_flag=True, help="Keep the way to the session bus and the user's "
              "manager out of the command's environment, so that it stays.")  # fmt: skip
@click.option("--real-shell", is_flag=True, help="Let SHELL name the real shell for the command "
              "where it names scopekeeper-shell.")  # fmt: skip
@click.option("--if-unavailable", metavar="fail|warn",
              help="Where nothing can be contained. Default fail: exit 125.")  # fmt: skip
@click.option("--own", metavar="PATH", multiple=True, help="Remove this file or folder when the "
              "last process of the member is gone. May be given again.")  # fmt: skip
@click.option("--own-scope", is_flag=True, help="Remove what --own names only when the whole "
              "scope is empty.")  # fmt: skip
@click.option("--require", metavar="PATH", multiple=True, help="Fail at once, with status 125, "
              "where this is missing. May be given again.")  # fmt: skip
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND [ARG]...")
def command(command: tuple[str, ...], **given: str | bool | tuple[str, ...] | None) -> None:
    """Start COMMAND inside the scope of its session and lane, and become it.

    The process stays the same: its pid, descriptors, terminal, environment and exit status are
    the command's. Exit status: the command's own; 125 where scopekeeper failed, 126 where the
    command cannot be executed, 127 where it is not found.
    """
    if not command:
        raise UsageError("no command given; write: scopekeeper run [OPTIONS] -- COMMAND [ARG]...")
    options = {
        name: "\0".join(value) if isinstance(value, tuple) else str(value)
        for name, value in given.items()
        if value not in (None, False, ())
    }
    launch(options, list(command))
