"""A place for a child that the gateway starts itself, for instance with clone3(2)."""

import marshal
import os
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from scopekeeper import errors
from scopekeeper.errors import UnavailableError
from scopekeeper.launch.place import Placed
from scopekeeper.python_api.limits import named_limits
from scopekeeper.python_api.options import in_python
from scopekeeper.python_api.process import warn

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from scopekeeper.launch.place import serve; serve()"
)
_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Birthplace:
    """A leaf that waits for its first process.

    Start a child with ``CLONE_INTO_CGROUP`` and ``fileno()`` as its cgroup, and with
    ``environment``. The block closes the descriptor; the leaf is removed if no process comes in
    time.
    """

    def __init__(self, placed: Placed, environment: Mapping[str, str]) -> None:
        self.directory = placed.directory
        """The leaf's directory in the cgroup2 hierarchy."""
        self.scope, self.member = placed.unit, placed.leaf
        """The unit of its scope, and the name of its leaf there."""
        changed = {**environment, **placed.environment}
        self.environment = {k: v for k, v in changed.items() if k not in placed.unset}
        """What the child has to have, so that it is found if it leaves its scope."""
        self._fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor of the leaf; raises ValueError once it is closed."""
        if self._fd < 0:
            raise ValueError("the place is closed")
        return self._fd

    def close(self) -> None:
        """Close the descriptor. What was started goes on."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@named_limits()
def make(options: dict[str, str], environment: Mapping[str, str] | None) -> Birthplace:
    """Make a place that this process owns; raises ScopekeeperError.

    Another process makes it: this one may have threads, and must not be forked.
    """
    called = subprocess.run(
        [sys.executable, "-IS", "-c", _START, _FOLDER],
        input=marshal.dumps(options | {"parent": str(os.getpid())}),
        stdout=subprocess.PIPE,
        check=False,
    )
    if not called.stdout:
        raise UnavailableError("the program that makes the place ended before it did")
    kind, *rest = marshal.loads(called.stdout)  # noqa: S302  from our own child
    if kind == "failed":
        raise getattr(errors, rest[0])(*map(in_python, rest[1:]))
    placed = Placed(*rest)
    warn(placed.warnings)
    return Birthplace(placed, os.environ if environment is None else environment)
