"""Contains OpenClaw's gateway: its configuration, plugin and drop-in, and the status of all three.

May import from install, mcp_configs and the rooms below them; only cli imports from here. plugin/
holds the JavaScript that runs inside the gateway.
"""
