"""``scopekeeper stop``."""

import click

from scopekeeper.cli.examples import examples
from scopekeeper.cli.on_hosts.options import with_hosts
from scopekeeper.cli.select_options import with_target_options
from scopekeeper.cli.stop_run import execute
from scopekeeper.cli.users import with_all_users
from scopekeeper.scope.selection import Selector


@click.command(
    "stop",
    epilog=examples(
        "scopekeeper stop agent:main:main",
        "scopekeeper stop -s agent:main:main -n time --note 'new version'",
        "scopekeeper stop --mine --started-before 2026-01-31T12:00 --dry-run",
    ),
)
@with_hosts("text")
@with_target_options()
@click.option("--grace", metavar="DURATION", help="Time between SIGTERM and SIGKILL. Default: that "
              "of the launch, else 5s.")  # fmt: skip
@click.option("--note", metavar="TEXT", default="", help="Why, in your words, for the record and "
              "the history.")  # fmt: skip
@click.option("--reason", "old_note", metavar="TEXT", default="", hidden=True)
@with_all_users("Also those of other users; root only.")
@click.option("--escaped", is_flag=True, help="Also end processes that had left the scope, where "
              "that is proved.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only print what would be stopped, and change "
              "nothing.")  # fmt: skip
@click.option("--must-exist", is_flag=True, help="Exit 4 if nothing matched.")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
def command(
    selector: Selector,
    words: tuple[str, ...],
    grace: str | None,
    note: str,
    old_note: str,
    all_users: bool,
    escaped: bool,
    dry_run: bool,
    must_exist: bool,
    as_json: bool,
) -> None:
    """Stop scopes or single members, and verify that no process is left.

    A word is the id of a run, a session's key or id, a scope's unit, or a member's name, id or
    leaf; an ambiguous word takes the first of these. A name that several members share is refused;
    --name selects all of them. Options narrow down the words, and each other.

    Also stops the members that the named ones launched by `scopekeeper run`, in any session. If
    the command of a named member is `scopekeeper run` itself, its process is such a member now.
    Members stay that were started to outlive their launcher; each has a line. With --owner, --mine,
    --lifetime, --started-before or --state, no launched members are added.

    Exit status: 0 all processes are gone, or nothing matched the options; 1 something was refused;
    2 wrong usage; 4 a word matched nothing (the others are stopped), or nothing matched and
    --must-exist; 5 processes remain that cannot be killed; 6 the scope is gone, but processes that
    had left it live.
    """
    raise SystemExit(
        execute(
            selector, words, grace=grace, note=note or old_note, all_users=all_users,
            escaped=escaped, dry_run=dry_run, must_exist=must_exist, as_json=as_json,
        )
    )  # fmt: skip
