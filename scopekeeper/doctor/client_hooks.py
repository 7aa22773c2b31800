"""Checks that the launchers of registered hooks exist: a hook without one does nothing."""

import os
from collections.abc import Iterator

from scopekeeper.doctor.finding import Finding, Status
from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import files
from scopekeeper.mcp_configs.document import ParseError
from scopekeeper.mcp_configs.hook_files import HookFile, hook_files, update_command
from scopekeeper.mcp_configs.hooks import HookOutcome, HookState, look
from scopekeeper.mcp_configs.program import is_missing


def launchers() -> Iterator[Finding]:
    """Check the hooks in this user's files; nothing if none is registered.

    A file that cannot be read is skipped: ``wrap --hooks --check`` reports it.
    """
    number, is_bad = 0, False
    for file in hook_files(os.environ):
        hooks = _registered(file)
        number += len(hooks)
        missing = [each for each in hooks if is_missing(each.program)]
        off = [each for each in hooks if each.state is HookState.SWITCHED_OFF]
        if missing:
            yield Finding(
                "hooks", Status.LIMIT,
                f"{file.path}: {_events(missing)}: there is no {missing[0].program}, so that they "
                "do nothing",
                update_command(file),
            )  # fmt: skip
        elif off:
            yield Finding(
                "hooks", Status.LIMIT,
                f"{file.path}: {_events(off)}: switched off, since {off[0].detail}",
                f"scopekeeper unwrap --hooks --client {file.client.name}",
            )  # fmt: skip
        is_bad = is_bad or bool(missing or off)
    if number and not is_bad:
        yield Finding("hooks", Status.OK, f"the launcher of each registered hook exists: {number}")


def _events(outcomes: list[HookOutcome]) -> str:
    return ", ".join(each.event for each in outcomes)


def _registered(file: HookFile) -> list[HookOutcome]:
    try:
        outcomes = look(files.read(file.path).text(), file.kind).outcomes if file.exists else ()
    except (ParseError, ConfigError):
        return []
    return [each for each in outcomes if each.program]
