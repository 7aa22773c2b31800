"""Rewrites the configuration files of MCP clients, so that their servers start in scopes.

May import from the rooms below, most of all launch.arguments; cli, doctor, install and openclaw
import from here. The modules that are pure have that in their first line.
"""
