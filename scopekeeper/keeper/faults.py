"""Contains faults: what fails for one scope is logged once and does not affect the others."""

import contextlib
import logging
from collections.abc import Iterator

from scopekeeper.errors import ScopekeeperError, words

_log = logging.getLogger("scopekeeper")

_MOST = 1000
"""How many different messages to remember."""


class Faults:
    """Logs each message once."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def log(self, text: str, error: Exception | None = None) -> None:
        """Log a message, with a traceback if the error is unexpected."""
        if text in self._logged:
            return
        if len(self._logged) >= _MOST:
            self._logged.clear()
        self._logged.add(text)
        is_expected = error is None or isinstance(error, OSError | ScopekeeperError)
        _log.error("%s", text, exc_info=None if is_expected else error)

    @contextlib.contextmanager
    def contained(self, what: str) -> Iterator[None]:
        """Log an exception that the block raises, and continue after it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  whatever it is, it concerns only this block
            self.log(f"{what}: {words(error)}", error)
