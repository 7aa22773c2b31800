"""What a call with a wrong option is answered: what is wrong, what to write, where the help is."""

from collections.abc import Mapping

import click

from scopekeeper.cli.unknown_command import with_help

_FOLLOW = "`scopekeeper watch` prints events as they happen"
_KILLS = "what outlives its grace is killed anyway; `--grace 0s` kills at once"
_ASKS_NOTHING = "it asks no questions"
_TERMINAL = "its command has a terminal, unless you give --pipe"

_FOREIGN: Mapping[str, Mapping[str, str]] = {
    "": {"-v": "--version", "-V": "--version"},
    "ls": {
        **dict.fromkeys(("-v", "--verbose", "-m"), "--members"),
        **dict.fromkeys(("-q", "--quiet"), "--json"),
        **dict.fromkeys(("-f", "--follow", "-w", "--watch"), _FOLLOW),
    },
    "history": {
        **dict.fromkeys(("--tail", "--lines", "--last"), "--limit"),
        **dict.fromkeys(("-f", "--follow"), _FOLLOW),
        **dict.fromkeys(("-a", "--all"), "it lists every end, up to `--limit`"),
    },
    "logs": {"--tail": "--lines", "-F": "--follow"},
    "watch": {
        **dict.fromkeys(("-n", "--interval"), "it prints each event when it happens"),
        **dict.fromkeys(("-f", "--follow"), "it follows until Ctrl-C"),
    },
    "top": {
        **dict.fromkeys(("-b", "--batch", "--once"), "`scopekeeper ls` lists once"),
        "--interval": "--delay",
        "-u": "--all-users",
    },
    "why": {"-a": "--all"},
    "stop": {
        **dict.fromkeys(("-f", "--force", "-9", "-K", "-S", "--kill", "--signal"), _KILLS),
        **dict.fromkeys(("-a", "--all"), "say what to stop: a session, `--mine`, or a state, as "
                        "`--state running`"),
        "-t": "--grace",
        "--timeout": "--grace",
    },
    "reconcile": dict.fromkeys(("-a", "--all"), "it goes through all scopes of yours; "
                               "`--all-users` adds those of others"),
    "run": {
        **dict.fromkeys(("-d", "--detach"), "`scopekeeper exec -d` starts a command and returns"),
        **dict.fromkeys(("-i", "-t", "--tty"), "`scopekeeper exec` gives a command a terminal"),
    },
    "exec": dict.fromkeys(("-i", "-t", "--tty", "--interactive"), _TERMINAL),
    "attach": dict.fromkeys(("-r", "--ro", "--readonly"), "--read-only"),
}  # fmt: skip
"""For each command what other tools call an option, and the option here, or a clause."""

_NEAREST: Mapping[str, tuple[str, ...]] = {
    "-a": ("--all-users",),
    "--all": ("--all-users",),
    "-f": ("--force",),
    "-j": ("--json",),
    "-n": ("--dry-run",),
    "-o": ("--json",),
    "-t": ("--timeout",),
    "-v": ("--no-trunc", "--json"),
    "--verbose": ("--no-trunc", "--json"),
    "-w": ("--no-trunc",),
}
"""The same for all others: the first option that the command has."""

_CLAUSES: Mapping[str, str] = {
    **dict.fromkeys(("-f", "--force", "-y", "--yes"), _ASKS_NOTHING),
    **dict.fromkeys(("-q", "--quiet"), "its exit status says how it went: add `>/dev/null`"),
}

_RUN = ": `scopekeeper ls -a` lists runs"


def text_of(error: click.UsageError) -> str:
    """Return what is wrong, what to write instead, and where the help is, as one line."""
    text = error.format_message().rstrip(".")
    if isinstance(error, click.NoSuchOption):  # click's own words differ by version
        text = f"No such option {error.option_name!r}{_instead(error)}"
    elif isinstance(error, click.BadOptionUsage):
        text += _usage(error)
    elif isinstance(error, click.MissingParameter) and _lacks_run(error):
        text += _RUN
    return with_help(text, error.ctx.command_path if error.ctx is not None else "scopekeeper")


def _instead(error: click.NoSuchOption) -> str:
    """Return what to write instead of an option that a command does not have."""
    known: set[str] = set()
    words: tuple[str, ...] = ()
    if error.ctx is not None:
        known = {option for each in error.ctx.command.get_params(error.ctx) for option in each.opts}
        words = tuple(error.ctx.command_path.split(" ")[1:])
    name = error.option_name
    foreign = _FOREIGN.get(" ".join(words), {}).get(name, "")
    near = [each for each in _NEAREST.get(name, ()) if each in known]
    found = foreign or (near[0] if near else "") or _CLAUSES.get(name, "") if words else foreign
    if not found and error.possibilities:
        found = error.possibilities[0]
    if found.startswith("--"):
        return f". Did you mean {found!r}?"
    return f": {found}" if found else ""


def _usage(error: click.BadOptionUsage) -> str:
    """Return how the option of an error is written, if it lacks its argument."""
    if error.ctx is None:
        return ""
    for each in error.ctx.command.get_params(error.ctx):
        takes = isinstance(each, click.Option) and not (each.is_flag or each.count)
        if takes and error.option_name in (*each.opts, *each.secondary_opts):
            value = each.metavar or each.type.name.upper()
            if isinstance(each.type, click.Choice) and not each.metavar:
                value = "|".join(map(str, each.type.choices))
            return f": {error.option_name} {value}"
    return ""


def _lacks_run(error: click.MissingParameter) -> bool:
    return (error.param.metavar or "").startswith("RUN") if error.param is not None else False
