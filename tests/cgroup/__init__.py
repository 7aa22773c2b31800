"""Behaviour in a delegated cgroup, where no systemd is asked."""
