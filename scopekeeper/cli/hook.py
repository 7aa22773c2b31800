"""``scopekeeper hook``: its help. ``scopekeeper.main`` starts the hook itself, without click."""

import sys

import click

from scopekeeper.cli.examples import examples
from scopekeeper.clients.known import built_in


@click.command(
    "hook",
    context_settings={"ignore_unknown_options": True},
    epilog=examples("scopekeeper hook claude SessionEnd", "scopekeeper hook gemini SessionEnd"),
)
@click.argument("client")
@click.argument("event")
def command(client: str, event: str) -> None:
    """Have a client's hook name its session, and end what the client leaves behind.

    The client calls it when a session starts or ends, with the event as JSON on stdin. It returns
    at once, prints nothing and exits 0, whatever happens: the client has to go on as without it. A
    line in the journal names a CLIENT or an EVENT that is unknown.

    CLIENT is {clients}, or one of yours in clients.toml. EVENT is the client's name for it, such as
    SessionEnd.

    At the start of a session, a process of its own labels what the client's process has started, if
    its servers do not have the id of the session: codex-257 gets the label codex:ID. It waits at
    most ten seconds for the first server. Nothing is labelled for a process that has several
    sessions at a time, such as Codex's daemon.

    At the end of a session, a process of its own waits until the client has ended, at most 30
    seconds. Then it does what `scopekeeper reconcile --owner PID` does for the client's process. As
    long as that runs, nothing is stopped, with one exception: some clients, such as Codex, go on
    without the servers of a session that has ended. What such a client itself started in that
    session is stopped after two seconds.

    Exit status: 0.
    """
    from scopekeeper.cli.main import group
    from scopekeeper.hook.front import hook

    def call(words: list[str]) -> None:
        sys.exit(group.main(words, prog_name="scopekeeper", standalone_mode=False))

    hook([client, event], call)


_CLIENTS = ", ".join(each.short for each in built_in() if each.hooks)
command.help = (command.help or "").replace("{clients}", _CLIENTS)
