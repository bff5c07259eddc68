"""Run folders made by the test: every number comes from a closed formula, nothing was trained or measured."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leadline.recipe import Recipe, recipe_from_json
from leadline.records import AuditResult, Measurement, Panel, Table
from leadline.runs import Run

KS = (1, 2, 5, 10)


def share_interval(share: float, n: int) -> tuple[float, float]:
    """The normal interval share ± 1.96 sqrt(share (1 - share) / n), held within [0, 1]."""
    half = 1.96 * math.sqrt(share * (1 - share) / n)
    return max(0.0, share - half), min(1.0, share + half)


def logit(p: float) -> float:
    """ln(p / (1 - p)), infinite at the ends."""
    return math.log(p / (1 - p)) if 0 < p < 1 else math.copysign(math.inf, p - 0.5)


def share_measurements(shares: dict[str, float], training: dict[str, float], n: int) -> list[Measurement]:
    """What the bias metric gives for these shares of the recognised images; 3 % are unclassified, 1 % other classes."""
    found = []
    inf = math.inf
    for group, share in shares.items():
        lower, upper = share_interval(share, n)
        p = training[group]
        wilson: dict[str, Any] = {"level": 0.95, "method": "Wilson", "n": n, "group": group}
        compared = {
            **wilson,
            "n": round(0.96 * n),
            "params": {"share": share, "share_lower": lower, "share_upper": upper, "training_share": p},
        }
        odds = [logit(x) - logit(p) for x in (lower, upper)]
        found += [
            Measurement(name="share", value=share, lower=lower, upper=upper, params={"set": "samples"}, **wilson),
            Measurement(name="share", value=p, n=140, group=group, params={"set": "training"}),
            Measurement(name="share_difference", value=share - p, lower=lower - p, upper=upper - p, **compared),
            Measurement(name="share_ratio", value=share / p, lower=lower / p, upper=upper / p, **compared),
            Measurement(
                name="share_amplification",
                value=logit(share) - logit(p),
                lower=odds[0] if share > 0 else -inf,
                upper=odds[1],
                **compared,
            ),
        ]
    for group, share in (("other classes", 0.01), ("unclassified", 0.03)):
        lower, upper = share_interval(share, n)
        found.append(
            Measurement(
                name="share",
                value=share,
                lower=lower,
                upper=upper,
                level=0.95,
                method="Wilson",
                n=n,
                group=group,
                params={"set": "samples"},
            )
        )
    return found


def memorization_measurements(blocks: int, n: int) -> list[Measurement]:
    """Distances 20 + 2 blocks + k, similarities .9 - .01 blocks - .005 k; held-out: 26 + k, .85 - .005 k."""
    found = []
    for subset, distance, similarity in (("samples", 20 + 2 * blocks, 0.9 - 0.01 * blocks), ("held_out", 26, 0.85)):
        for k in KS:
            pixels, cosine = distance + k, similarity - 0.005 * k
            common: dict[str, Any] = {"level": 0.95, "method": "t", "n": n}
            found += [
                Measurement(
                    name="nearest_distance",
                    value=pixels,
                    lower=pixels - 0.5,
                    upper=pixels + 0.5,
                    unit="RMS per value, 0–255",
                    direction="smaller: nearer to training images",
                    params={
                        "k": k,
                        "space": "pixels",
                        "set": subset,
                        "l2": 8 * pixels,
                        "image_size": "8×8×1",
                        "identical_to_training": 0,
                    },
                    **common,
                ),
                Measurement(
                    name="nearest_similarity",
                    value=cosine,
                    lower=cosine - 0.004,
                    upper=cosine + 0.004,
                    direction="larger: more similar to training images",
                    params={"k": k, "space": "labeler features", "set": subset},
                    **common,
                ),
            ]
    return found


def other_measurements(blocks: int, n: int) -> list[Measurement]:
    """Diversity .5 + .02 blocks against .56, the labeler's accuracy; two of unknown names, one not measurable."""
    found = [
        Measurement(
            name="mean_pairwise_distance",
            value=value,
            lower=value - 0.01,
            upper=value + 0.01,
            level=0.95,
            n=n,
            method="mean ± t · 2 sd(h)/√n",
            direction="more diverse",
            params={"set": subset, "space": "labeler features"},
        )
        for subset, value in (("samples", 0.5 + 0.02 * blocks), ("training", 0.56))
    ]
    return [
        *found,
        Measurement(
            name="labeler_accuracy",
            value=0.984,
            lower=0.976,
            upper=0.99,
            level=0.95,
            method="Wilson",
            n=1497,
            unit="share of labelled images it has not seen",
        ),
        Measurement(name="sharpness", value=7.25, n=n, direction="sharper", params={"window": 1}),
        Measurement.not_measurable("colourfulness", "needs images in colour: give RGB images"),
    ]


