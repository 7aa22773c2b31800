"""The commands that the keeper runs for ends and events, from the policy's files. Pure.

Each has a table with a name of its own::

    [on_end.webhook]
    reasons = ["oom-killed", "failed"]
    command = ["curl", "-fsS", "--json", "@-", "https://example.org/hook"]

    [on_event.desktop]
    events = ["MemoryHigh"]
    memory_share = "80%"
    command = ["notify-send", "--", "scopekeeper", "$SCOPEKEEPER_EVENT_MESSAGE"]

Later files override earlier ones, key by key. What a command is about was written by processes that
nobody vouches for, so a word of it can only be a whole variable, and not where a shell reads it.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from scopekeeper import quantities
from scopekeeper.data import dataclass
from scopekeeper.policy.toml_file import PolicyError, line_of
from scopekeeper.policy.values import by_key
from scopekeeper.scope.reason import Reason
from scopekeeper.scope.records import KINDS

ON_END, ON_EVENT = "on_end", "on_event"
TABLES = (ON_END, ON_EVENT)
EVENTS = ("OrphanFound", "ProcessEscaped", "MemoryHigh", "RunWarning", "ScratchHigh")
"""The notices of a keeper that an ``on_event`` can be about."""
MEMORY = "MemoryHigh"
FAILED = "failed"
"""Stands for an end whose command exited with another status than 0."""
REASONS = {
    FAILED: FAILED, **{each.value.replace(" ", "-"): each.value for each in Reason}
}  # fmt: skip
VARIABLE = "SCOPEKEEPER_EVENT"
"""The variable with the name of the event; those of its details begin so too.

Not ``SCOPEKEEPER_SESSION`` and so on: these mark a process as one of a member.
"""
DETAILS = (
    "MESSAGE", "RULE", "TIME", "HOST", "SESSION", "LABEL", "LANE", "RUN", "UNIT", "MEMBER",
    "MEMBER_ID", "REASON", "EVIDENCE", "EXIT_STATUS", "SIGNAL", "DROPPED", "TEST",
)  # fmt: skip
VARIABLES = (VARIABLE, *(f"{VARIABLE}_{each}" for each in DETAILS))


def _closest(word: str, known: Collection[str], most: int) -> list[str]:
    import difflib  # only for an error, and `ls` reads rules too

    return difflib.get_close_matches(word, known, most)


_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_WORD = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_INTERPRETERS = re.compile(
    r"(ba|da|a|z|k|mk|pdk|c|tc|fi|s)?sh|busybox|env|eval|nohup|setsid|ssh|su|sudo|runuser|xargs"
    r"|parallel|watch|tmux|screen|script|systemd-run|docker|podman|nsenter|chroot"
    r"|(python|pypy|perl|ruby|node|php|lua|awk|gawk|mawk)[0-9.]*"
)
"""Programs that execute words of theirs, or pass them to what does."""
_MOST_WORDS, _LONGEST_WORD = 64, 4096
_LONGEST_TIME = 600_000_000
_FASTEST = 600
_COMMON = ("command", "shell", "enabled", "lanes", "kinds", "timeout", "memory_max", "rate")
_KEYS = {ON_END: ("reasons", *_COMMON), ON_EVENT: ("events", "memory_share", *_COMMON)}


@dataclass(frozen=True, slots=True)
class CommandRule:
    """A command, and what it is run for."""

    table: str
    """``on_end`` or ``on_event``."""
    name: str
    source: str
    """The file and line that set the command."""
    words: tuple[str, ...]
    """The command's own words; with a shell, the one text for ``sh -c``."""
    shell: bool = False
    enabled: bool = True
    reasons: frozenset[str] = frozenset()
    """Values of ``Reason``, and FAILED; empty for any end."""
    events: frozenset[str] = frozenset()
    memory_share: float = 0.9
    """The part of its limit that the memory of a scope or member has to reach."""
    lanes: frozenset[str] = frozenset()
    """Lane classes; empty for all."""
    kinds: frozenset[str] = frozenset()
    """Kinds of members; empty for all."""
    timeout: int = 30_000_000
    """Microseconds that it may take."""
    memory_max: int = 256 << 20
    """Bytes that it may use."""
    rate: int = 30
    """How often it is started in a minute at most."""

    @property
    def title(self) -> str:
        """Its table, as messages name it: ``on_end.webhook``."""
        return f"{self.table}.{self.name}"

    @property
    def argv(self) -> tuple[str, ...]:
        """What is executed, before variables are put in."""
        return ("/bin/sh", "-c", *self.words) if self.shell else self.words

    @property
    def watches_memory(self) -> bool:
        """Whether it asks for somebody to look at the memory of scopes."""
        return self.enabled and MEMORY in self.events


