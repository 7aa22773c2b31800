"""Other machines: their names and groups, and the way to ask a scopekeeper there, by ssh."""
