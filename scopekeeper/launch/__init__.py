"""The hot path: ``scopekeeper run`` from its first instruction to the command's.

What every launch imports is listed in tests/unit/test_imports.py: builtin modules, not even ``os``;
rarer steps import theirs inside functions. Imports the rooms below: ``scope``, ``policy``,
``clients``, ``history``, ``owned``, ``lifecycle``. ``launcher``, ``python_api``, ``exec`` and
``cli`` import it.
"""


def load_more() -> None:
    """Load the modules that making a scope takes; the fast launcher replaces this function."""


def load_later(name: str) -> None:
    """Load a module that few launches need; the fast launcher replaces this function."""
