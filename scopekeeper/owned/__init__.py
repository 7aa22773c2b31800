"""Owned paths: a path given with ``--own`` is removed when its last user is gone.

``claim`` and ``plan`` are pure. ``store`` keeps one file for each claim, ``check`` decides which
paths may be owned, ``users`` finds processes that use a path, ``tree`` removes.
``claim_at_launch`` and ``claim_running`` make claims. Call ``release.release_due`` whenever
something has ended: it removes the paths that are due.

Imports from kernel, scope and state; lifecycle, launch, keeper and cli import from here.
"""
