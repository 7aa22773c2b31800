"""Checks that this machine has what scopekeeper needs; each finding says how to fix it.

May import from every room below; only cli imports from here. ``examine`` runs all checks.
"""
