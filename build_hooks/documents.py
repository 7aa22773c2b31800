"""Puts the manual pages and completions into what is built, made from the commands as they are."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Documents(BuildHookInterface):  # type: ignore[type-arg]
    """In a wheel they go to ``share`` of where it is installed; in an sdist they lie in ``share``.

    A wheel that is built from an sdist makes them again.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Write them into a folder that lives as long as the build."""
        sys.path.insert(0, self.root)
        from scopekeeper.cli.documents import write

        self._folder = tempfile.TemporaryDirectory(prefix="scopekeeper-")
        write(self._folder.name)
        key = "shared_data" if self.target_name == "wheel" else "force_include"
        for path in sorted(Path(self._folder.name).glob("**/*")):
            if path.is_file():
                build_data[key][str(path)] = f"share/{path.relative_to(self._folder.name)}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove them."""
        self._folder.cleanup()
