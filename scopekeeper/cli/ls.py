"""``scopekeeper ls``."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import click

from scopekeeper.cli.empty import nothing
from scopekeeper.cli.examples import examples
from scopekeeper.cli.select_options import say_missing, scopes_of, with_target_options
from scopekeeper.cli.show import (
    answer,
    processes,
    safe,
    safe_json,
    table,
    unread_document,
    warn_unread,
)
from scopekeeper.cli.users import others, uid_of, user_fields, with_all_users
from scopekeeper.errors import NOTHING_MATCHED
from scopekeeper.kernel.proc import mount_point
from scopekeeper.kernel.usage import MemberUsage, command_line, usage
from scopekeeper.quantities import show_bytes, show_duration
from scopekeeper.scope import activity, names
from scopekeeper.scope.model import Identity, Member, Owner, Scope, Snapshot
from scopekeeper.scope.selection import STATES, Selector
from scopekeeper.scope.snapshot import Reader
from scopekeeper.systemd import calls


@click.command(
    "ls",
    epilog=examples(
        "scopekeeper ls",
        "scopekeeper ls -s agent:main:main --members",
        "scopekeeper ls --state orphan --json",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@with_target_options(states=(*STATES, "ghost"))
@click.option("--members", is_flag=True, help="Also show each member with its pid and command "
              "line.")  # fmt: skip
@click.option("--escaped", is_flag=True, help="Show processes that left their scope "
              "instead; takes words, --session and --lane.")  # fmt: skip
@with_all_users("Show the scopes of every user.")
@click.option("--all-owners", is_flag=True, hidden=True)
@click.option("--compare", is_flag=True, help="Also ask systemd, and show scopes that it does not "
              "know as ghost.")  # fmt: skip
def command(
    selector: Selector,
    words: tuple[str, ...],
    as_json: bool,
    members: bool,
    escaped: bool,
    all_users: bool,
    all_owners: bool,
    compare: bool,
) -> None:
    """List your scopes.

    A word is the id of a run, a session's key or id, a scope's unit, or a member's name, id or
    leaf. The options are those of `stop`, and show the scopes in which it would stop something.

    Reads cgroupfs alone: works even if systemd does not answer and no keeper runs. For root, the
    last line counts the scopes of other users.

    Exit status: 0 done; 2 wrong usage; 4 a word matched nothing.
    """
    all_users = all_users or all_owners
    if escaped:
        from scopekeeper.cli.escaped import show

        show(selector, words, as_json=as_json, all_users=all_users)
        return
    reader = Reader(mount_point(), usage=True)
    snapshot = reader.snapshot(uid=uid_of(all_users=all_users))
    ghosts = _ghosts(snapshot) if compare or "ghost" in selector.states else frozenset()
    matched, missing = scopes_of(snapshot, words, replace(selector, states=frozenset()))
    named = [(scope, "ghost" if scope.cgroup in ghosts else scope.state) for scope in matched]
    shown = [each for each in named if not selector.states or each[1] in selector.states]
    say_missing(missing)
    if as_json:
        documents = [_document(scope, word, reader.now) for scope, word in shown]
        answer({"scopes": documents, **unread_document(snapshot.unread, reader.mount)})
        raise SystemExit(NOTHING_MATCHED if missing else 0)
    if shown or not sys.stdout.isatty():  # a script finds the header, whatever follows
        _print(shown, members=members, users=all_users, now=reader.now)
    if not shown and not missing:
        nothing(_none(selector, all_users=all_users))
    if os.getuid() == 0 and not all_users and not words and selector.knows_by_name:
        line = others(_of_others(reader, selector))
        if line:
            click.echo(line)
    warn_unread(snapshot.unread)
    raise SystemExit(NOTHING_MATCHED if missing else 0)


def _none(selector: Selector, *, all_users: bool) -> str:
    """Return the sentence for an empty list."""
    if selector != Selector():
        whose = "" if all_users else " of yours"
        return f"No scope{whose} matches; `scopekeeper ls` lists all, `history` what ended."
    return (
        "No scopes."
        if all_users
        else ("You have no scopes; --all-users shows those of every user.")
    )


def _of_others(reader: Reader, selector: Selector) -> Iterator[int]:
    """Yield the uid of each matching scope of other users; its name has what is compared."""
    for unit, uid in reader.of_others(os.getuid()):
        named = names.parse_unit(unit) or ("", "", "")
        if selector.matches_identity(Identity(*named[:3])):
            yield uid


def _ghosts(snapshot: Snapshot) -> frozenset[str]:
    """Return the cgroups of scopes that have processes but no live unit in systemd."""
    managers = {scope.manager for scope in snapshot.scopes if scope.manager}
    known = {manager: calls.living_units(manager, names.UNITS) for manager in managers}
    return frozenset(
        scope.cgroup
        for scope in snapshot.scopes
        if scope.manager and scope.lives and scope.unit not in known[scope.manager]
    )


def _print(shown: list[tuple[Scope, str]], *, members: bool, users: bool, now: int) -> None:
    rows = [
        (
            scope.session,
            scope.lane,
            scope.run or "-",
            scope.kind or "-",
            state,
            str(len(scope.living_members)),
            str(len(scope.pids)),
            "-" if scope.memory_bytes is None else show_bytes(scope.memory_bytes),
            "-" if scope.cpu_usec is None else show_duration(scope.cpu_usec / 1e6),
            show_duration(scope.age),
            _owners(scope),
        )
        for scope, state in shown
    ]
    table(
        ("SESSION", "LANE", "RUN", "KIND", "STATE", "MEMBERS", "PROCS", "MEMORY", "CPU", "AGE",
         "OWNER"),
        rows,
        shrink=(0, 1, 2, 10),
        right=(5, 6, 7, 8, 9),
        users=[scope.uid for scope, _ in shown] if users else None,
        beneath=[
            [*_warnings(scope), *(_members(scope, now) if members else [])] for scope, _ in shown
        ],
    )  # fmt: skip


def _warnings(scope: Scope) -> list[str]:
    """Return the problems of its records, and the command that ends it."""
    lines = []
    if scope.damaged or scope.claims is not None:
        what, how = scope.forgery or scope.problem, scope.command_to_end(os.getuid())
        lines.append(f"    {safe(what)}; end it: {safe(how)}")
    for member in scope.living_members:
        if not scope.problem and member.problem:
            lines.append(f"    {safe(member.leaf)}: {safe(member.problem)}")
        elif member.claims:
            lines.append(f"    {safe(member.leaf)}: its record says {safe(member.claims)}")
    return lines


def _owners(scope: Scope) -> str:
    labels = dict.fromkeys(
        member.owner_state.owner.label
        for member in scope.present_members
        if member.owner_state is not None
    )
    text = ", ".join(labels) or scope.owner.label
    return f"{text} (another container)" if scope.elsewhere else text


def _members(scope: Scope, now: int) -> list[str]:
    lines = []
    for member in scope.members:
        used: MemberUsage = usage(member.pids)
        argv = command_line(member.shown_pid)
        lines.append(
            f"    {safe(member.name)}  pid {member.shown_pid or '-'}  {member.state}"
            f"  {processes(len(member.pids))}  {show_bytes(used.rss_bytes)} resident"
            f"  {show_duration(used.cpu_seconds)} CPU{_ages(member, now)}"
            f"  {safe(' '.join(argv or ['-']))}"
        )
    holders = {member.holder for member in scope.members}
    for text, pids in (
        ("holding the scope for a place", [pid for pid in scope.strays if pid in holders]),
        ("outside every member", [pid for pid in scope.strays if pid not in holders]),
    ):
        if pids:
            lines.append(f"    ({text}: {' '.join(map(str, pids))})")
    return lines


def _ages(member: Member, now: int) -> str:
    age, idle = _age(member, now), _idle(member, now)
    text = "" if age is None else f"  {show_duration(age)} old"
    return text if idle is None else f"{text}, idle {show_duration(idle)}"


def _age(member: Member, now: int) -> float | None:
    return (now - member.born) / 1e6 if member.born else None


def _idle(member: Member, now: int) -> float | None:
    """Return for how many seconds it has done nothing; None if its lane does not count that."""
    if member.idle_since is None or not member.lives:
        return None
    done = activity.read(member.directory, member.pids)
    since = activity.idle_since(done, member.idle_since, now)
    return 0.0 if since is None else (now - since) / 1e6


def _document(scope: Scope, state: str, now: int) -> dict[str, Any]:
    return {
        "unit": scope.unit,
        "cgroup": scope.cgroup,
        **user_fields(scope.uid),
        "session": safe_json(scope.session),
        "session_id": scope.session_id or None,
        "lane": safe_json(scope.lane),
        "run": scope.run or None,
        "kind": scope.kind or None,
        "lifetime": scope.lifetime or None,
        "state": state,
        "problem": safe_json(scope.problem or scope.forgery) or None,
        "claims": None if scope.claims is None else _identity_document(scope.claims),
        "ended_by": scope.command_to_end(os.getuid()),
        "owner": _owner_document(scope.owner),
        "created": scope.created / 1e6 if scope.created else None,
        "age_s": round(scope.age, 3),
        "processes": len(scope.pids),
        "memory_bytes": scope.memory_bytes,
        "cpu_usec": scope.cpu_usec,
        "members": [_member_document(member, now) for member in scope.members],
    }


def _identity_document(identity: Identity) -> dict[str, Any]:
    return {
        "session": safe_json(identity.session),
        "lane": safe_json(identity.lane),
        "run": safe_json(identity.run) or None,
    }


def _member_document(member: Member, now: int) -> dict[str, Any]:
    return {
        "name": safe_json(member.name),
        "id": member.member_id,
        "cgroup": member.cgroup,
        "pid": member.pid,
        "pids": list(member.pids),
        "state": member.state,
        "problem": safe_json(member.problem) or None,
        "claims": safe_json(member.claims) or None,
        "processes": len(member.pids),
        "argv": command_line(member.pid if member.leader_lives else None),
        "started": member.started / 1e6 if member.started else None,
        "age_s": _age(member, now),
        "idle_s": _idle(member, now),
        "owner": _owner_document(member.owner_state.owner) if member.owner_state else None,
    }


def _owner_document(owner: Owner) -> dict[str, Any]:
    return {
        "unit": owner.unit or None,
        "epoch": owner.epoch or None,
        "pid": owner.pid,
        "start_time": owner.start_time,
        "boot_id": owner.boot_id or None,
    }
