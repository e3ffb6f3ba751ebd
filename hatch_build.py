"""Build hook: puts the merged module of the hand-in into the wheel (``bsmtp_batch/deliver/merge.py`` says why)."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class MergeHook(BuildHookInterface):  # type: ignore[type-arg]  # its parameter is of no use to a hook
    """Adds one file to a wheel. An editable install gets none: it would stay behind when the sources change."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the module and have it included (called before the wheel is put together)."""
        if self.target_name != "wheel" or version == "editable":
            return
        sys.path.insert(0, self.root)
        from bsmtp_batch.deliver.merge import DIRECTORY, NAME, merge

        self._made = tempfile.TemporaryDirectory()
        path = os.path.join(self._made.name, NAME + ".py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(merge(os.path.join(self.root, "bsmtp_batch")))
        build_data["force_include"][path] = f"{DIRECTORY}/{NAME}.py"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was written (called after)."""
        if hasattr(self, "_made"):
            self._made.cleanup()
