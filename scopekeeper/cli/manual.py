"""Generates man pages from the commands' own declarations, so the two cannot differ.

One page for each command, such as ``scopekeeper-ls.1``, one for all, and those of the other
programs. man-pages(7) defines the order of the sections, groff_man(7) the macros.
"""

import re
from collections.abc import Iterable, Iterator

import click

from scopekeeper.cli.examples import examples_of

_STATUS = "Exit status: "
_A_STATUS = re.compile(r"(\d+(?:(?:, | to )\d+)*) ([^.]+(?:\.\S[^.]*)*)")

_ENVIRONMENT = {
    "SCOPEKEEPER_SESSION, SCOPEKEEPER_LANE, SCOPEKEEPER_RUN, SCOPEKEEPER_SESSION_ID":
        "Defaults for the options of `run`, `exec` and scopekeeper-shell. Set in the environment "
        "of every command that they start.",
    "SCOPEKEEPER_OWNER": "The gateway's pid. Needed if the parent process is only a helper.",
    "SCOPEKEEPER_SCOPE, SCOPEKEEPER_MEMBER, SCOPEKEEPER_KIND": "Set for a started command: its "
        "scope unit, its leaf there, and its kind.",
    "SCOPEKEEPER_PLACEMENT": "Where to create scopes: `auto`, `user`, `system` or `cgroup:PATH`.",
    "SCOPEKEEPER_IF_UNAVAILABLE": "`fail` or `warn`: what to do if no scope can be created.",
    "SCOPEKEEPER_SHELL": "The real shell that scopekeeper-shell executes. If that is called by the "
        "name of a shell, as `bash`, only a shell of that name counts.",
    "SCOPEKEEPER_DETACH_KEYS": "The keys that detach from a run. Default: ctrl-\\.",
    "SCOPEKEEPER_CONFIG": "The folder of config.toml, config.d and clients.toml, instead of "
        "~/.config/scopekeeper. The keeper uses it only if its own environment sets it.",
    "SCOPEKEEPER_STATE": "The folder of the history, the runs, the records of owned paths and "
        "the backups of `wrap`. If the folder exists and is not private, a folder scopekeeper-UID "
        "inside it is used.",
    "SCOPEKEEPER_METRICS, SCOPEKEEPER_METRICS_SESSIONS": "For the keeper: where it serves metrics, "
        "and how many sessions have series of their own.",
    "SCOPEKEEPER_DEBUG": "If set, an internal error shows its traceback.",
}  # fmt: skip
_FILES = {
    "/etc/scopekeeper/config.toml, ~/.config/scopekeeper/config.toml, and config.d/*.toml beside":
        "The rules of lanes; later files override earlier ones.",
    "/etc/scopekeeper/clients.toml, ~/.config/scopekeeper/clients.toml":
        "More clients, and the variables that hold the ids of their sessions.",
    "/var/lib/scopekeeper, ~/.local/state/scopekeeper":
        "The history, the output of runs, the records of owned paths, and backups of files in git "
        "work trees: for root, and for any other user.",
}  # fmt: skip
_SHELL = """\
scopekeeper-shell replaces a shell wherever one is configured by its path. It moves itself into the
scope of its session (with a terminal of its own, into a new scope) and then executes the real
shell: the same process, with the same terminal and arguments. The real shell is $SCOPEKEEPER_SHELL,
else the user's login shell, else /bin/sh, and never scopekeeper-shell itself.

Called by the name of a shell, as by a link `bash` to it, it becomes the next program of that name
in $PATH instead. `scopekeeper install --shell` makes such a link.

If no scope can be created, a login or interactive shell starts anyway, with one line on standard
error. A command or script does not start, unless the password database names scopekeeper-shell and
the environment names no session, or it was called by the name of a shell.
$SCOPEKEEPER_IF_UNAVAILABLE overrides this.

Exit status: that of the shell; 125 if scopekeeper failed, 126 if the shell cannot be executed, \
127 if it is not found."""
SHELL = "scopekeeper-shell"
_PREFIX = """\
scopekeeper-prefix is the program for $CLAUDE_CODE_SHELL_PREFIX of Claude Code, set under `env` in
settings.json. Claude Code starts MCP servers, commands of its Bash tool and hooks through it, each
as one command line.

A server or a command becomes a member of the scope of its session. Hooks, and what it cannot
recognise, run as they do without it. A server that `scopekeeper wrap` has wrapped is contained
once, by its own line. The line is passed on to a shell to the byte: to $SHELL for a command of the
Bash tool, else to /bin/sh.

Nothing prevents the command: if no scope can be created, it runs uncontained, a server with one
line on standard error. With $SCOPEKEEPER_IF_UNAVAILABLE set to `warn`, commands have that line too;
with `fail`, neither runs.

Exit status: that of the command; 2 if there is no command line; 125 if no scope can be created \
and $SCOPEKEEPER_IF_UNAVAILABLE is `fail`; 126 if no shell can be executed; 127 if the command is \
not found."""
PREFIX = "scopekeeper-prefix"