def copy_measurements(blocks: int, n: int) -> list[Measurement]:
    """Copy rates of .02 blocks against .01 in pixels, .01 against .01 in the labeler's features; authentic .4, .5."""
    found = []
    for space, rate, threshold in (("pixels", 0.02 * blocks, 18.5), ("labeler features", 0.01, 0.97)):
        for rule, options in (
            ("d1/d2", {"threshold": 1 / 3}),
            ("carlini", {"threshold": 0.5, "neighbors": 50}),
            (
                "calibrated",
                {"threshold": threshold, "false_positive_rate": 0.01, "calibrated_on": 250, "checked_on": 250},
            ),
        ):
            where = {"space": space, "rule": rule, **options}
            found += [
                shared("nearest_copy_rate", rate, n, set="samples", **where),
                shared("nearest_copy_rate", 0.01, 250, set="held_out", **where),
                Measurement(
                    name="copy_rate_excess",
                    value=rate - 0.01,
                    lower=rate - 0.025,
                    upper=rate + 0.005,
                    level=0.95,
                    method="Newcombe",
                    n=n,
                    params={**where, "p": 0.0321, "test": "Fisher"},
                ),
            ]
        found += [
            shared("authentic_rate", share, n, set=subset, space=space)
            for subset, share in (("samples", 0.4), ("held_out", 0.5))
        ]
    return found


def shared(name: str, share: float, n: int, **params: Any) -> Measurement:
    """A share with its normal interval."""
    lower, upper = share_interval(share, n)
    return Measurement(
        name=name, value=share, lower=lower, upper=upper, level=0.95, method="Wilson", n=n, params=params
    )


def sweep(blocks: int) -> Table:
    """Rates of x / 2 + .02 blocks against x / 2 by d1/d2, and at distances of 10 to 40."""
    ratios = [("d1/d2", "pixels", i / 10, min(1.0, i / 20 + 0.02 * blocks), i / 20) for i in range(1, 11)]
    distances = [("calibrated", "pixels", 10.0 * i, 0.1 * i, 0.05 * i) for i in (1, 2, 3, 4)]
    columns = ("rule", "space", "threshold", "samples", "held_out")
    return Table(name="copy_rate_sweep", title="Copies by threshold", columns=columns, rows=(*ratios, *distances))


def fidelity_measurements(blocks: int, n: int) -> list[Measurement]:
    """Fréchet 20 - blocks against 10 in two spaces (thinned to 250 images: 5 more), kernel .02, shares .7 and .5."""
    found = []
    for space in ("labeler features", "inception-v3-compat features"):
        for subset, frechet, size in (("samples", 20.0 - blocks, n), ("held_out", 10.0, 250)):
            where = {"space": space, "set": subset, "images": size, "training_images": 140}
            thinned = {"equal_n": 250, "value_at_equal_n": frechet + 5} if size > 250 else {}
            caution = {"caution": "140 images in 2,048 dimensions"} if "inception" in space else {}
            for name, value, extra in (
                ("frechet_distance", frechet, {**thinned, **caution}),
                ("kernel_distance", 0.02, {}),
                ("precision", 0.7, {}),
                ("recall", 0.5, {**thinned, "value_at_equal_n": 0.4} if thinned else {}),
                ("density", 0.9, {}),
                ("coverage", 0.6, {}),
            ):
                found.append(
                    Measurement(
                        name=name,
                        value=value,
                        lower=0.9 * value,
                        upper=1.1 * value,
                        level=0.95,
                        n=size,
                        direction="smaller: nearer" if "distance" in name else "larger: more",
                        params={**where, **extra},
                    )
                )
    return found


