"""Tests: pure ones in unit/, on a real kernel in cgroup/, on a real systemd in systemd/."""
