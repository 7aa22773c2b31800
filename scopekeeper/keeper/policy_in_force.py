"""The policy that the keeper applies: re-read when its files change, kept if they are invalid."""

import logging
import os

from scopekeeper.errors import words
from scopekeeper.policy.files import find, folders
from scopekeeper.policy.load import load
from scopekeeper.policy.rules import Policy

_log = logging.getLogger("scopekeeper")


class PolicyInForce:
    """The last valid policy; an empty one until there is one."""

    def __init__(self) -> None:
        self.policy = Policy()
        self.was_read = False
        """Whether the policy is one that was read."""
        self.is_valid = False
        """Whether what the files have now is in force."""
        self._signature = ""
        self._ignored: list[str] = []
        self.read()

    def has_changed(self) -> bool:
        """Return True if the files have changed since they were read."""
        return self._signature != self._find()

    def folders(self) -> list[str]:
        """Return the folders in which a change may be one of the policy, if they can be read."""
        found = [each for folder in folders() for each in (folder, f"{folder}/config.d")]
        return [each for each in found if os.path.isabs(each) and os.access(each, os.R_OK)]

    def read(self) -> bool:
        """Read the files; return False, and keep the policy as it is, if they are invalid."""
        self.is_valid = False
        try:
            self._signature = self._find()
            self.policy = load()
        except Exception as error:  # noqa: BLE001  no content of a file may end the keeper
            before = "the previous rules stay in force"
            without = "until it is mended, no rule ends anything"
            _log.error("%s; %s", words(error), before if self.was_read else without)
            return False
        self.was_read = self.is_valid = True
        return True

    def _find(self) -> str:
        """Return the signature of the files, and log once which ones are ignored."""
        found = find()
        for problem in found.ignored:
            if problem not in self._ignored:
                _log.warning("%s", problem)
        self._ignored = found.ignored
        return found.signature
