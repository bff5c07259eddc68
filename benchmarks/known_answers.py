"""What does the audit say where the answer is known? Real CelebA faces, and training faces planted among them.

    LEADLINE_DATA=… python benchmarks/known_answers.py [--encoder squeezenet:FILE.safetensors] [--out FOLDER]

10,000 faces at 64×64 are parted into training, held-out and labeler images and 2,000 "samples" that no model made.
So there is no amplification and no copying: shares must differ by chance and by the labeler's errors alone, and each
copy rule may call as many copies as it does among held-out images. Then 200 training faces are audited as samples,
plain, mirrored and re-compressed: what each rule finds of them is its sensitivity. Prints Markdown tables.
"""

import argparse
import io
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import leadline
from leadline.data import load
from leadline.progress import ConsoleProgress
from leadline.recipe import AuditSpec, DataSpec
from leadline.records import AuditResult, ImageSet, Measurement, Splits
from leadline.report import build
from leadline.rng import numpy_generator_for
from leadline.runs import Run

SAMPLES, HELD_OUT, LABELER, PLANTED = 2000, 1500, 3900, 200
QUALITIES = (75, 30)
DATA = DataSpec(dataset="celeba", groups="Male", image_size=64, held_out=SAMPLES + HELD_OUT, labeler=LABELER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", action="append", default=[], metavar="NAME:WEIGHTS")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    spec = AuditSpec(encoders=("labeler", *arguments.encoder))
    cache = arguments.out / ".cache"
    with ConsoleProgress() as progress:
        samples, splits = parts(load(DATA, progress))
        planted = kinds_of_copies(splits.train)
        started = time.perf_counter()
        # Without their labels, as a model's images are: the labeler says what they show.
        unlabelled = replace(samples, labels=None, classes=())
        real = leadline.measure(unlabelled, splits, spec=spec, cache=cache, progress=progress)
        seconds = time.perf_counter() - started
        found = {}
        for name, images in planted.items():
            for flips in (False, True):
                memorization = spec.model_copy(update={"metrics": ("memorization",), "flips": flips})
                found[name, flips] = leadline.measure(images, splits, spec=memorization, cache=cache, progress=progress)
    print(f"training {counts(splits.train)}; held out {counts(splits.held_out)}; labeler {counts(splits.labeler)}")
    print(f"samples: {counts(samples)}, all real; audit in {seconds:.0f} s\n")
    print(shares(real, samples))
    print(neighbours(real))
    print(false_positives(real))
    print(sensitivity(found))
    run = Run.create(arguments.out / "audit-held-out-faces", title="2,000 held-out faces", kind="audit")
    run.save_audit(real)
    run.update(status="complete")
    print(build([run], run.report_file))


def parts(splits: Splits) -> tuple[ImageSet, Splits]:
    """2,000 of the held-out faces as samples without labels; the rest stays held out."""
    held_out = splits.held_out
    assert held_out is not None
    order = numpy_generator_for(0, "known answers").permutation(len(held_out))
    samples = held_out.take(np.sort(order[:SAMPLES]), "held-out faces")
    return samples, replace(splits, held_out=held_out.take(np.sort(order[SAMPLES:])))


def kinds_of_copies(training: ImageSet) -> dict[str, ImageSet]:
    """The same 200 training faces: as they are, mirrored, saved again as JPEG, and both."""
    chosen = numpy_generator_for(1, "known answers").choice(len(training), PLANTED, replace=False)
    pixels = training.pixels[np.sort(chosen)]
    mirrored = np.ascontiguousarray(pixels[..., ::-1])
    kinds = {"plain": pixels, "mirrored": mirrored}
    kinds |= {f"JPEG quality {q}": saved_again(pixels, q) for q in QUALITIES}
    kinds["mirrored, JPEG quality 75"] = saved_again(mirrored, 75)
    return {name: ImageSet(name=name, pixels=images) for name, images in kinds.items()}


def saved_again(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Each image through a JPEG file."""
    saved = []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
        saved.append(np.asarray(Image.open(file)).transpose(2, 0, 1))
    return np.array(saved)


def shares(result: AuditResult, samples: ImageSet) -> str:
    """The labeler's accuracy, and what it makes of samples whose true share is known."""
    truth = samples.counts()["Male"] / len(samples)
    rows = [("labeler_accuracy", result.find("labeler_accuracy")[0])]
    rows += [(name, result.find(name, "Male")[0]) for name in ("share_difference", "share_amplification")]
    lines = [f"True share of Male among the samples: {truth:.2%}\n", "| measurement | value | interval | n |"]
    lines += ["|---|---|---|---|", *(f"| {name} | {m.value:.4f} | {interval(m)} | {m.n} |" for name, m in rows)]
    confusion = next(table for table in result.tables if table.name == "labeler_confusion")
    by_class = next(table for table in result.tables if table.name == "shares")
    lines += ["", corrected(result, truth)]
    for table in (confusion, by_class):
        lines += ["", f"| {' | '.join(table.columns)} |", "|---" * len(table.columns) + "|"]
        lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in table.rows]
    return "\n".join(lines) + "\n"


def corrected(result: AuditResult, truth: float) -> str:
    """What the audit itself says once the labeler's errors are taken out of the share."""
    (found,) = result.find("corrected_difference", "Male")
    if found.value is None or found.lower is None or found.upper is None:
        return f"Not corrected for the labeler's errors: {found.reason}"
    share, low, high, training = (
        found.params[key] for key in ("share", "share_lower", "share_upper", "training_share")
    )
    verdict = "no amplification is shown" if found.lower <= 0 <= found.upper else "AMPLIFICATION, which is not there"
    return (
        f"Corrected for the labeler's errors, Male are {share:.2%} of the samples ({low:.2%} to {high:.2%}; "
        f"{found.method}); truly {truth:.2%}, of the training data {training:.2%}: {verdict}."
    )


def neighbours(result: AuditResult) -> str:
    """Distances to training images of samples and held-out images; both are real, so the difference is 0."""
    lines = ["| measurement | space | k | samples − held-out | interval |", "|---|---|---|---|---|"]
    for m in (m for m in result if m.name in ("nearest_distance_difference", "nearest_similarity_difference")):
        if m.value is not None:
            lines.append(f"| {m.name} | {m.params['space']} | {m.params['k']} | {m.value:.4g} | {interval(m)} |")
    return "\n".join(lines) + "\n"


def false_positives(result: AuditResult) -> str:
    """Share of real images that each rule calls copies."""
    lines = ["| space | rule | samples | interval | held-out | excess | interval |", "|---|---|---|---|---|---|---|"]
    for m in result.find("nearest_copy_rate", set="samples"):
        same = {key: m.params[key] for key in ("space", "rule")}
        if m.value is None:
            lines.append(f"| {same['space']} | {same['rule']} | {m.reason} | | | | |")
            continue
        held_out = result.find("nearest_copy_rate", set="held_out", **same)[0]
        excess = result.find("copy_rate_excess", **same)[0]
        lines.append(
            f"| {same['space']} | {same['rule']} | {m.value:.2%} | {interval(m, '.2%')} | {rate(held_out)} "
            f"| {rate(excess)} | {interval(excess, '.2%')} |"
        )
    return "\n".join(lines) + "\n"


def sensitivity(found: dict[tuple[str, bool], AuditResult]) -> str:
    """Share of the planted copies that each rule finds, as asked and with audit.flips."""
    kinds = list(dict.fromkeys(name for name, _ in found))
    first = next(iter(found.values()))
    lines = [f"| space | rule | {' | '.join(kinds)} |", "|---|---" + "|---" * len(kinds) + "|"]
    for m in first.find("nearest_copy_rate", set="samples"):
        same = {key: m.params[key] for key in ("space", "rule")}
        cells = []
        for kind in kinds:
            plain, flipped = (found[kind, f].find("nearest_copy_rate", set="samples", **same)[0] for f in (False, True))
            cells.append(f"{rate(plain, '.1%')} / {rate(flipped, '.1%')}")
        lines.append(f"| {same['space']} | {same['rule']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "Found without / with audit.flips."])


def counts(images: ImageSet | None) -> str:
    return "none" if images is None else f"{len(images):,} ({images.counts().get('Male', 0):,} Male)"


def rate(m: Measurement, form: str = ".2%") -> str:
    return "–" if m.value is None else format(m.value, form)


def interval(m: Measurement, form: str = ".4g") -> str:
    return "–" if m.lower is None or m.upper is None else f"{m.lower:{form}} to {m.upper:{form}}"


if __name__ == "__main__":
    main()
