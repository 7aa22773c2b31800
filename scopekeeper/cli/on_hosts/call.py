"""Asks hosts by ssh, all at once, and prints what they answered together.

Each host runs the same command with ``--json``. One that does not answer, or whose answer cannot be
read, is one line on standard error; the others are printed all the same.
"""

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NoReturn, TypeVar

import click
from click.core import ParameterSource

from scopekeeper.cli.empty import nothing
from scopekeeper.cli.show import answer as print_document
from scopekeeper.cli.show import safe, safe_json, warn
from scopekeeper.errors import FAILED, NOTHING_MATCHED, InterruptedWorkError, UsageError
from scopekeeper.hosts import groups, ssh
from scopekeeper.hosts.answer import Answer, BadAnswerError, Fields, read
from scopekeeper.hosts.ask import Reply, ask

_Read = TypeVar("_Read")
SECONDS = 60.0
"""How long a host may take to answer a command that only looks."""
_NEVER_SENT = ("hosts", "as_json")
_BY_WEIGHT = (0, NOTHING_MATCHED, 6, 1, 2, 5)
"""Exit statuses of commands; the last is the worst."""
_MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class Plan(Generic[_Read]):
    """What a command asks of hosts, and what becomes of their answers."""

    read: Callable[[Fields], _Read]
    """Returns what is to be printed of a document; raises BadAnswerError."""
    print: Callable[[Mapping[str, _Read]], bool]
    """Prints what was read, by host, in the order of the call; returns whether that is anything."""
    kept: Collection[str] = ()
    """The command's parameters that are about this machine's output, and are not sent."""
    more: Sequence[str] = ()
    """Options that are sent beside those of the call."""
    acts: bool = False
    """Whether the hosts change something: then none is given up because it takes long."""
    failed: int = 1
    """The exit status for a host without an answer."""
    missing: Callable[[str], _Read] | None = None
    """Returns what is printed for a host without an answer, of the problem; None: nothing is."""


def refuse(given: Mapping[str, Any], **options: str) -> None:
    """Raise UsageError if an option is given that makes no sense with -H: parameter=option."""
    for parameter, option in options.items():
        if given.get(parameter):
            raise UsageError(f"-H and {option} exclude each other", "give one of them")


def call(module: str, wanted: Sequence[str], context: click.Context) -> NoReturn:
    """Run the command of a context on the hosts, print the answers, and exit with the worst status.

    Raises ScopekeeperError before any host was asked, and InterruptedWorkError afterwards.
    """
    hosts = resolved(wanted)
    plan: Plan[Any] = importlib.import_module(f"scopekeeper.cli.on_hosts.{module}").plan(
        context.params
    )
    words = sent(context, plan.kept, plan.more)
    replies: dict[str, Reply] = {}
    try:
        ask(
            {host: ssh.words(host, words) for host in hosts},
            None if plan.acts else SECONDS,
            replies,
        )
    except KeyboardInterrupt:
        if not plan.acts:
            raise
        left = [host for host in hosts if host not in replies]
        _report([host for host in hosts if host in replies], replies, plan, context.params)
        raise InterruptedWorkError(
            f"no answer yet from {_listed(left)}: what was begun there may go on; "
            f"`scopekeeper ls -H {left[0]}` shows what runs"
        ) from None
    raise SystemExit(_report(hosts, replies, plan, context.params))


def resolved(wanted: Sequence[str]) -> list[str]:
    """Return the hosts that words name; raises ScopekeeperError."""
    warnings: list[str] = []
    known = groups.load(warnings) if any(word.startswith("@") for word in wanted) else {}
    hosts = groups.resolve(wanted, known)
    warn(warnings)
    return hosts


