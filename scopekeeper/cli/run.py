"""``scopekeeper run`` with all its options; scopekeeper.launch parses plain calls without click."""

from collections.abc import Mapping

import click

from scopekeeper.cli.examples import examples
from scopekeeper.errors import UsageError
from scopekeeper.launch.run import run as launch


@click.command(
    "run",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    epilog=examples(
        "scopekeeper run -s agent:main:main -n time -- mcp-server-time",
        "scopekeeper run -s build --memory-max 2G --ttl 15m -- sh -c 'echo built'",
    ),
)
@click.option("-s", "--session", metavar="KEY", help="The session: the gateway's key, the "
              "same in each of its lives. Default: $SCOPEKEEPER_SESSION, else the client's own "
              "session (claude:<id>), else the owner's unit, or its program and pid "
              "(cursor-257).")  # fmt: skip
@click.option("-l", "--lane", metavar="LANE", help="The lane. Default: $SCOPEKEEPER_LANE, else "
              "main.")  # fmt: skip
@click.option("-n", "--name", metavar="NAME", help="The member's name. Default: the command's "
              "name.")  # fmt: skip
@click.option("--run", metavar="RUN", help="A run id: gives the run a scope of its own within "
              "session and lane. Default: $SCOPEKEEPER_RUN, in the same lane.")  # fmt: skip
@click.option("--session-id", metavar="ID", help="The gateway's id of one life of the session, "
              "another after each reset. Default: $SCOPEKEEPER_SESSION_ID.")  # fmt: skip
@click.option("--kind", metavar="mcp|pty|exec", help="The kind of the command. Default mcp.")
@click.option("--lifetime", metavar="gateway|session|detached",
              help="What the member ends with. Default session for pty, else gateway.")  # fmt: skip
@click.option("--owner", metavar="PID", help="The pid of the gateway that the member belongs "
              "to. Needed if the parent process is only a helper. Default: "
              "$SCOPEKEEPER_OWNER.")  # fmt: skip
@click.option("--replace", is_flag=True, help="First stop the earlier member of the same session, "
              "lane and name, unless another gateway owns it.")  # fmt: skip
@click.option("--ttl", metavar="DURATION", help="End the whole scope at this age (90s, 15m, "
              "2h). Set when the scope is created.")  # fmt: skip
@click.option("--grace", metavar="DURATION", help="Time between SIGTERM and SIGKILL. Default 5s.")
@click.option("--memory-max", metavar="SIZE", help="Memory limit of a new scope.")
@click.option("--memory-high", metavar="SIZE", help="Memory above which a new scope is throttled.")
@click.option("--memory-swap-max", metavar="SIZE", help="Swap limit of a new scope; 0 for no swap.")
@click.option("--tasks-max", metavar="N", help="Task limit of a new scope.")
@click.option("--cpu-weight", metavar="1-10000", help="CPU weight of a new scope.")
@click.option("--member-memory-max", metavar="SIZE", help="Memory limit of this member.")
@click.option("--member-memory-swap-max", metavar="SIZE", help="Swap limit of this member; 0 for "
              "no swap.")  # fmt: skip
@click.option("--member-tasks-max", metavar="N", help="Task limit of this member.")
@click.option("--placement", metavar="auto|user|system|cgroup:PATH",
              help="Where to create the scope. Default: $SCOPEKEEPER_PLACEMENT, else "
              "auto.")  # fmt: skip
@click.option("--stderr", metavar="inherit|journal|file", help="Where the command's stderr goes: "
              "where that of the caller does, to the journal, or to a file in the state folder "
              "that is kept small. Default inherit.")  # fmt: skip
@click.option("--no-bus", is_flag=True, help="Remove the addresses of the session bus and the "
              "user's manager from the command's environment, so that it stays in its "
              "scope.")  # fmt: skip
@click.option("--real-shell", is_flag=True, help="If SHELL names scopekeeper-shell, set SHELL to "
              "the real shell for the command.")  # fmt: skip
@click.option("--no-container", is_flag=True, help="Leave a docker or podman command line as it "
              "is: its container does not end with the member.")  # fmt: skip
@click.option("--if-unavailable", metavar="fail|warn",
              help="What to do if no scope can be created. Default fail: exit 125.")  # fmt: skip
@click.option("--own", metavar="PATH", multiple=True, help="Hand this file or folder over to the "
              "member: it is removed when the member's last process has ended. May be "
              "repeated.")  # fmt: skip
@click.option("--own-scope", is_flag=True, help="Remove --own paths only when the whole scope is "
              "empty.")  # fmt: skip
@click.option("--scratch", is_flag=True, help="Give the command a folder of its own as TMPDIR. It "
              "is removed when the member's last process has ended.")  # fmt: skip
@click.option("--require", metavar="PATH", multiple=True, help="Fail at once, with status 125, "
              "if this path is missing. May be repeated.")  # fmt: skip
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND [ARG]...")
def command(command: tuple[str, ...], **given: str | bool | tuple[str, ...] | None) -> None:
    """Start COMMAND in the scope of its session and lane.

    scopekeeper executes COMMAND in its own process, so pid, descriptors, terminal and environment
    stay the same. Of the arguments only those of `docker run` and `podman run` change: the
    container gets a label, by which it ends with the member. Exit status: the command's own; 125 if
    scopekeeper failed, 126 if the command cannot be executed, 127 if it is not found.
    """
    if not command:
        raise UsageError("no command given; write: scopekeeper run [OPTIONS] -- COMMAND [ARG]...")
    launch(as_given(given), list(command))


def as_given(options: Mapping[str, str | bool | tuple[str, ...] | None]) -> dict[str, str]:
    """Return the options that were given, as the launch reads them."""
    return {
        name: "\0".join(value) if isinstance(value, tuple) else str(value)
        for name, value in options.items()
        if value not in (None, False, ())
    }
