"""Folders of image files: `folder` without labels, `imagefolder` with classes from its sub-folders."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from leadline.data.source import (
    DATASETS,
    EXTENSIONS,
    Readable,
    Source,
    Unreadable,
    open_image,
    refuse_unused,
    require_label_groups,
    require_path,
)
from leadline.errors import LeadlineError
from leadline.recipe import DataSpec


@dataclass(frozen=True)
class Listing:
    """What lies in a folder: image files by name relative to it, links that are not followed, number of other files."""

    images: tuple[str, ...]
    links: frozenset[str]
    num_others: int


def list_images(root: Path) -> Listing:
    """All image files under `root` by extension, in sorted order; names that begin with a dot are passed over.

    A link to a file inside the folder is followed; one that leads out of it or in a circle, and any link to a folder,
    is listed in `links` and never opened. Raises LeadlineError on a folder that cannot be looked into: how many images
    it holds is not known.
    """
    images: list[str] = []
    links: set[str] = set()
    others = 0
    home = root.resolve()

    def refuse(error: OSError) -> None:
        raise LeadlineError(
            f"the folder {error.filename} cannot be read ({error.strerror}): allow it (chmod), or leave the folder out"
        )

    for here, folders, files in os.walk(root, onerror=refuse, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        place = Path(here)
        linked = [name for name in folders if (place / name).is_symlink()]
        for name in [*linked, *(name for name in files if not name.startswith("."))]:
            path = place / name
            relative = path.relative_to(root).as_posix()
            if name in linked or (path.is_symlink() and _leads_away(path, home)):
                links.add(relative)
            elif path.suffix.lower() not in EXTENSIONS:
                others += 1
                continue
            images.append(relative)
    return Listing(images=tuple(sorted(images)), links=frozenset(links), num_others=others)


def _leads_away(link: Path, home: Path) -> bool:
    """Whether a link leads out of `home`, or in a circle."""
    try:
        return not link.resolve().is_relative_to(home)
    except RuntimeError:
        return True


@DATASETS.register("folder")
def folder(spec: DataSpec) -> Source:
    """All images in a folder and its sub-folders, without labels."""
    refuse_unused(spec, "split", "image_column", "groups")
    root = _root(spec)
    listing = list_images(root)
    return _source(root, listing, listing.images)


@DATASETS.register("imagefolder")
def imagefolder(spec: DataSpec) -> Source:
    """All images in the sub-folders of a folder; the class is the name of the first sub-folder."""
    refuse_unused(spec, "split", "image_column")
    require_label_groups(spec)
    root = _root(spec)
    listing = list_images(root)
    names = [name for name in listing.images if "/" in name]
    classes = tuple(sorted({name.split("/")[0] for name in names}))
    if not classes:
        raise LeadlineError(
            f"{root} has no sub-folders with images ({', '.join(sorted(EXTENSIONS))}), whose names would be the "
            "classes: for images without classes use the data set folder"
        )
    numbers = {name: i for i, name in enumerate(classes)}
    labels = np.array([numbers[name.split("/")[0]] for name in names], dtype=np.int64)
    source = _source(root, listing, names)
    if outside := len(listing.images) - len(names):
        source.notes["images_outside_classes"] = outside
    return Source(
        name=source.name, ids=source.ids, read=source.read, labels=labels, classes=classes, notes=source.notes
    )


def folder_kind(root: Path) -> str | None:
    """imagefolder, folder, or None where there are no images. Raises LeadlineError when it could be either."""
    depths = Counter("/" in name for name in list_images(root).images)
    if depths[True] and depths[False]:
        raise LeadlineError(
            f"{root} holds images both directly ({depths[False]:,}) and in sub-folders ({depths[True]:,}): say "
            f"folder:{root} to take all without classes, or imagefolder:{root} to take the sub-folders as classes"
        )
    return "imagefolder" if depths[True] else "folder" if depths[False] else None


def _root(spec: DataSpec) -> Path:
    root = Path(require_path(spec, "the folder with the images"))
    if not root.is_dir():
        raise LeadlineError(f"data.path: there is no folder {root}")
    return root


def _source(root: Path, listing: Listing, names: Sequence[str]) -> Source:
    if not names:
        raise LeadlineError(f"{root} holds no images ({', '.join(sorted(EXTENSIONS))})")

    def read(indices: Sequence[int]) -> Iterator[Readable]:
        for i in indices:
            if names[i] in listing.links:
                yield Unreadable("a link that leads out of the folder, to a folder or in a circle: not followed")
            else:
                yield open_image(root / names[i])

    notes = {"other_files": listing.num_others} if listing.num_others else {}
    # A name may hold bytes that are no UTF-8, which no record can: they are written out.
    ids = [name.encode("utf-8", "backslashreplace").decode("utf-8") for name in names]
    return Source(name=root.resolve().name, ids=ids, read=read, notes=notes)
