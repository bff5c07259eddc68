"""What does a poor labeler make of shares that are known, and what does the correction make of the labeler?

    LEADLINE_DATA=… python benchmarks/poor_labeler.py [--data FOLDER] [--draws 1000]

10,000 CelebA faces. A poor labeler learns from a few of them at 24×24 for ten epochs, a better one from 3,900 at 32×32;
both label the faces that neither has seen. Then, many times: 500 of these, at the mixture of the data, give the
labeler's rates, and 1,000 others, drawn at a known share, stand for a model's samples. How often do Wilson's interval
of what the labeler reports and the corrected interval contain the truth? At last the question of the paper, blond men,
0.86 % of CelebA, with the rates of both labelers. Prints Markdown tables; about eight minutes on one core.
"""

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from leadline.audit.confusion import corrected_shares
from leadline.audit.intervals import corrected_share, simultaneous, wilson
from leadline.audit.judged import UNCLASSIFIED
from leadline.audit.labeler import train_labeler
from leadline.audit.planning import UNLIMITED, images_needed, images_needed_estimated, labelled_needed
from leadline.data import load_images
from leadline.errors import NotMeasurable
from leadline.progress import ConsoleProgress, ProgressCallback
from leadline.recipe import DataSpec
from leadline.records import ImageSet, Measurement
from leadline.rng import numpy_generator_for

LARGE, JUDGED, DRAWN = 3900, 500, 1000
SHARES = (0.2, 0.4168, 0.6)
CONFIDENCES = (0.0, 0.9)
REPLICATES = 500
RARE = "Blond_Hair, Male"
PAPER, HALVED = 0.0086, 0.006
"""The share of blond men in CelebA, and the one that the samples shall be told from it at."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a labeler is trained. groups: Male, or the product with Blond_Hair."""

    title: str
    groups: str
    images: int
    size: int
    epochs: int


