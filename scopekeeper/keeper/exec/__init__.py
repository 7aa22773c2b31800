"""The keeper's side of runs: it holds their terminals, records their output, and serves clients.

``server`` accepts clients, ``conversation`` serves one, ``runs`` has all runs, ``live`` is one.
May import ``exec`` and what ``keeper`` may import; only ``keeper`` imports from here.
"""
