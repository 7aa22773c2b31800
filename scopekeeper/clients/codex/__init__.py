"""Codex: where it keeps the titles of its sessions."""
