"""The hot path: ``scopekeeper run`` from its first instruction to the command's."""


def load_more() -> None:
    """Load what making a scope takes; the direct launcher has a faster way to do it."""
