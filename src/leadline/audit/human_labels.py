"""What a person said of some samples: the file of a labelling page, read strictly."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from leadline.errors import LeadlineError, did_you_mean
from leadline.records import ImageSet
from leadline.rng import numpy_generator_for

FORMAT = "leadline-human-labels"
VERSION = 1
NONE, UNSURE = "none of these", "unsure"
"""The two answers of the page beside its classes."""
AGAIN = "write a page for these images and label them there (leadline label SAMPLES)"


@dataclass(frozen=True, kw_only=True)
class HumanLabels:
    """Human labels of a simple random sample of the images.

    indices: int64 [m], which samples; answers: one per index, a class of `classes`, NONE or UNSURE. classes: those that
    the person could choose from; asked: how many images the page shows, m or more. digest: of the file's content.
    """

    indices: Int[np.ndarray, " m"]
    answers: tuple[str, ...]
    classes: tuple[str, ...]
    asked: int
    origin: str
    digest: str

    def said(self, *answers: str) -> Float[np.ndarray, " m"]:
        """1 where the person gave one of these answers, else 0."""
        return np.array([float(answer in answers) for answer in self.answers])


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    id: str
    label: str


class _Samples(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    fingerprint: str
    n: int


class _File(BaseModel):
    """What the page saves."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: str
    version: int
    page: str
    samples: _Samples
    seed: int
    n: int = Field(ge=1)
    classes: list[str] = Field(min_length=1)
    labels: list[_Answer]
    saved: str


def pixels_fingerprint(images: ImageSet) -> str:
    """Fingerprint of the images alone, whatever labels, prompts or captions come with them."""
    bare = replace(images, labels=None, classes=(), captions=(), prompted=None, init=None)
    return bare.fingerprint()


def names_of(images: ImageSet) -> tuple[str, ...]:
    """What each image is called in a file of labels: its id, or its number where it has none."""
    return images.ids or tuple(str(index) for index in range(len(images)))


def page_id(fingerprint: str, seed: int, n: int, classes: Sequence[str]) -> str:
    """16 hex digits that differ where a page's images, their order, number or classes do."""
    facts = [fingerprint, seed, n, list(classes), VERSION]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def sampled_order(num_images: int, n: int, seed: int) -> Int[np.ndarray, " n"]:
    """A simple random sample of n of the images without replacement, in the order in which it is drawn.

    Any first m of it are a simple random sample of m. Raises LeadlineError on n below 1 or above the number of images.
    """
    if not 1 <= n <= num_images:
        raise LeadlineError(f"--n {n}: from 1 to all {num_images:,} images can be labelled")
    order: np.ndarray = numpy_generator_for(seed, "images to be labelled").permutation(num_images)[:n]
    return order


def read_human_labels(file: str | Path, samples: ImageSet, classes: Sequence[str]) -> HumanLabels:
    """The labels that a page of `leadline label` saved, of `samples`; classes: those that the audit knows.

    Raises LeadlineError on a file that is none, labels of other images, unknown classes or ids, an id twice, no label
    at all, and labels that are not the first ones of the random order: hand-picked images allow no estimate.
    """
    path = Path(file)
    content, indices = _of_these(path, samples)
    unknown = next((name for name in content.classes if name not in classes), None)
    if unknown is not None:
        raise LeadlineError(
            f"{path}: the page asked for the class {unknown!r}, which the audit does not know: "
            f"{did_you_mean(unknown, classes)} Write the page with those (leadline label SAMPLES --classes)"
        )
    choices = {*content.classes, NONE, UNSURE}
    strange = next((answer for answer in content.labels if answer.label not in choices), None)
    if strange is not None:
        raise LeadlineError(
            f"{path}: image {strange.id!r} is labelled {strange.label!r}, which the page did not offer: "
            f"{did_you_mean(strange.label, choices)}"
        )
    return HumanLabels(
        indices=indices,
        answers=tuple(answer.label for answer in content.labels),
        classes=tuple(content.classes),
        asked=content.n,
        origin=f"the file {path.name}",
        digest=human_labels_digest(path),
    )


