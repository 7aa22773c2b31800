"""The clients that are played. The next one is a file, and a name here."""

from .claude import Claude
from .client import Client
from .codex import Codex
from .copilot import Copilot
from .gemini import Gemini
from .hermes import Hermes
from .opencode import OpenCode

_ALL: tuple[Client, ...] = (Claude(), Codex(), Gemini(), Copilot(), Hermes(), OpenCode())
CLIENTS: dict[str, Client] = {client.name: client for client in _ALL}
