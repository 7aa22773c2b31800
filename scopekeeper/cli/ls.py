"""``scopekeeper ls``."""

import click

from scopekeeper.cli.ended_runs import ENDED
from scopekeeper.cli.examples import examples
from scopekeeper.cli.list_options import with_list_options
from scopekeeper.cli.list_view import ListOptions
from scopekeeper.cli.ls_list import show
from scopekeeper.cli.ls_rows import COLUMNS
from scopekeeper.cli.on_hosts.options import with_hosts
from scopekeeper.cli.select_options import with_target_options
from scopekeeper.cli.users import with_all_users
from scopekeeper.scope.selection import STATES, Selector


@click.command(
    "ls",
    epilog=examples(
        "scopekeeper ls",
        "scopekeeper ls -s agent:main:main --members",
        "scopekeeper ls --state orphan --json",
        "scopekeeper ls --tree",
        "scopekeeper ls --where 'memory>1G' --sort -memory",
    ),
)
@with_hosts("ls")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@with_target_options(states=(*STATES, "ghost", ENDED))
@click.option("-a", "--all", "with_ended", is_flag=True, help="Also list the newest ended runs, "
              "each with its exit status or signal.")  # fmt: skip
@click.option("--members", is_flag=True, help="Also show each member with its pid and command "
              "line.")  # fmt: skip
@click.option("--tree", is_flag=True, help="Show sessions, lanes, scopes, members and processes "
              "as a tree.")  # fmt: skip
@click.option("--escaped", is_flag=True, help="Show processes that left their scope "
              "instead; takes words, --session and --lane.")  # fmt: skip
@with_all_users("Show the scopes of every user.")
@click.option("--all-owners", is_flag=True, hidden=True)
@click.option("--compare", is_flag=True, help="Also ask systemd, and show scopes that it does not "
              "know as ghost.")  # fmt: skip
@with_list_options(COLUMNS)
def command(
    selector: Selector,
    words: tuple[str, ...],
    as_json: bool,
    with_ended: bool,
    members: bool,
    tree: bool,
    escaped: bool,
    all_users: bool,
    all_owners: bool,
    compare: bool,
    options: ListOptions,
) -> None:
    """List your scopes.

    A word is the id of a run, a session's key or id, a scope's unit, or a member's name, id or
    leaf. The options are those of `stop`, and show the scopes in which it would stop something:
    those too in which the named members launched something, with a line that says so. With them
    are those that a stop leaves: what was started to outlive its launcher.

    ENDS is when the rules of the policy end a scope if nothing changes: now, in some time, or
    never; - is unknown, as for a scope that ends with its owner. Without a keeper it ends at the
    next reconcile after that, and a grace counts from the first one: 10s after reconcile. State
    orphan has lost its owner; kept has too, and was started to outlive it.

    TITLE is there if a session has one: its name in the files of its client, else the folder in
    which its owner runs.

    With --tree, RSS is the memory of the living processes, which count shared pages each; CPU is
    that of the cgroup, and --columns has the columns of the tree.

    Reads files alone: works even if systemd does not answer and no keeper runs. For root, the last
    line counts the scopes of other users.

    Exit status: 0 done; 2 wrong usage; 4 a word matched nothing.
    """
    show(
        selector,
        words,
        options,
        as_json=as_json,
        with_ended=with_ended,
        members=members,
        tree=tree,
        escaped=escaped,
        all_users=all_users or all_owners,
        compare=compare,
    )
