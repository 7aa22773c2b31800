"""What a scope is: its names and records, the snapshot of all scopes, and how to select some.

Reads cgroupfs and procfs, changes nothing. Imports from kernel, systemd and the small modules
below them; policy, history, owned, lifecycle, launch and all above import from here. ``names``,
``records``, ``owner``, ``placement`` and ``choose_placement`` are on the hot path of ``run`` and
import builtin modules only.
"""
