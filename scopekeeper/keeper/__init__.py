"""The keeper: reacts at once to what ``reconcile`` would find later. It never polls.

``main`` is the process, ``keeper`` decides and acts, ``tracker`` follows the scopes of one uid and
``watch`` collects the kernel's events for it; ``dbus_service`` answers on the bus. ``exec/`` serves
runs with a terminal. The rest are parts of these, one concern each.

May import from every room up to ``exec``. Imported by ``cli`` and ``doctor`` alone.
"""