def pair_measurements(blocks: int, n: int, classes: list[str]) -> list[Measurement]:
    """LPIPS .3 + .01 blocks, SqueezeNet distance 4: all, within (1/2 of it) and between classes; Vendi scores."""
    found = []
    for name, space, unit, value in (
        ("mean_pairwise_lpips", "lpips-alex features", "LPIPS (alex)", 0.3 + 0.01 * blocks),
        ("mean_pairwise_feature_distance", "SqueezeNet features", "SqueezeNet feature distance, uncalibrated", 4.0),
    ):
        for subset in ("samples", "training"):
            pairs = [("all", None, value)] + [("within", c, value / 2) for c in classes]
            pairs += [("between", f"{a} × {b}", 1.1 * value) for i, a in enumerate(classes) for b in classes[i + 1 :]]
            found += [
                Measurement(
                    name=name,
                    value=v,
                    lower=v - 0.01,
                    upper=v + 0.01,
                    level=0.95,
                    n=n,
                    unit=unit,
                    group=group,
                    direction="larger: the images differ more from each other",
                    params={"set": subset, "space": space, "pairs": kind},
                )
                for kind, group, v in pairs
            ]
    found += [
        Measurement(
            name="vendi_score",
            value=score,
            lower=score - 1,
            upper=score + 1,
            level=0.95,
            n=140,
            unit="effective number of images",
            params={"set": subset, "space": "labeler features", "chosen_of": n},
        )
        for subset, score in (("samples", 7.0 + blocks), ("training", 12.0))
    ]
    return found


def digit_like(number: int, size: int, angle: float) -> np.ndarray:
    """uint8 [number, 1, size, size]: bright rings, each turned and shifted a little, to stand in for digits."""
    y, x = np.mgrid[0:size, 0:size] / (size - 1) * 2 - 1
    tiles = []
    for index in range(number):
        cx, cy = 0.2 * math.cos(index + angle), 0.2 * math.sin(index * 1.7)
        ring = np.exp(-(((np.hypot(x - cx, y - cy) - 0.45 - 0.1 * math.sin(index)) / 0.2) ** 2))
        tiles.append((255 * ring).astype(np.uint8)[None])
    return np.stack(tiles)


def panels(blocks: int, size: int) -> tuple[Panel, ...]:
    """Samples, training images and nearest neighbours, as the audit gives them."""
    neighbours = digit_like(4 * 5, size, blocks).reshape(4, 5, 1, size, size)
    words = [
        f"{'sample' if i % 5 == 0 else 'training'} {i}" + ("" if i % 5 == 0 else f", distance {i}.0") for i in range(20)
    ]
    return (
        Panel(
            name="samples", title="Generated images", tiles=digit_like(64, size, blocks).reshape(8, 8, 1, size, size)
        ),
        Panel(name="training", title="Training images", tiles=digit_like(64, size, 0.5).reshape(8, 8, 1, size, size)),
        Panel(
            name="nearest_neighbors",
            title="Nearest neighbours",
            tiles=neighbours,
            caption="Left the generated image, then its nearest training images.",
            captions=tuple(words),
            column_titles=("generated", "1st", "2nd", "3rd", "4th"),
        ),
    )


def confusion(classes: list[str]) -> Table:
    """A matrix with 140 on the diagonal, i + j elsewhere modulo 3, and 4 unclassified per class."""
    rows = [(name, *(140 if i == j else (i + j) % 3 for j in range(len(classes))), 4) for i, name in enumerate(classes)]
    columns = ("true class", *classes, "unclassified")
    return Table(
        name="labeler_confusion", title="Confusion matrix on held-out images", columns=columns, rows=tuple(rows)
    )


