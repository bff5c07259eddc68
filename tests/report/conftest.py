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
    """Diversity .5 + .02 blocks against .56, the labeler's accuracy, one not measurable, one unknown name."""
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
        Measurement(name="labeler_accuracy", value=0.984, lower=0.976, upper=0.99, level=0.95, method="Wilson", n=1497),
        Measurement.not_measurable("nearest_copy_rate", "needs at least 200 held-out images: give --held-out DATA"),
        Measurement(name="vendi_score", value=7.25, n=n, direction="more diverse", params={"q": 1}),
    ]


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
    """Makes a complete run folder; `audit=False` or `curve=False` leave that out, `kind="audit"` has no recipe."""

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
        **changes: dict[str, Any],
    ) -> Run:
        made = recipe(blocks, **changes)
        run = Run.create(
            tmp_path / (folder or f"{made.folder_name()}-{kind}"),
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
            run.save_audit(
                AuditResult(
                    measurements=tuple(found if measurements is None else measurements),
                    tables=(confusion([*"012345678", minority]),),
                    panels=panels(blocks, size),
                    settings={"level": 0.95, "ks": list(KS)},
                )
            )
        return run

    return make
