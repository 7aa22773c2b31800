"""Turns an error of this process's own limits into the class that the API has for it."""

import contextlib
import errno
from collections.abc import Iterator

from scopekeeper.errors import LimitError, UnavailableError


@contextlib.contextmanager
def named_limits() -> Iterator[None]:
    """Raise LimitError if this process, or the machine, has no descriptors left."""
    try:
        yield
    except (OSError, UnavailableError) as error:
        # what cannot be read for that reason may have been reported as missing
        reason = error if isinstance(error, OSError) else error.__context__
        if not isinstance(reason, OSError) or reason.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        raise LimitError(
            f"no more files can be opened: {reason.strerror}",
            "raise LimitNOFILE= of the service, or `ulimit -n`",
        ) from error
