"""Boot real Debian machines with real systemd and run commands or pytest inside them."""