def variable_of(word: str) -> str:
    """Return the variable that a word of a command stands for; '' if it is an ordinary word."""
    found = _WORD.fullmatch(word)
    name = (found[1] or found[2]) if found else ""
    return name if name in VARIABLES else ""


class CommandTables:
    """Collects the tables of all files."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, str], dict[str, tuple[Any, str]]] = {}
        """By table and name: the value of each key, and its file and line."""

    def take(self, path: str, text: str, document: dict[str, Any]) -> None:
        """Take the tables out of a file's document; raises PolicyError."""
        for table in TABLES:
            named = document.pop(table, {})
            if not isinstance(named, dict):
                raise PolicyError(f"{path}:{line_of(text, table)}: write [{table}.NAME]")
            for name, keys in named.items():
                where = f"{path}:{line_of(text, table, name)}"
                if not isinstance(keys, dict):
                    problem = f"{name} is in no table with a name; write [{table}.NAME]"
                    raise PolicyError(f"{where}: {problem}")
                if not _NAME.fullmatch(name):
                    problem = f"{name!r} is no name: up to 40 letters, digits, - and _"
                    raise PolicyError(f"{where}: {problem}")
                found = self._tables.setdefault((table, name), {})
                for key, value in keys.items():
                    source = f"{path}:{line_of(text, table, name, key)}"
                    found[key] = (_checked(table, key, value, source), source)
                if not keys:
                    found.setdefault("", (None, where))

    def rules(self) -> tuple[CommandRule, ...]:
        """Return a rule for each table, in the order of the files; raises PolicyError."""
        return tuple(_rule(table, name, keys) for (table, name), keys in self._tables.items())


def _rule(table: str, name: str, keys: Mapping[str, tuple[Any, str]]) -> CommandRule:
    values = {key: value for key, (value, _) in keys.items() if key}
    any_source = next(iter(keys.values()))[1]
    command, source = keys.get("command", (None, any_source))

    def wrong(problem: str, key: str = "command") -> PolicyError:
        return PolicyError(f"{keys.get(key, (None, source))[1]}: {problem}")

    if command is None:
        raise wrong(f"{table}.{name} has no command")
    if values.get("shell", False):
        if not isinstance(command, str):
            raise wrong("with shell = true, command is one text in quotes, which the shell reads")
        words: tuple[str, ...] = (command,)
    else:
        if isinstance(command, str):
            raise wrong(
                'command is a list of words, as ["mail", "root"]; shell = true takes a text'
            )
        words = tuple(command)
        try:
            _check_words(words)
        except ValueError as error:
            raise wrong(str(error)) from None
    if table == ON_EVENT and not values.get("events"):
        raise wrong(f"{table}.{name} has no events: {', '.join(EVENTS)}", "events")
    if "memory_share" in values and MEMORY not in values["events"]:
        raise wrong(f"memory_share is only for the event {MEMORY}", "memory_share")
    del values["command"]
    return CommandRule(table, name, source, words, **values)


def _check_words(words: Collection[str]) -> None:
    """Raise ValueError if a text of others could become more than one word of a command."""
    named = [word for word in words if f"${VARIABLE}" in word.replace("{", "")]
    variables = {word: variable_of(word) for word in named}
    for word, variable in variables.items():
        if variable:
            continue
        whole = _WORD.fullmatch(word)
        if whole:
            near = _closest(whole[1] or whole[2], VARIABLES, 1)
            hint = f"; did you mean ${near[0]}?" if near else ""
            raise ValueError(f"there is no variable {word}{hint}")
        raise ValueError(f"a variable is a word of its own, not a part of one: {word!r}")
    for word in words if variables else ():
        program = word.rpartition("/")[2]
        if _INTERPRETERS.fullmatch(program):
            raise ValueError(
                f"{program} may execute the text in {next(iter(variables))}; use shell = true, "
                f"where the shell only reads it as a variable, or the JSON on standard input"
            )


