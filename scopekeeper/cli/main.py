"""The operator's commands. Each is loaded when it is called: click alone takes 25 ms."""

import importlib
import os
import sys

import click

from scopekeeper.cli import output
from scopekeeper.cli.group import Group
from scopekeeper.errors import FAILED, ScopekeeperError
from scopekeeper.launch import signals
from scopekeeper.safe_text import safe
from scopekeeper.version import __version__

COMPLETE = "_SCOPEKEEPER_COMPLETE"
"""In the environment where a shell asks what the Tab key should offer; click answers."""
_COMMANDS = {
    "run": "Start a command inside the scope of its session and lane.",
    "attach": "Be at the terminal of a run.",
    "send": "Type into a run.",
    "ls": "List scopes.",
    "exec": "Start a command with a terminal that outlives who started it.",
    "wait": "Wait until runs have ended.",
    "stop": "Stop scopes or members, and prove it.",
    "reconcile": "Find what nobody owns any more, and end it.",
    "adopt": "Make another gateway the owner.",
    "policy": "Show the rules of a lane, and which file said so.",
    "keeper": "React at once to what reconcile would find later.",
    "watch": "Show what happens to scopes, as it happens.",
    "history": "List what ended, when and why.",
    "why": "Tell in sentences what ended and why.",
    "logs": "Show what a run wrote.",
    "own": "Hand paths over to what runs, to be removed when it is gone.",
    "disown": "Take paths back that were handed over.",
    "wrap": "Rewrite the configuration of MCP clients so that their servers are contained.",
    "unwrap": "Undo wrap.",
    "install": "Have systemd start what belongs to it, for this user or the system.",
    "uninstall": "Undo install.",
    "openclaw": "Contain OpenClaw's gateway, and see what it contains.",
    "doctor": "Check what this machine has for scopekeeper.",
}


_ACTING = {
    "attach", "send", "exec", "wait", "stop", "reconcile", "adopt", "keeper", "own", "disown",
    "wrap", "unwrap", "install", "uninstall", "openclaw",
}  # fmt: skip
"""Commands whose exit status is that of what they do, also where their output cannot be written."""
_TIDY_UP = frozenset(("exec", "wrap", "unwrap", "install", "uninstall", "openclaw", "doctor"))
"""Commands that undo what they have begun when they are interrupted. The others do nothing that
may not be left at any moment, and end at once."""


_SHOWING = {"--dry-run", "--check", "--list", "status"}
"""What makes them show something instead."""


class _Commands(Group):
    """Imports a command when it is asked for, and lists the others without importing them."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            signals.die()
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"scopekeeper.cli.{cmd_name}")
        command: click.Command = module.command
        if COMPLETE in os.environ:
            from scopekeeper.cli import completing

            completing.teach(command)
        if cmd_name in _TIDY_UP:
            signals.unwind_by_interrupt()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def group() -> None:
    """Keep MCP servers and PTY runs in scopes named after their session and lane."""


def main() -> None:
    """Run one command and exit; what goes wrong is one line on stderr."""
    if COMPLETE in os.environ:
        from click.shell_completion import add_completion_class

        from scopekeeper.cli.bash import Bash

        add_completion_class(Bash)
        group.main(prog_name="scopekeeper", complete_var=COMPLETE)
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    if command == "run":  # its descriptors, closed ones too, are those of the command to come
        sys.exit(_call(usage_status=FAILED, failed=FAILED))
    acts = command in _ACTING and not _SHOWING.intersection(sys.argv)
    out = output.prepare(forgiving=acts)
    sys.exit(output.finish(out, _call()))


def _call(usage_status: int = 2, failed: int | None = None) -> int:
    """Run the command that the arguments name; return its exit status.

    failed is that of every error, where they all have the same.
    """
    try:
        status = group.main(prog_name="scopekeeper", standalone_mode=False)
    except SystemExit as ended:
        status = ended.code
    except click.UsageError as error:
        _say(f"{error.format_message().rstrip('.')}; see `{_path(error)} --help`")
        return usage_status
    except click.ClickException as error:
        _say(error.format_message())
        return usage_status
    except click.Abort:
        return 130
    except ScopekeeperError as error:
        _say(str(error))
        return failed or error.status
    except LookupError as error:
        if "cgroup2" not in str(error):
            return _internal(error)
        _say(f"{error.args[0]}; `scopekeeper doctor` shows what is missing")
        return 1
    except BrokenPipeError:
        return output.NOBODY_READS
    except OSError as error:
        if error is getattr(sys.stdout, "problem", None):
            return 1  # reported when the command is over
        return _internal(error)
    except Exception as error:  # noqa: BLE001  no traceback ever reaches a user
        return _internal(error)
    return status if isinstance(status, int) else 0


def _path(error: click.UsageError) -> str:
    return error.ctx.command_path if error.ctx is not None else "scopekeeper"


def _internal(error: Exception) -> int:
    if os.environ.get("SCOPEKEEPER_DEBUG"):
        raise error
    if isinstance(error, OSError):
        _say(f"{error.filename or 'error'}: {error.strerror or error}")
    else:
        _say(f"internal error: {type(error).__name__}: {error}; SCOPEKEEPER_DEBUG=1 shows where")
    return 1


def _say(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"scopekeeper: {safe(text)}\n")
