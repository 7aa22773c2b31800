"""Behaviour on a real systemd, as root and as an unprivileged user."""
