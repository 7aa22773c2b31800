"""What the command of a rule is given: its arguments, its variables and its standard input. Pure.

Names, labels and evidence come from processes that nobody vouches for. In arguments and variables
they are one printable line of bounded length; the JSON has them in full.
"""

import json
import os
import time
from dataclasses import dataclass

from scopekeeper.history import journal
from scopekeeper.keeper import notices
from scopekeeper.kernel.exit_status import signal_name
from scopekeeper.policy.command_rules import DETAILS, VARIABLE, CommandRule, variable_of
from scopekeeper.quantities import show_bytes
from scopekeeper.safe_text import safe
from scopekeeper.short_names import shortened

_LONGEST = 1000
"""Characters of an argument or a variable."""
_LONGEST_IN_JSON = 20_000
_OF_FIELDS = (
    "session", "label", "lane", "run", "unit", "member", "member_id", "reason", "evidence",
    "exit_status",
)  # fmt: skip
"""Fields of the notice that are variables too."""


@dataclass(frozen=True, slots=True)
class Given:
    """One start of a command."""

    argv: tuple[str, ...]
    variables: dict[str, str]
    """Each of ``command_rules.VARIABLES``; '' where the event lacks it."""
    stdin: bytes
    """A JSON object in one line: the event as ``watch --json`` prints it, and some more."""


def given(
    rule: CommandRule, notice: notices.Notice, *, dropped: int = 0, is_test: bool = False
) -> Given:
    """Return what the command of a rule is given for a notice.

    dropped: how many events of this rule were dropped before it.
    """
    fields = notices.fields(notice)
    now = time.time()
    text = message(notice)
    if is_test:
        text = f"test: {text}"
    host = os.uname().nodename
    details = {
        "MESSAGE": text,
        "RULE": rule.title,
        "TIME": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now)),
        "HOST": host,
        "DROPPED": str(dropped),
        "TEST": "1" if is_test else "",
        **{name.upper(): _shown(fields.get(name)) for name in _OF_FIELDS},
    }
    number = fields.get("signal")
    details["SIGNAL"] = signal_name(number) if isinstance(number, int) else ""
    of_details = {f"{VARIABLE}_{name}": _line(details[name]) for name in DETAILS}
    variables = {VARIABLE: type(notice).__name__, **of_details}
    document = {
        "version": 1, "time": now, "host": host, "rule": rule.title, "message": text,
        "dropped": dropped, "test": is_test, **fields,
    }  # fmt: skip
    values = {key: _whole(each) if isinstance(each, str) else each
              for key, each in document.items()}  # fmt: skip
    argv = rule.argv if rule.shell else tuple(_argument(word, variables) for word in rule.argv)
    return Given(argv, variables, json.dumps(values).encode() + b"\n")


def message(notice: notices.Notice) -> str:
    """Return a sentence about a notice, printable, in one line; long names have a short form."""
    if isinstance(notice, notices.MemberEnded):
        return journal.sentences(notice.end)[1]
    fields = notices.fields(notice)
    session = str(fields.get("label") or fields["session"])
    member = str(fields.get("member") or "")
    whose = f"{member} of {session}" if member else session
    if isinstance(notice, notices.MemoryHigh):
        share = round(100 * notice.used / notice.limit)
        used, limit = show_bytes(notice.used), show_bytes(notice.limit)
        text = f"{whose} uses {used} of memory, {share} % of its limit of {limit}"
    elif isinstance(notice, notices.ScratchHigh):
        used, limit = show_bytes(notice.used), show_bytes(notice.limit)
        text = f"{whose} has {used} in its scratch folder, scratch_max is {limit}"
    elif isinstance(notice, notices.ProcessEscaped):
        text = f"{notice.process.program} of {whose} left its scope: {notice.process.evidence}"
    elif isinstance(notice, notices.OrphanFound):
        text = f"{whose} lost its owner: {notice.evidence}"
    elif isinstance(notice, notices.RunWarning):
        text = f"{whose}: {notice.text}"
    else:
        text = f"{whose}: {type(notice).__name__}"
    names = [str(fields.get(key) or "") for key in ("member", "session", "label", "unit")]
    return shortened(safe(text), [safe(each) for each in names])


def _shown(value: notices.Value) -> str:
    return "" if value is None else str(value)


def _argument(word: str, variables: dict[str, str]) -> str:
    """Return a word of a command; a variable in its place must not look like an option."""
    name = variable_of(word)
    text = variables[name] if name else word
    return f" {text}" if name and text.startswith("-") else text


def _line(text: str) -> str:
    text = safe(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _whole(text: str) -> str:
    """Return a text that every JSON reader accepts, cut where it is absurdly long."""
    try:
        readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        readable = safe(text)
    if len(readable) <= _LONGEST_IN_JSON:
        return readable
    return f"{readable[: _LONGEST_IN_JSON - 1]}…"
