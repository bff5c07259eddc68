"""What a long measurement has found so far, on disk: an interrupted command goes on from there."""

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from leadline.files import atomic_file

Arrays = dict[str, np.ndarray]
VERSION = 2
"""Raised whenever a formula changes: what an earlier one gave under the same settings is then computed again."""


class Kept:
    """A folder of pieces, each a dict of arrays under the settings that decide it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def piece(self, settings: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
        """What `compute` gives, or what it gave before under the same settings. A damaged file is computed again."""
        text = json.dumps({"version": VERSION, "settings": settings}, sort_keys=True)
        file = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
        try:
            with file.open("rb") as handle, np.load(handle, allow_pickle=False) as opened:
                found = dict(opened)
            if str(found.pop("settings")) == text:
                return found
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            pass
        made = compute()
        with atomic_file(file) as temporary, temporary.open("wb") as opened_file:
            np.savez(opened_file, settings=np.array(text), **made)  # type: ignore[arg-type]
        return made
