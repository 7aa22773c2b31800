"""What goes wrong with one thing must not keep the keeper from the others: it is logged, once."""

import contextlib
import logging
from collections.abc import Iterator

from scopekeeper.errors import ScopekeeperError, words

_log = logging.getLogger("scopekeeper")

_MOST = 1000
"""Different messages that are remembered."""


class Faults:
    """Logs each message once."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def log(self, text: str, error: Exception | None = None) -> None:
        """Log a message, and where in the program an error of its own arose."""
        if text in self._logged:
            return
        if len(self._logged) >= _MOST:
            self._logged.clear()
        self._logged.add(text)
        is_expected = error is None or isinstance(error, OSError | ScopekeeperError)
        _log.error("%s", text, exc_info=None if is_expected else error)

    @contextlib.contextmanager
    def contained(self, what: str) -> Iterator[None]:
        """Go on after what is done here, also where it fails."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  whatever it is, it concerns nothing else
            self.log(f"{what}: {words(error)}", error)
