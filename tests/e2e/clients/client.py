"""What the script needs to know of a client. Each client is one file with a subclass."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from tests.e2e.packages import Package, install
from tests.lab.host import Note

INSTALLED = Path("/opt/clients")
"""Where the lab's machine has what was installed on the host."""
MODEL = "scripted-1"
PATH = "/usr/local/bin:/usr/bin:/bin"
"""What clients are started with."""


@dataclass(frozen=True, slots=True)
class Server:
    """An MCP server that a client is configured with."""

    command: str
    arguments: list[str]
    environment: dict[str, str]

    @property
    def json(self) -> dict[str, Any]:
        """As most clients write it."""
        return {"command": self.command, "args": self.arguments, "env": self.environment}


@dataclass(frozen=True, slots=True)
class Place:
    """Where one play of a client happens."""

    home: Path
    work: Path
    """the project's folder"""
    url: str
    """of the model, without a path"""
    servers: dict[str, Server]

    def write(self, path: str, content: object) -> None:
        """Write a file of the home: a text as it is, anything else as JSON."""
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))


class Client(ABC):
    """A client."""

    name: ClassVar[str]
    version: ClassVar[str]
    title: ClassVar[str]
    wrapped_as: ClassVar[str]
    """its name for ``wrap --client``"""
    prompt_sign: ClassVar[str]
    """on its screen when a prompt can be typed"""
    exit_words: ClassVar[str] = "/exit"
    new_words: ClassVar[str] = "/clear"
    asks: ClassVar[str] = ""
    """on its screen when it asks at its end what is to be done with commands that run"""
    names_servers: ClassVar[bool] = False
    """whether its servers have the id of the session in their environment"""
    names_commands: ClassVar[bool] = False
    """whether its commands have it"""
    contains_commands: ClassVar[bool] = False
    """whether ``shell_variables`` lead to scopekeeper-shell"""

    not_played: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """ends, and tests, that are not played with it; why"""

    @abstractmethod
    def install(self, root: Path, note: Note) -> None:
        """Have it installed in a folder, on the host; UnreachableError without its registry."""

    @abstractmethod
    def argv(self) -> list[str]:
        """Return the program, without arguments."""

    def itself(self, started: int) -> int:
        """Return the pid of the client itself, which the started program may have as a child."""
        return started

    @abstractmethod
    def configure(self, place: Place) -> None:
        """Write its configuration: the model, the servers, no questions, telemetry and updates."""

    @abstractmethod
    def variables(self, place: Place) -> dict[str, str]:
        """Return the environment that it needs besides the usual one."""

    @abstractmethod
    def once(self, prompt: str) -> list[str]:
        """Return the arguments for one prompt without a terminal."""

    @abstractmethod
    def resume(self, session: str, prompt: str) -> list[str]:
        """Return the arguments that go on with a session, for one prompt."""

    @abstractmethod
    def terminal(self) -> list[str]:
        """Return the arguments at a terminal."""

    def shell_variables(self, shells: Path) -> dict[str, str]:
        """Return what leads to scopekeeper-shell; the folder has a bash that does."""
        return {}

    @abstractmethod
    def ping(self, server: str) -> str:
        """Return the step of a script that calls a server's tool."""

    @abstractmethod
    def command(self, line: str, *, background: bool = False) -> str:
        """Return the step of a script that runs a shell command."""

    def subagent(self, script: str) -> str:
        """Return the step of a script that has a subagent do another script."""
        raise NotImplementedError

    def add_hook(self, place: Place, event: str, command: str) -> None:
        """Write a hook of the user's own into its settings."""
        raise NotImplementedError

    def sessions(self, place: Place) -> set[str]:
        """Return the ids of its sessions, from the files that it keeps of them."""
        return set()

    def session_name(self, identifier: str) -> str:
        """Return the name that scopekeeper is to give the session."""
        return f"{self.name}:{identifier}"


class FromNpm(Client):
    """A client that is one package of npm, with a program that runs by itself."""

    package: ClassVar[Package]
    """its ``proof`` is the program"""

    def install(self, root: Path, note: Note) -> None:
        install(root, self.package, note)

    def argv(self) -> list[str]:
        return [str(INSTALLED / self.package.folder / self.package.proof)]


def call(tool: str, **arguments: object) -> str:
    """Return a step of a script."""
    return f"call: {tool} {json.dumps(arguments)}"
