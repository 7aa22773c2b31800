"""Finds the files of clients that have hooks; makes and removes those that did not exist."""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass

from scopekeeper import whole_file
from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import backups, files
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.formats import first_folder
from scopekeeper.mcp_configs.hook_format import HookFormat
from scopekeeper.mcp_configs.known_clients import formats

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class HookFile:
    """The file of a client that has its hooks, whether it exists or not."""

    path: str
    folder: str
    """The client's own folder, which the client makes."""
    client: Format
    kind: HookFormat

    @property
    def exists(self) -> bool:
        """Whether something has its name."""
        return os.path.lexists(self.path)


def clients_with_hooks() -> dict[str, Format]:
    """Return the clients whose hooks can be registered."""
    return {name: each for name, each in formats().items() if each.hooks}


def hook_files(environment: Mapping[str, str], client: str | None = None) -> list[HookFile]:
    """Return the file of each client that this user has, or of one client in any case."""
    found = []
    for name, each in clients_with_hooks().items():
        kind = each.hooks
        if kind is None or client not in (None, name):
            continue
        folder = first_folder(kind.folders, environment)
        if folder and (client or os.path.isdir(folder)):
            found.append(HookFile(os.path.join(folder, kind.file), folder, each, kind))
    return found


def update_command(file: HookFile) -> str:
    """Return the command that gives the hooks of a client another launcher."""
    return f"scopekeeper wrap --hooks --update --client {file.client.name}"


def make(file: HookFile, text: str) -> None:
    """Make a file that does not exist, for this user only; raises ConfigError."""
    path = file.path
    try:
        os.stat(file.folder)
    except OSError as error:
        start = f"start {file.client.title} once, and run this again"
        raise ConfigError(f"{path}: {file.folder}: {error.strerror}", start) from None
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        folder = os.open(os.path.dirname(path), _FOLDER)
        try:
            name = os.path.basename(path)
            with whole_file.written(folder, text.encode(), durable=True) as ready:
                # unlike rename, link does not overwrite a file that just appeared
                os.link(ready, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            backups.sync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        reason = "is there by now" if error.errno == errno.EEXIST else error.strerror
        raise ConfigError(f"{path}: was not made: {reason}") from None


def is_made(original: files.Original) -> bool:
    """Return whether a file was made here: one that was there before has a backup."""
    folder = os.open(os.path.dirname(original.target), _FOLDER)
    try:
        with backups.opened(original.target, folder) as known:
            return not known.existing()
    finally:
        os.close(folder)


def remove(file: HookFile, original: files.Original) -> None:
    """Remove a file, and its folder if that is empty and not the client's; raises ConfigError."""
    files.remove(original)
    folder = os.path.dirname(file.path)
    try:
        if os.path.realpath(folder) != os.path.realpath(file.folder):
            os.rmdir(folder)
    except OSError:  # other files are in it
        return
