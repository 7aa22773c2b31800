"""Contains MCP cohorts and PTY runs in systemd scopes named after their session and lane."""

__version__ = "0.1.0"
