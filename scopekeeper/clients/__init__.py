"""The programs that start members, and how each one names its session in the environment.

``clients.toml`` has a table for each; ``python -m scopekeeper.clients.compile`` writes it into
``table``. On the hot path of ``run``: ``variables`` and ``table``; ``identity`` for launches with a
variable of a client; builtin modules only. Imports the ground floor, ``kernel``, ``scope`` and
``policy``. A folder here holds what belongs to one client: what is installed into it, such as its
plugin, and where it keeps the titles of its sessions (``title``).
"""
