"""The history of ended members: what ended, when and why, one row for each.

``launch_ledger`` is on the hot path of ``run``; everything else is for whoever sees an end or asks.
Imports the rooms below: ``scope``, ``systemd``, ``kernel``; ``lifecycle``, ``launch``, ``exec``,
``keeper`` and ``cli`` import it. Nothing depends on it: if it cannot be written, work goes on.
"""