MALE = (
    Recipe(title="poor: 250 faces, 24×24, 10 epochs", groups="Male", images=250, size=24, epochs=10),
    Recipe(title="better: 3,900 faces, 32×32, 10 epochs", groups="Male", images=LARGE, size=32, epochs=10),
)
PRODUCT = (
    Recipe(title="poor: 1,000 faces, 24×24, 4 epochs", groups="Blond_Hair*Male", images=1000, size=24, epochs=4),
    Recipe(title="better: 3,900 faces, 32×32, 15 epochs", groups="Blond_Hair*Male", images=LARGE, size=32, epochs=15),
)


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Faces that no labeler has seen: the class of each, and the one that the labeler gives, by confidence."""

    recipe: Recipe
    classes: tuple[str, ...]
    truth: np.ndarray
    given: dict[float, np.ndarray]

    def confusion(self, rows: np.ndarray, confidence: float) -> np.ndarray:
        """Counts [K, K + 1] of these faces by class and by label, the unclassified last; [K, K] where none can be."""
        k = len(self.classes)
        found = np.zeros((k, k + 1), dtype=np.int64)
        labels = self.given[confidence][rows]
        np.add.at(found, (self.truth[rows], np.where(labels == UNCLASSIFIED, k, labels)), 1)
        return found if confidence else found[:, :k]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=None, help="folder with CelebA's Parquet files")
    parser.add_argument("--draws", type=int, default=1000)
    arguments = parser.parse_args()
    path = arguments.data or Path(os.environ["LEADLINE_DATA"]) / "celeba10k"
    with ConsoleProgress() as progress:
        faces = {size: faces_of(size, path, progress) for size in sorted({r.size for r in (*MALE, *PRODUCT)})}
        male = [labelled(recipe, faces[recipe.size], progress) for recipe in MALE]
        product = [labelled(recipe, faces[recipe.size], progress) for recipe in PRODUCT]
        print(rates(male))
        print(coverage_of_male(male, arguments.draws, progress), flush=True)
        print(one_example(male[0]))
        print(coverage_of_groups(product, arguments.draws, progress))
        print(rare_labels(product))
        print(planned(product))


def faces_of(size: int, path: Path, progress: ProgressCallback) -> ImageSet:
    """All faces, by the product of both attributes."""
    data = DataSpec(dataset="celeba", groups="Blond_Hair*Male", path=str(path), image_size=size, fit="crop")
    return load_images(data, progress=progress)


def labelled(recipe: Recipe, images: ImageSet, progress: ProgressCallback) -> Labelled:
    """Train on the first faces of a fixed order, label all from the 3,901st on."""
    assert images.labels is not None
    if recipe.groups == "Male":
        images = replace(images, labels=images.labels % 2, classes=("not Male", "Male"))
    order = numpy_generator_for(0, "poor labeler").permutation(len(images))
    learned = images.take(np.sort(order[: recipe.images]))
    unseen = images.take(np.sort(order[LARGE:]))
    assert unseen.labels is not None
    started = time.perf_counter()
    labeler = train_labeler(learned, confidence=0.0, epochs=recipe.epochs, seed=0, progress=progress)
    _, probabilities = labeler.predict(unseen.images())
    # A class that the learned faces lack has no column.
    places = np.array([images.classes.index(name) for name in labeler.classes])
    given = {}
    for confidence in CONFIDENCES:
        decided = replace(labeler, confidence=confidence).decide(probabilities)
        given[confidence] = np.where(decided == UNCLASSIFIED, UNCLASSIFIED, places[decided])
    seconds = time.perf_counter() - started
    progress(f"{recipe.title}: trained and asked in {seconds:.0f} s", 0, 0, "")
    return Labelled(recipe=recipe, classes=images.classes, truth=unseen.labels, given=given)


def rates(labelers: list[Labelled]) -> str:
    """Sensitivity and specificity for Male among the unseen faces."""
    lines = ["| labeler for Male | confidence | sensitivity | specificity | unclassified | unseen faces |"]
    lines += ["|---|---|---|---|---|---|"]
    for labeler in labelers:
        for confidence in CONFIDENCES:
            matrix = labeler.confusion(np.arange(len(labeler.truth)), confidence)
            found, spared = matrix[1, 1] / matrix[1].sum(), 1 - matrix[0, 1] / matrix[0].sum()
            unsure = (labeler.given[confidence] == UNCLASSIFIED).mean()
            head = f"| {labeler.recipe.title} | {confidence:g} | {found:.1%} | {spared:.1%} "
            lines.append(f"{head}| {unsure:.1%} | {matrix.sum():,} |")
    return "\n".join(lines) + "\n"


def draws(labeler: Labelled, shares: np.ndarray, number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(faces that judge the labeler, faces that stand for samples of a model with those shares), disjoint."""
    generator = numpy_generator_for(1, f"draws {labeler.recipe.title} {shares.tolist()}")
    for _ in range(number):
        order = generator.permutation(len(labeler.truth))
        rest = order[JUDGED:]
        counts = generator.multinomial(DRAWN, shares)
        samples = [rest[labeler.truth[rest] == k][:n] for k, n in enumerate(counts)]
        yield order[:JUDGED], np.concatenate(samples)


