"""Man pages, made from what the commands themselves declare, so that they cannot differ from it.

One page for each command, as ``scopekeeper-ls.1``, and one for all. man-pages(7) has the order of
the sections, groff_man(7) the macros.
"""

import re
from collections.abc import Iterable, Iterator

import click

_STATUS = "Exit status: "
_A_STATUS = re.compile(r"(\d+(?:(?:, | to )\d+)*) ([^.]+(?:\.\S[^.]*)*)")

_ENVIRONMENT = {
    "SCOPEKEEPER_SESSION, SCOPEKEEPER_LANE, SCOPEKEEPER_RUN, SCOPEKEEPER_SESSION_ID":
        "What `run`, `exec` and scopekeeper-shell take where no option says it. A started command "
        "has them in its environment.",
    "SCOPEKEEPER_OWNER": "The gateway's pid, where the parent is only a helper of it.",
    "SCOPEKEEPER_SCOPE, SCOPEKEEPER_MEMBER": "Set for a started command: the unit that it is in, "
        "and its leaf there.",
    "SCOPEKEEPER_PLACEMENT": "Where scopes are made: `auto`, `user`, `system` or `cgroup:PATH`.",
    "SCOPEKEEPER_IF_UNAVAILABLE": "`fail` or `warn`: what to do where nothing can be contained.",
    "SCOPEKEEPER_SHELL": "The shell that scopekeeper-shell becomes.",
    "SCOPEKEEPER_DETACH_KEYS": "What leaves a run that is attached; else ctrl-\\.",
    "SCOPEKEEPER_CONFIG": "The folder that config.toml and config.d are read from in place of "
        "~/.config/scopekeeper; a keeper reads there only if it is set for it too.",
    "SCOPEKEEPER_STATE": "The folder that the history, the runs and what is owned are kept in; one "
        "that is there and is not private stays as it is, and has scopekeeper-UID inside.",
    "SCOPEKEEPER_DEBUG": "Where it is set, an internal error shows its traceback.",
}  # fmt: skip
_FILES = {
    "/etc/scopekeeper/config.toml, ~/.config/scopekeeper/config.toml, and config.d/*.toml beside":
        "The rules of lanes; the later goes before the earlier.",
    "/var/lib/scopekeeper, ~/.local/state/scopekeeper":
        "The history, the runs' output, and what is owned; of root, and of any other user.",
}  # fmt: skip
_SHELL = """\
scopekeeper-shell takes the place of a shell wherever one is named by its path. It puts itself into
the scope of its session, or with a terminal of its own into a scope of its own, and then becomes
the real shell: the same process, with the same terminal and arguments. That is
$SCOPEKEEPER_SHELL, else the user's login shell, else /bin/sh, never itself.

A login or a prompt that cannot be contained is a shell all the same, with one line on standard
error. A command or a script is not run then, unless the password database names scopekeeper-shell
and the environment no session; $SCOPEKEEPER_IF_UNAVAILABLE says otherwise.

Exit status: that of the shell; 125 where scopekeeper failed, 126 where the shell cannot be \
executed, 127 where it is not found."""
SHELL = "scopekeeper-shell"


def pages(group: click.Group, name: str, version: str) -> dict[str, str]:
    """Return the page of a group of commands, those of all in it, and scopekeeper-shell's.

    By file name, each for section 1.
    """
    found = {
        _name(command): _page(command, version)
        for command in _commands(click.Context(group, info_name=name, **group.context_settings))
    }
    found[SHELL] = "".join(_shell(version))
    return {f"{page}.1": text for page, text in found.items()}


def _commands(context: click.Context) -> Iterator[click.Context]:
    """Yield a context for a command, and for each below it."""
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command is not None and not command.hidden:
                yield from _commands(click.Context(command, info_name=name, parent=context))


def _page(context: click.Context, version: str) -> str:
    path, command = context.command_path, context.command
    is_all = context.parent is None
    prose, status = _split(command.help or "")
    first, _, more = prose.partition("\n\n")
    pieces = " ".join(command.collect_usage_pieces(context))
    parts = [
        *_head(_name(context), first.rstrip("."), version),
        *(".SH SYNOPSIS\n", f".B {_escape(path)}\n", f"{_escape(pieces)}\n"),
        *(".SH DESCRIPTION\n", *_paragraphs(more or first)),
    ]
    records = [each.get_help_record(context) for each in command.get_params(context)
               if isinstance(each, click.Option)]  # fmt: skip
    parts += _entries("OPTIONS", filter(None, records))
    below = [each for each in _commands(context) if each.parent is context]
    parts += _entries("COMMANDS", [
        (f"{_name(each)}(1)", _summary(each.command)) for each in below
    ])  # fmt: skip
    parts += _statuses(status)
    if is_all:
        parts += _entries("ENVIRONMENT", _ENVIRONMENT.items())
        parts += _entries("FILES", _FILES.items())
    above = [f"{_name(context.parent)}(1)"] if context.parent else [f"{SHELL}(1)"]
    parts += [".SH SEE ALSO\n", _escape(", ".join([*above, "systemd.scope(5)"])) + "\n"]
    return "".join(parts)


def _name(context: click.Context) -> str:
    """Return the name of a command's page."""
    return context.command_path.replace(" ", "-")


def _shell(version: str) -> list[str]:
    prose, status = _split(_SHELL)
    return [
        *_head(SHELL, "a shell that is contained", version),
        *(".SH SYNOPSIS\n", f".B {_escape(SHELL)}\n", _escape("[ARGUMENTS OF THE SHELL]") + "\n"),
        *(".SH DESCRIPTION\n", *_paragraphs(prose), *_statuses(status)),
        *(".SH SEE ALSO\n", _escape("scopekeeper(1), scopekeeper-run(1)") + "\n"),
    ]


def _head(name: str, summary: str, version: str) -> list[str]:
    summary = " ".join(summary.replace("`", "").split())  # where whatis(1) looks: no macros
    return [
        f'.TH {_escape(name.upper())} 1 "" "scopekeeper {version}"\n',
        ".nh\n.ad l\n",
        ".SH NAME\n",
        f"{_escape(name)} \\- {_escape(summary[:1].lower() + summary[1:])}\n",
    ]


def _summary(command: click.Command) -> str:
    return " ".join((command.help or "").partition("\n\n")[0].split())


def _split(text: str) -> tuple[str, str]:
    """Split a help text into its prose, and what it says about the exit status, which is last."""
    prose, _, status = text.partition(_STATUS)
    return prose.rstrip(), " ".join(status.split())


def _statuses(text: str) -> Iterator[str]:
    found = [_A_STATUS.fullmatch(each) for each in text.rstrip(".").split("; ")]
    entries = [(each[1], each[2] + ".") for each in found if each]
    if len(entries) == len(found):
        yield from _entries("EXIT STATUS", entries)
    elif text:
        yield ".SH EXIT STATUS\n" + _prose(text)


def _entries(title: str, entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    for number, (term, text) in enumerate(entries):
        if not number:
            yield f".SH {title}\n"
        yield f".TP\n.B {_escape(term)}\n{_prose(text)}"


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(filter(None, text.split("\n\n"))):
        yield (".PP\n" if number else "") + _prose(paragraph)


def _prose(text: str) -> str:
    """Return one paragraph; what stands in backticks is bold."""
    pieces = re.split(r"``?([^`]+)``?", " ".join(text.split()))
    bold = [f"\\fB{_escape(each)}\\fR" if odd % 2 else _escape(each)
            for odd, each in enumerate(pieces)]  # fmt: skip
    line = "".join(bold)
    return ("\\&" if line[:1] in (".", "'") else "") + line + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")
