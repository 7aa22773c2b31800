"""The clients that are played. The next one is a file, and a name here."""

from .claude import Claude
from .client import Client
from .codex import Codex
from .copilot import Copilot
from .hermes import Hermes

CLIENTS: dict[str, Client] = {
    client.name: client for client in (Claude(), Codex(), Copilot(), Hermes())
}
