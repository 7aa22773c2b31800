"""Claude Code: its plugin, and where it keeps the titles of its sessions."""
