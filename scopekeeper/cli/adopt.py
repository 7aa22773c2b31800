"""``scopekeeper adopt``."""

import click

from scopekeeper.cli.examples import examples
from scopekeeper.cli.select_options import (
    require_target,
    say_nothing_matched,
    select_targets,
    status,
    with_target_options,
)
from scopekeeper.cli.show import answer, safe, safe_json
from scopekeeper.cli.stop_report import label
from scopekeeper.cli.users import uid_of, user_fields, with_all_users
from scopekeeper.errors import UsageError
from scopekeeper.lifecycle import adopt
from scopekeeper.scope.owner import find_owner
from scopekeeper.scope.placement import Caller
from scopekeeper.scope.selection import Selected, Selector
from scopekeeper.scope.snapshot import Reader


@click.command(
    "adopt",
    epilog=examples(
        "scopekeeper adopt -s agent:spark:main",
        "scopekeeper adopt -s agent:spark:main --from my-gateway.service",
    ),
)
@with_target_options(owner="--from")
@click.option("--owner", metavar="PID", help="The new owner. Default: the caller's service, else "
              "its parent process.")  # fmt: skip
@click.option("--force", is_flag=True, help="Also take members whose owner is running.")
@with_all_users("Also those of other users; root only.")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
def command(
    selector: Selector,
    words: tuple[str, ...],
    owner: str | None,
    force: bool,
    all_users: bool,
    as_json: bool,
) -> None:
    """Make another gateway the owner of scopes or members that lost theirs.

    Adopted members are no longer orphans, so the orphan rules of their lane do not end them. Exit
    status: 0 done; 1 something was refused; 2 wrong usage; 4 nothing matched, or a word matched
    nothing.
    """
    require_target(selector, words, "--from")
    caller = Caller()
    try:
        new = find_owner(caller, owner or "")
    except ValueError as error:
        raise UsageError(str(error)) from None
    snapshot = Reader(caller.mount, unlock=True).snapshot(uid=uid_of(all_users=all_users))
    selected, missing = select_targets(snapshot, words, selector, "adopt", all_users=all_users)
    adopted = adopt.adopt(selected, new, force=force)
    if as_json:
        found = [
            {
                "unit": safe_json(each.selected.scope.unit),
                **user_fields(each.selected.scope.uid),
                "label": safe_json(each.selected.scope.label) or None,
                "member": safe_json(each.member.name),
                "member_id": each.member.member_id,
                "adopted": not each.problem,
                "problem": each.problem or None,
            }
            for each in adopted
        ]
        answer({"owner": safe_json(new.label), "members": found,
                "missing": [safe_json(word) for word in missing]})  # fmt: skip
    else:
        for each in adopted:
            done = f"skipped: {each.problem}" if each.problem else f"now owned by {safe(new.label)}"
            name = label(Selected(each.selected.scope, each.member), users=all_users)
            click.echo(f"{name}: {done}")
        if not adopted and not missing:
            say_nothing_matched(selector, snapshot)
    raise SystemExit(status([each.problem for each in adopted], missing))
