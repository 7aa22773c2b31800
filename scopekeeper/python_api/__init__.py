"""For gateways in Python: members are children that are born in their leaf of the scope.

``Cohort`` and ``spawn`` are what others use, as ``scopekeeper.Cohort`` and ``scopekeeper.spawn``.
"""
