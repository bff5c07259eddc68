"""The page on which a person labels images: one HTML file that works offline and is driven by the keyboard."""

import base64
import hashlib
import json
import string
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from leadline.errors import LeadlineError
from leadline.files import write_text
from leadline.report.images import data_uri, enlarged
from leadline.report.words import counted, number, plain

ROOM = 320
"""CSS px that an image is enlarged to, by a whole number."""
MOST_SIDE = 320
"""Image px of the longer side above which images are made smaller: hundreds of them lie within the page."""
KEYS = "123456789" + "".join(letter for letter in string.ascii_lowercase if letter not in "nu")
"""Keys of the classes, in their order; 0 and n are “none of these”, u is “unsure”. Further classes have buttons."""


@dataclass(frozen=True, kw_only=True)
class LabelTask:
    """What a person is to label: images in random order, and what identifies them.

    pixels: uint8 [n, c, h, w], in the order in which they are shown; ids: one per image. samples_name, fingerprint,
    num_samples: of the images that they were drawn from. classes: to choose from, beside the words `none` and
    `unsure`. format, version: of the file that the page saves. page: 16 hex digits that differ where images, their
    order, number or classes do.
    """

    samples_name: str
    fingerprint: str
    num_samples: int
    seed: int
    pixels: UInt8[np.ndarray, "n c h w"]
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    none: str
    unsure: str
    format: str
    version: int
    page: str


def build_label_page(task: LabelTask, out: Path) -> Path:
    """Write the page to `out`; returns `out`. The same task gives the same bytes.

    The page loads nothing, and its policy lets no other script than its own run. Raises LeadlineError where `out` is a
    folder.
    """
    if out.is_dir():
        raise LeadlineError(f"{out} is a folder: name the file of the page, such as {out / 'label.html'} (--out)")
    text = {name: _file(name) for name in ("report.css", "label.css", "label.js")}
    environment = Environment(
        loader=PackageLoader("leadline.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    height, width = task.pixels.shape[2:]
    small = smaller(task.pixels)
    scale = enlarged(small.shape[3], ROOM)
    script = text["label.js"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template("label.html.jinja").render(
        # Not the samples' name: who knows which model drew them may see what is expected of it.
        title=f"Label {counted(len(task.ids), 'image')}",
        facts=[
            f"drawn at random from {number(task.num_samples)}, seed {task.seed}",
            plain(f"page {task.page}"),
            f"leadline {metadata.version('leadline')}",
        ],
        version=metadata.version("leadline"),
        task=task,
        width=small.shape[3] * scale,
        height=small.shape[2] * scale,
        shrunk=""
        if small.shape == task.pixels.shape
        else f"{width}×{height} px, here {small.shape[3]}×{small.shape[2]}",
        css=Markup(text["report.css"] + text["label.css"]),  # noqa: S704 - our own files
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=Markup(f"sha256-{digest}"),  # noqa: S704 - letters of base64
        task_json=_embedded(task, small, smooth=scale == 1),
    )
    write_text(out, page)
    return out


def smaller(pixels: UInt8[np.ndarray, "n c h w"]) -> UInt8[np.ndarray, "n c a b"]:
    """The images with a longer side of at most `MOST_SIDE` px, their shape kept (Lanczos); as they are where it is."""
    height, width = pixels.shape[2:]
    longer = max(height, width)
    if longer <= MOST_SIDE:
        return pixels
    size = (max(1, width * MOST_SIDE // longer), max(1, height * MOST_SIDE // longer))
    channels = [
        [np.asarray(Image.fromarray(channel).resize(size, Image.Resampling.LANCZOS)) for channel in image]
        for image in pixels
    ]
    return np.array(channels, dtype=np.uint8)


def _embedded(task: LabelTask, pixels: UInt8[np.ndarray, "n c h w"], *, smooth: bool) -> Markup:
    """The task as JSON that cannot end the element it stands in: `<`, `>` and `&` are written as escapes."""
    content = {
        "format": task.format,
        "version": task.version,
        "page": task.page,
        "samples": {"name": plain(task.samples_name), "fingerprint": task.fingerprint, "n": task.num_samples},
        "seed": task.seed,
        "classes": task.classes,
        "none": task.none,
        "unsure": task.unsure,
        "keys": KEYS[: len(task.classes)],
        "smooth": smooth,
        "ids": task.ids,
        "images": [data_uri(np.moveaxis(image, 0, -1)) for image in pixels],
    }
    text = json.dumps(content)  # ASCII: line separators are escapes already
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped just now


def _file(name: str) -> str:
    return resources.files("leadline.report").joinpath(name).read_text(encoding="utf-8")