def recipe(blocks: int, **changes: dict[str, Any]) -> Recipe:
    """digits, 6 and 9 at 90/10, as the demo has it."""
    content: dict[str, dict[str, Any]] = {
        "data": {"dataset": "digits", "shares": "6:0.9,9:0.1", "num_images": 140, "held_out": 30, "labeler": None},
        "model": {"blocks": blocks},
        "train": {"steps": 1500},
    }
    for part, fields in changes.items():
        content.setdefault(part, {}).update(fields)
    return recipe_from_json({"name": "digits69", **content})


MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Makes a complete run folder; see run_maker."""
    return run_maker(tmp_path)


@pytest.fixture(scope="module")
def make_shared_run(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """The same for the tests of one file together."""
    return run_maker(tmp_path_factory.mktemp("runs"))


def run_maker(root: Path) -> MakeRun:
    """Makes run folders in `root`; `audit=False` or `curve=False` leave that out, `kind="audit"` has no recipe.

    full: with copies, fidelity and distances by class too.
    """

    def make(
        blocks: int = 2,
        *,
        title: str | None = None,
        share: float = 0.061,
        minority: str = "9",
        n: int = 1000,
        size: int = 8,
        audit: bool = True,
        curve: bool = True,
        kind: str = "run",
        measurements: list[Measurement] | None = None,
        folder: str | None = None,
        full: bool = False,
        classes: list[str] | None = None,
        **changes: dict[str, Any],
    ) -> Run:
        made = recipe(blocks, **changes)
        run = Run.create(
            root / (folder or f"{made.folder_name()}-{kind}"),
            title=title or f"digits69, {blocks} blocks",
            kind="audit" if kind == "audit" else "run",
            recipe=None if kind == "audit" else made.model_dump(mode="json"),
        )
        notes = {
            "conversion": "grey, 8×8 as they are",
            "unreadable": {"count": 1, "share": 0.005, "files": ["bad.png"]},
        }
        run.update(
            status="complete" if audit else "sampled",
            device="cpu (2 threads)",
            data={
                "train": {"name": "digits", "fingerprint": "0f" * 8, "n": 140, "counts": {"6": 126, minority: 14}},
                "held_out": {"name": "digits", "fingerprint": "1e" * 8, "n": 30, "counts": {"6": 27, minority: 3}},
                "notes": notes,
            },
            model={} if kind == "audit" else {"parameters": 1_000_000 * blocks, "family": "depth"},
            seconds={"train": 50.0 * blocks, "sample": 12.5, "audit": 30.25},
        )
        if curve:
            records = [{"step": s, "loss": 0.5 * math.exp(-s / 400) + 0.02 * blocks} for s in range(50, 1501, 50)]
            run.curve_file.write_text("".join(json.dumps(r) + "\n" for r in records))
        if audit:
            shares, training = {"6": 1 - share, minority: share}, {"6": 0.9, minority: 0.1}
            found = share_measurements(shares, training, n)
            found += memorization_measurements(blocks, n) + other_measurements(blocks, n)
            if full:
                found += copy_measurements(blocks, n) + fidelity_measurements(blocks, n)
                found += pair_measurements(blocks, n, classes or ["6", minority])
            networks = {"inception-v3-compat": "Inception v3 of 2015-12-05", "lpips-alex": "AlexNet with LPIPS's heads"}
            run.save_audit(
                AuditResult(
                    measurements=tuple(found if measurements is None else measurements),
                    tables=(confusion([*"012345678", minority]), *((sweep(blocks),) if full else ())),
                    panels=panels(blocks, size),
                    settings={
                        "level": 0.95,
                        "ks": list(KS),
                        "labeler": {"description": "a small network trained on 1,497 images"},
                        "encoders": networks if full else {},
                    },
                )
            )
        return run

    return make
