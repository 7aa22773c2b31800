"""``scopekeeper hook CLIENT EVENT``: what a client calls at the start and the end of a session.

``front`` returns to the client at once; builtin modules only. ``detached`` is the process that it
leaves behind, and has all the time. ``clients.toml`` has what is done for each client. Imports
``clients``, ``kernel``, ``lifecycle``, ``scope`` and ``systemd``; ``main`` and ``cli`` import it.
"""
