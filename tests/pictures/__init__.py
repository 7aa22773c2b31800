"""``make pictures``: films a terminal in a machine of the lab, and draws the film as SVG.

``record`` runs in the machine, where scopekeeper and the gateway's real servers are installed.
``svg`` is pure. The pictures are in docs/pictures.
"""
