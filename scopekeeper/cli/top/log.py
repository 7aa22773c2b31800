"""Shows warnings in ``top`` that would else be printed into its picture."""

import logging
from collections.abc import Callable

_LOGGERS = ("scopekeeper", "asyncio")


class WarningsShown(logging.Handler):
    """As a context manager it calls say with each warning, in place of standard error."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Show a warning."""
        self._say(record.getMessage())

    def __enter__(self) -> None:
        for logger in map(logging.getLogger, _LOGGERS):
            logger.addHandler(self)
            logger.propagate = False

    def __exit__(self, *_: object) -> None:
        for logger in map(logging.getLogger, _LOGGERS):
            logger.removeHandler(self)