def coverage_of_male(labelers: list[Labelled], number: int, progress: ProgressCallback) -> str:
    """How often the intervals contain the share of Male, and how far off what the labeler reports is on average."""
    lines = [
        f"{number:,} draws of {DRAWN:,} faces, judged by {JUDGED} others; nominal coverage 95 %.\n",
        "| labeler | confidence | true share | reported, mean | Wilson covers | mean width | corrected, mean "
        "| corrected covers | mean width |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for labeler in labelers:
        for confidence in CONFIDENCES:
            for done, share in enumerate(SHARES):
                progress(f"{labeler.recipe.title}, confidence {confidence:g}", done, len(SHARES), "shares")
                shares = np.array([1 - share, share])
                found = [male(labeler, confidence, rows) for rows in draws(labeler, shares, number)]
                raw = [(called / n, *wilson(called, n)) for called, n, _ in found if n]
                corrected = [
                    (m.value, m.lower, m.upper)
                    for _, _, m in found
                    if m.value is not None and m.lower is not None and m.upper is not None
                ]
                head = f"| {labeler.recipe.title.split(':')[0]} | {confidence:g} | {share:.2%} "
                lines.append(f"{head}| {covered(raw, share, number)} | {covered(corrected, share, number)} |")
    return "\n".join(lines) + "\n"


def covered(intervals: list[tuple[float, float, float]], share: float, number: int) -> str:
    """Mean value, part of the intervals that contain the share, mean width: cells of a row, where a tenth has them."""
    missing = f"not measurable in {number - len(intervals):,}" if len(intervals) < number else ""
    if len(intervals) < number / 10:
        return f"– | – | {missing}"
    values, lower, upper = np.array(intervals).T
    hit = ((lower <= share) & (share <= upper)).mean()
    return f"{values.mean():.1%} | {hit:.1%} | {100 * (upper - lower).mean():.1f} points{missing and f', {missing}'}"


def male(labeler: Labelled, confidence: float, rows: tuple[np.ndarray, np.ndarray]) -> tuple[int, int, Measurement]:
    """Samples called Male, samples classified, and the corrected share.

    Unclassified faces count as not called Male in the correction, for samples and judged faces alike.
    """
    judged, samples = rows
    matrix = labeler.confusion(judged, confidence)
    labels = labeler.given[confidence][samples]
    called, classified = int((labels == 1).sum()), int((labels != UNCLASSIFIED).sum())
    spared = matrix[0].sum() - matrix[0, 1]
    found = corrected_share(called, len(samples), matrix[1, 1], matrix[1].sum(), spared, matrix[0].sum())
    return called, classified, found


def one_example(labeler: Labelled) -> str:
    """The first draw at the share of the data, every image classified."""
    share = SHARES[1]
    called, n, found = male(labeler, 0.0, next(draws(labeler, np.array([1 - share, share]), 1)))
    assert found.value is not None
    low, high = wilson(called, n)
    return (
        f"The first draw, truly of {share:.2%} Male, by the {labeler.recipe.title.split(':')[0]} labeler: reported "
        f"{called / n:.1%} ({low:.1%} to {high:.1%}), corrected {found.value:.1%} ({found.lower:.1%} to "
        f"{found.upper:.1%}).\n"
    )


def coverage_of_groups(labelers: list[Labelled], number: int, progress: ProgressCallback) -> str:
    """The four groups at the shares of the data: how often all four intervals contain the truth, and each alone."""
    lines = [
        f"Blond_Hair × Male, {number:,} draws as above at the shares of the data; joint intervals, nominal 95 %.\n",
        "| labeler | confidence | group | true share | reported, mean | reported covers | corrected, mean "
        "| corrected covers | all four |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for labeler in labelers:
        shares = np.bincount(labeler.truth, minlength=4) / len(labeler.truth)
        for done, confidence in enumerate(CONFIDENCES):
            progress(f"{labeler.recipe.title}, groups", done, len(CONFIDENCES), "confidences")
            found, refused = [], 0
            for judged, samples in draws(labeler, shares, number):
                labels = labeler.given[confidence][samples]
                counts = np.bincount(np.where(labels == UNCLASSIFIED, 4, labels), minlength=5)
                if not counts[:4].any():
                    refused += 1
                    continue
                raw = counts[:4] / counts[:4].sum()
                bounds = np.array(simultaneous(counts[:4].tolist()))
                try:
                    seen = counts if confidence else counts[:4]
                    matrix = labeler.confusion(judged, confidence)
                    corrected = corrected_shares(seen, matrix, num_replicates=REPLICATES)
                except NotMeasurable:
                    refused += 1
                    continue
                hits = (bounds[:, 0] <= shares) & (shares <= bounds[:, 1])
                good = (corrected.lower[:4] <= shares) & (shares <= corrected.upper[:4])
                found.append([raw, hits, corrected.values[:4], good, np.repeat([hits.all(), good.all()], 2)])
            head = f"| {labeler.recipe.title.split(':')[0]} | {confidence:g} "
            if not found:
                lines.append(f"{head}| all | – | – | – | not measurable in {refused:,} of {number:,} draws | – | – |")
                continue
            mean = np.array(found, dtype=np.float64).mean(0)
            for k, name in enumerate(labeler.classes):
                lines.append(
                    f"{head}| {name} | {shares[k]:.2%} | {mean[0, k]:.1%} | {mean[1, k]:.1%} | {mean[2, k]:.1%} "
                    f"| {mean[3, k]:.1%} | reported {mean[4, 0]:.1%}, corrected {mean[4, 2]:.1%} |"
                )
            if refused:
                lines.append(f"{head}| not measurable in {refused:,} of {number:,} draws, left out above | | | | | | |")
    return "\n".join(lines) + "\n"


def rare_labels(labelers: list[Labelled]) -> str:
    """Of the unseen faces that the labeler calls blond men, how many are."""
    lines = ["| labeler | confidence | blond men | called so | rightly | sensitivity | specificity |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for labeler in labelers:
        for confidence in CONFIDENCES:
            right, positives, spared, negatives = rare_counts(labeler, confidence)
            called = right + negatives - spared
            lines.append(
                f"| {labeler.recipe.title.split(':')[0]} | {confidence:g} | {positives} | {called} "
                f"| {right}{f' ({right / called:.0%})' if called else ''} | {part(right, positives)} "
                f"| {part(spared, negatives, 2)} |"
            )
    return "\n".join(lines) + "\n"


def rare_counts(labeler: Labelled, confidence: float) -> tuple[int, int, int, int]:
    """Blond men called so, blond men, others not called so, others."""
    rare = labeler.truth == labeler.classes.index(RARE)
    called = labeler.given[confidence] == labeler.classes.index(RARE)
    return int((rare & called).sum()), int(rare.sum()), int((~rare & ~called).sum()), int((~rare).sum())


def part(count: int, n: int, digits: int = 1) -> str:
    """A share with its Wilson interval."""
    low, high = wilson(count, n)
    return f"{count / n:.{digits}%} ({low:.{digits}%} to {high:.{digits}%})"


def planned(labelers: list[Labelled]) -> str:
    """Images that tell a share of 0.6 % from 0.86 %, and labelled faces that are needed for it."""
    lines = [
        f"To tell {HALVED:.2%} of blond men from {PAPER:.2%} (power 80 %, 95 %): {images_needed(PAPER, HALVED):,} "
        "images with a perfect classifier.\n",
        "| labeler | confidence | images, rates known | judged by the unseen faces | labelled faces drawn at random "
        "for 10,000, 100,000, unlimited images |",
        "|---|---|---|---|---|",
    ]
    for labeler in labelers:
        for confidence in CONFIDENCES:
            right, positives, spared, negatives = rare_counts(labeler, confidence)
            known = {"sensitivity": right / positives, "specificity": spared / negatives}
            if sum(known.values()) <= 1:
                lines.append(f"| {labeler.recipe.title.split(':')[0]} | {confidence:g} | it guesses | – | – |")
                continue
            judged = images_needed_estimated(PAPER, HALVED, positives, negatives, **known)
            budgets = [labelled_needed(PAPER, HALVED, n, PAPER, **known) for n in (10_000, 100_000, UNLIMITED)]
            lines.append(
                f"| {labeler.recipe.title.split(':')[0]} | {confidence:g} "
                f"| {whole(images_needed(PAPER, HALVED, **known))} | {whole(judged)} "
                f"| {', '.join(map(whole, budgets))} |"
            )
    return "\n".join(lines) + "\n"


def whole(number: int | None) -> str:
    return "impossible" if number is None else f"{number:,}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
