"""Decides what becomes of scopes and members (``plan``), and does it: all that acts on them.

``reconcile`` carries a plan out, ``stop`` ends scopes and proves it, ``stop_launched`` also what
was launched from them, ``stop_mark`` and ``stop_witness`` keep its cause, ``observe`` reads what
the history keeps of an end, ``unseen_ends`` finds ends that nobody watched, ``leavers`` and
``left_earlier`` find what left a scope; ``remove``, ``adopt``, ``replace``, ``lane_quota`` and
``escaped`` each do what their name says.

May import from ``kernel``, ``systemd``, ``scope``, ``policy``, ``history``, ``owned`` and what is
below them. Imported by ``launch`` and every room above it.
"""
