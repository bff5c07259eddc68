"""Run folders whose images and labels are made by hand: nothing was trained or measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leadline.data.shards import write_shard
from leadline.recipe import Recipe, recipe_from_json
from leadline.records import AuditResult, ImageLabels
from leadline.runs import Run

COUNTS = {"six": 90, "nine": 10}


def recipe_of(**parts: dict[str, Any]) -> Recipe:
    """The default recipe but for some fields of its parts."""
    return recipe_from_json({"name": "made", **parts})


def made_run(
    folder: Path,
    labels: Sequence[str] | None,
    recipe: Recipe | None = None,
    *,
    ids: Sequence[str] | None = None,
    labeler: str = "l",
    origin: str = "the labeler",
    counts: dict[str, int] | None = None,
    images: bool = True,
    value: int = 0,
    samples: dict[str, Any] | None = None,
) -> Run:
    """A finished run with these labels; image i is all of the grey level i (+ value). labels None: an old audit."""
    fixed = recipe or recipe_of()
    kind: Any = "run" if samples is None else "audit"
    run = Run.create(folder, title=f"made, {folder.name}", kind=kind)
    run.update(
        recipe=fixed.model_dump(mode="json") if samples is None else None,
        data={"train": {"fingerprint": "t", "counts": counts or COUNTS, "n": 100}},
        samples=samples or {},
        status="complete",
    )
    names = list(ids or (f"0/{index}" for index in range(len(labels or ()))))
    held = None if labels is None else ImageLabels(ids=tuple(names), labels=tuple(labels), origin=origin)
    settings = {
        "audit": fixed.audit.model_dump(mode="json"),
        "fingerprints": {"samples": folder.name, "labeler": labeler},
        "fingerprint": "f",
    }
    run.save_audit(AuditResult((), settings=settings, labels=held))
    if images and names:
        numbers = [int(name.partition("/")[2]) for name in names]
        levels = np.array([number % 200 + value for number in numbers], np.uint8)
        pixels = np.broadcast_to(levels[:, None, None, None], (len(names), 1, 4, 4)).copy()
        run.samples_folder.mkdir(exist_ok=True)
        seeds = [int(name.partition("/")[0]) for name in names]
        write_shard(run.samples_folder / "shard-000.parquet", pixels, {"index": numbers, "seed": seeds})
    return run