def sent(context: click.Context, kept: Collection[str], more: Sequence[str] = ()) -> list[str]:
    """Return the words of the call that a host is sent; kept and more are as those of a plan."""
    words, arguments = [context.info_name or ""], []
    for each in context.command.params:
        name = each.name or ""
        value = context.params.get(name)
        is_given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if not is_given or name in _NEVER_SENT or name in kept:
            continue
        if isinstance(each, click.Argument):
            arguments += list(value) if isinstance(value, tuple) else [str(value)]
            continue
        option = max(each.opts, key=len)
        if getattr(each, "is_flag", False):
            words.append(option)
        else:
            words += [f"{option}={x}" for x in (value if isinstance(value, tuple) else (value,))]
    return [*words, *more, "--json", *(["--", *arguments] if arguments else [])]


def _report(
    hosts: Sequence[str], replies: Mapping[str, Reply], plan: Plan[_Read], given: Mapping[str, Any]
) -> int:
    """Print the answers of hosts that have replied; return the worst status."""
    answers = [read(host, replies[host]) for host in hosts]
    found: dict[str, _Read] = {}
    for at, each in enumerate(answers):
        if each.document is not None:
            try:
                found[each.host] = plan.read(each.document)
            except BadAnswerError as error:
                answers[at] = replace(each, status=FAILED, document=None, problem=str(error),
                                      may_have_acted=True)  # fmt: skip
        if answers[at].document is None and plan.missing is not None:
            found[each.host] = plan.missing(answers[at].problem)
    if given.get("as_json"):
        print_document({"hosts": [_document(each) for each in answers]})
    elif found and not plan.print(found) and not any(each.messages for each in answers):
        nothing("Nothing is listed there.")
    _print_messages(answers, plan)
    return worst([each.status for each in answers], plan.failed)


def worst(statuses: Sequence[int], failed: int) -> int:
    """Return the worst exit status; failed is that of a host without an answer. Pure.

    4, there is nothing with that name, counts only if it is so on every host.
    """
    known = [status if status in _BY_WEIGHT else failed for status in statuses]
    if failed != 1:  # its statuses grow worse with their number
        return max(known, default=0)
    counting = [status for status in known if status != NOTHING_MATCHED] or known
    return max(counting, key=_BY_WEIGHT.index, default=0)


def _document(each: Answer) -> dict[str, Any]:
    return {
        "host": each.host,
        "status": None if each.status == FAILED else each.status,
        "problem": safe_json(each.problem) or None,
        "messages": [safe_json(line) for line in each.messages],
        "answer": None if each.document is None else each.document.values,
    }


def _print_messages(answers: Sequence[Answer], plan: Plan[Any]) -> None:
    """Print what hosts have to say beside their documents; the same of several is one line."""
    by_text: dict[str, list[str]] = {}
    for each in answers:
        for text in (*each.messages, *_of_document(each)):
            by_text.setdefault(text, []).append(each.host)
    for each in answers:
        if each.problem:
            by_text.setdefault(_problem(each, plan), []).append(each.host)
    for text, hosts in by_text.items():
        click.echo(f"scopekeeper: {_listed(hosts)}: {safe(text)}", err=True)


def _problem(each: Answer, plan: Plan[Any]) -> str:
    if plan.acts and each.may_have_acted:
        return (
            f"{each.problem}; what it has done is unknown: `scopekeeper ls -H {each.host}` shows "
            "what runs"
        )
    return each.problem


def _of_document(each: Answer) -> list[str]:
    """Return what a local call would print on standard error, and JSON has."""
    if each.document is None:
        return []
    found = []
    try:
        unread = each.document.length("unread")
        if unread:
            places = "1 place" if unread == 1 else f"{unread} places"
            found.append(f"warning: {places} could not be read")
        for key, start in (("owned_problems", ""), ("warnings", "warning: ")):
            if each.document.values.get(key):
                found += [start + line for line in each.document.texts(key)]
    except BadAnswerError as error:
        found.append(str(error))
    return found


def _listed(hosts: Sequence[str]) -> str:
    more = len(hosts) - _MOST_NAMED
    return ", ".join(hosts[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