def _checked(table: str, key: str, value: object, source: str) -> object:
    """Return a value as CommandRule has it; raises PolicyError."""
    if key not in _KEYS[table]:
        raise PolicyError(f"{source}: {_why_unknown(table, key)}")
    try:
        return _READ[key](key, value)
    except ValueError as error:
        raise PolicyError(f"{source}: {by_key(key, error)}") from None


def _why_unknown(table: str, key: str) -> str:
    (other,) = (each for each in TABLES if each != table)
    if key in _KEYS[other]:
        return f"{key} is a setting of [{other}.NAME]"
    near = _closest(key, _KEYS[table], 1)
    return f"unknown setting {key}" + (f"; did you mean {near[0]}?" if near else "")


def _command(key: str, value: object) -> str | tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f'{key} is a list of words, as ["mail", "root"]')
    if not words or not words[0]:
        raise ValueError(f"{key} is empty")
    if len(words) > _MOST_WORDS or any(len(word) > _LONGEST_WORD for word in words):
        raise ValueError(f"{key} is too long: {_MOST_WORDS} words of {_LONGEST_WORD} characters")
    if any("\0" in word for word in words):
        raise ValueError(f"{key} has a character that no argument can have")
    if not isinstance(value, str) and "/" in words[0] and not words[0].startswith("/"):
        raise ValueError(f"{key}: {words[0]!r} has a relative path; give its whole path")
    return value if isinstance(value, str) else tuple(words)


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{key} is true or false")  # noqa: TRY004  all are wrong values
    return value


def _texts(key: str, value: object) -> Iterator[str]:
    """Yield the texts of a list, or the one that stands for a list."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(x, str) for x in texts):
        raise ValueError(f"{key} is a list of texts in quotes")
    yield from texts


def _chosen(key: str, value: object, known: Collection[str]) -> Iterator[str]:
    for text in _texts(key, value):
        if text not in known:
            near = _closest(text, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"write {', '.join(known)}"
            raise ValueError(f"{key}: {text!r} is none of them; {hint}")
        yield text


def _reasons(key: str, value: object) -> frozenset[str]:
    written = [each.replace(" ", "-") for each in _texts(key, value)]
    return frozenset(REASONS[each] for each in _chosen(key, written, REASONS))


def _lanes(key: str, value: object) -> frozenset[str]:
    found = frozenset(_texts(key, value))
    for each in found:
        if not each or ":" in each:
            raise ValueError(f"{key}: {each!r} is no lane class; a lane's class ends at :")
    return found


def _share(key: str, value: object) -> float:
    number = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)%", value) if isinstance(value, str) else None
    if number is None or not 1 <= float(number[1]) <= 100:
        raise ValueError(f'{key} is a text from "1%" to "100%"')
    return float(number[1]) / 100


def _timeout(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{key} is a text in quotes")  # noqa: TRY004  as above
    found = quantities.duration(key, str(value))
    if not 0 < found <= _LONGEST_TIME:
        raise ValueError(f"{key} is above zero, and 10m at most")
    return found


def _memory(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{key} is a text in quotes")  # noqa: TRY004  as above
    return quantities.size(key, str(value))


def _rate(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _FASTEST:
        raise ValueError(f"{key} is a whole number of starts a minute, from 1 to {_FASTEST}")
    return value


_READ = {
    "command": _command, "shell": _flag, "enabled": _flag, "reasons": _reasons, "lanes": _lanes,
    "events": lambda key, value: frozenset(_chosen(key, value, EVENTS)),
    "kinds": lambda key, value: frozenset(_chosen(key, value, KINDS)),
    "memory_share": _share, "timeout": _timeout, "memory_max": _memory, "rate": _rate,
}  # fmt: skip
