"""Kernel interfaces: cgroupfs, procfs, inotify, process events, socket diagnosis.

Thin functions and classes, one file for each interface, without knowledge of scopes. Imports only
errors and quantities; every other room may import from here. ``proc`` is on the hot path of
``run`` and imports builtin modules only.
"""
