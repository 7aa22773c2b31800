"""Rewrites the configuration files of MCP clients, so that their servers start in scopes.

May import from the rooms below, most of all launch.arguments; cli, install and openclaw import from
here. All but backups, files, formats, git, other_files,
program, projects, rewrap and running are pure.
"""