def pages(group: click.Group, name: str, version: str) -> dict[str, str]:
    """Return the pages of a command group, of all its commands, and of the other programs.

    The keys are file names; all pages belong to section 1.
    """
    found = {
        _name(command): _page(command, version)
        for command in _commands(click.Context(group, info_name=name, **group.context_settings))
    }
    found[SHELL] = _program(
        SHELL, "a login or command shell in a scope", "[ARGUMENTS OF THE SHELL]", _SHELL, version
    )
    found[PREFIX] = _program(
        PREFIX, "contains what Claude Code starts", "COMMAND-LINE", _PREFIX, version
    )
    return {f"{page}.1": text for page, text in found.items()}


def _commands(context: click.Context) -> Iterator[click.Context]:
    """Yield a context for a command and for each of its subcommands."""
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
    parts += _examples(examples_of(command))
    above = [f"{_name(context.parent)}(1)"] if context.parent else [f"{SHELL}(1)", f"{PREFIX}(1)"]
    parts += [".SH SEE ALSO\n", _escape(", ".join([*above, "systemd.scope(5)"])) + "\n"]
    return "".join(parts)


def _name(context: click.Context) -> str:
    """Return the name of a command's page."""
    return context.command_path.replace(" ", "-")


def _program(name: str, summary: str, arguments: str, text: str, version: str) -> str:
    prose, status = _split(text)
    return "".join((
        *_head(name, summary, version),
        *(".SH SYNOPSIS\n", f".B {_escape(name)}\n", _escape(arguments) + "\n"),
        *(".SH DESCRIPTION\n", *_paragraphs(prose), *_statuses(status)),
        *(".SH SEE ALSO\n", _escape("scopekeeper(1), scopekeeper-run(1)") + "\n"),
    ))  # fmt: skip


def _head(name: str, summary: str, version: str) -> list[str]:
    summary = " ".join(summary.replace("`", "").split())  # whatis(1) reads this: no macros
    return [
        f'.TH {_escape(name.upper())} 1 "" "scopekeeper {version}"\n',
        ".nh\n.ad l\n",
        ".SH NAME\n",
        f"{_escape(name)} \\- {_escape(summary[:1].lower() + summary[1:])}\n",
    ]


def _summary(command: click.Command) -> str:
    return " ".join((command.help or "").partition("\n\n")[0].split())


def _split(text: str) -> tuple[str, str]:
    """Split a help text into its prose and the description of the exit status at its end."""
    prose, _, status = text.partition(_STATUS)
    return prose.rstrip(), " ".join(status.split())


def _statuses(text: str) -> Iterator[str]:
    found = [_A_STATUS.fullmatch(each) for each in text.rstrip(".").split("; ")]
    entries = [(each[1], each[2] + ".") for each in found if each]
    if len(entries) == len(found):
        yield from _entries("EXIT STATUS", entries)
    elif text:
        yield ".SH EXIT STATUS\n" + _prose(text)


def _examples(lines: list[str]) -> list[str]:
    shown = "".join(f"{_escape(line)}\n" for line in lines)
    return [f".SH EXAMPLES\n.nf\n{shown}.fi\n"] if lines else []


def _entries(title: str, entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    for number, (term, text) in enumerate(entries):
        if not number:
            yield f".SH {title}\n"
        yield f".TP\n.B {_escape(term)}\n{_prose(text)}"


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(filter(None, text.split("\n\n"))):
        yield (".PP\n" if number else "") + _prose(paragraph)


def _prose(text: str) -> str:
    """Format one paragraph; text in backticks becomes bold."""
    pieces = re.split(r"``?([^`]+)``?", " ".join(text.split()))
    bold = [f"\\fB{_escape(each)}\\fR" if odd % 2 else _escape(each)
            for odd, each in enumerate(pieces)]  # fmt: skip
    line = "".join(bold)
    return ("\\&" if line[:1] in (".", "'") else "") + line + "\n"


def _escape(text: str) -> str:
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    # roff reads bytes: what is not ASCII has a name there (groff_char(7))
    return "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in plain)
