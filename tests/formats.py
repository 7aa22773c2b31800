"""The formats of the built-in clients: a user's table on this machine does not count."""

from scopekeeper.mcp_configs.known_clients import built_in

FORMATS = built_in()