def check_labelled(file: str | Path, samples: ImageSet) -> None:
    """Raise LeadlineError as `read_human_labels` where the labels are not of these images or not drawn at random."""
    _of_these(Path(file), samples)


def human_labels_digest(path: Path) -> str:
    """SHA-256 (first 16 hex digits) of what was labelled and how; when it was saved does not count.

    Raises LeadlineError as `read_human_labels`, as far as the file alone tells.
    """
    content = _read(path).model_dump(exclude={"saved"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _read(path: Path) -> _File:
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise LeadlineError(f"human labels {path} cannot be read: {error} (--human-labels FILE)") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise LeadlineError(f"{path} is not valid JSON: {error}: save it again from the page") from None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise LeadlineError(
            f"{path} holds no human labels (format {FORMAT!r} is expected): {AGAIN}; labels of all samples from "
            "elsewhere are given by --labels"
        )
    if raw.get("version") != VERSION:
        raise LeadlineError(f"{path}: human labels of version {raw.get('version')!r}, this leadline reads {VERSION}")
    try:
        content = _File.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise LeadlineError(f"{path}: {place}: {first['msg']}: save it again from the page") from None
    if not content.labels:
        raise LeadlineError(f"{path} holds no label yet: label some images on the page and save it again")
    _check_consistent(path, content)
    return content


def _check_consistent(path: Path, content: _File) -> None:
    """Raise LeadlineError where the file was changed by hand: its page's identity is that of what it shows."""
    twice = next((name for name in content.classes if content.classes.count(name) > 1), None)
    if twice is not None:
        raise LeadlineError(f"{path}: the class {twice!r} is there twice: {AGAIN}")
    if not len(content.labels) <= content.n <= content.samples.n:
        raise LeadlineError(
            f"{path}: {len(content.labels):,} labels of a page with n = {content.n:,} of {content.samples.n:,} images: "
            "no page has more images than there are, or fewer than were labelled; save it again from the page"
        )
    if content.page != page_id(content.samples.fingerprint, content.seed, content.n, content.classes):
        raise LeadlineError(
            f"{path}: its page ({content.page}) is not that of its images, seed, n and classes, so one of them was "
            "changed: save it again from the page"
        )


def _of_these(path: Path, samples: ImageSet) -> tuple[_File, Int[np.ndarray, " m"]]:
    """The file's content and which of the images are labelled, once it is sure that they were drawn at random."""
    content = _read(path)
    _check_images(path, content, samples)
    return content, _first_of_order(path, content, samples)


def _check_images(path: Path, content: _File, samples: ImageSet) -> None:
    found = pixels_fingerprint(samples)
    if content.samples.fingerprint != found or content.samples.n != len(samples):
        raise LeadlineError(
            f"{path}: these are labels of other images ({content.samples.name!r}, {content.samples.n:,} images, "
            f"content {content.samples.fingerprint}) than the {len(samples):,} of {samples.name!r} (content {found}): "
            "give the samples that the page was made of; where the audit converts images to the training data's size, "
            "the page needs the same --train"
        )


def _first_of_order(path: Path, content: _File, samples: ImageSet) -> Int[np.ndarray, " m"]:
    """The labelled images, once it is sure that they are the first ones of the random order."""
    names = names_of(samples)
    known = set(names)
    given = [answer.id for answer in content.labels]
    strange = next((name for name in given if name not in known), None)
    if strange is not None:
        raise LeadlineError(f"{path}: {strange!r} is no image of {samples.name!r}: {AGAIN}")
    if len(set(given)) < len(given):
        twice = next(name for name in given if given.count(name) > 1)
        raise LeadlineError(f"{path}: image {twice!r} is labelled twice: give each image one label")
    order = sampled_order(len(samples), content.n, content.seed)[: len(given)]
    if given != [names[index] for index in order]:
        raise LeadlineError(
            f"{path}: the labelled images are not the first {len(given)} of the random order of seed {content.seed}. "
            f"Images picked in another way allow no valid estimate: {AGAIN}"
        )
    return order
