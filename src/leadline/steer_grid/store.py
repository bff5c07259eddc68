"""The images of a grid on disk: a PNG each, drawn once."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from leadline.data.source import Unreadable, open_image
from leadline.errors import LeadlineError
from leadline.files import atomic_file, write_text
from leadline.records import Panel
from leadline.steer_grid.spec import Column, GridSpec

SETTINGS = ".settings.json"
GRID = "grid"
"""Name of the panel with the first seed's images."""


class Store:
    """The images of a grid, a PNG each, named by setting, prompt and seed: what is there is not drawn again."""

    def __init__(self, folder: Path, spec: GridSpec) -> None:
        self.folder, self.spec = folder, spec

    def file(self, column: Column, prompt: str, seed: int) -> Path:
        """The words of the prompt for people, and its hash, as two prompts may have the same words."""
        words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40]
        digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        return self.folder / column.folder / f"{words}-{digest}-seed-{seed}.png"

    def check(self, settings: dict[str, Any]) -> None:
        """Raise LeadlineError where the folder holds images of other settings."""
        record = self.folder / SETTINGS
        if not record.exists():
            if self.folder.exists() and any(self.folder.iterdir()):
                raise LeadlineError(f"{self.folder} holds files that are not from here: choose another --out")
            return
        try:
            begun = dict(json.loads(record.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise LeadlineError(
                f"{record} is damaged, so how its images were drawn is not known: remove {self.folder}"
            ) from None
        differing = ", ".join(sorted(name for name in settings if begun.get(name) != settings[name]))
        if differing:
            raise LeadlineError(
                f"{self.folder} holds images drawn with other settings ({differing}): choose another --out"
            )

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Note how the images are drawn, before the first one."""
        write_text(self.folder / SETTINGS, json.dumps(settings, indent=1))

    def write(self, file: Path, pixels: UInt8[np.ndarray, "c h w"]) -> None:
        """Write one image whole or not at all."""
        with atomic_file(file) as temporary:
            Image.fromarray(pixels.transpose(1, 2, 0)).save(temporary, format="PNG")

    def read(self, column: Column, prompt: str, seed: int) -> UInt8[np.ndarray, "c h w"]:
        """One image. Raises LeadlineError where it is damaged."""
        image = read_image(self.file(column, prompt, seed), "remove this file, and the same command draws it again")
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)

    def panel(self) -> Panel:
        """The first seed's images, prompts x settings."""
        spec = self.spec
        tiles = [[self.read(column, prompt, spec.seed) for column in spec.columns] for prompt in spec.prompts]
        return Panel(
            name=GRID,
            title="Prompts at growing strength of the bypass",
            tiles=np.array(tiles),
            caption=f"Each row one prompt, each column one setting, all from the noise of seed {spec.seed}.",
            column_titles=tuple(spec.label(column) for column in spec.columns),
            row_titles=spec.prompts,
        )


def read_image(file: Path, advice: str) -> Image.Image:
    """The decoded picture of a file; a LeadlineError with the advice where there is none."""
    image = open_image(file)
    if isinstance(image, Unreadable):
        raise LeadlineError(f"{file} cannot be read as an image ({image.reason}): {advice}")
    return image
