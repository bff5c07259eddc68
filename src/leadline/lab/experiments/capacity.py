"""P2, Figure 3: what small capacity and early stopping do to a model of 1,000 images."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from leadline.lab.evaluating import GAUSSIAN, MULTI_DELTA, TRAINED, tagged
from leadline.lab.experiments.combining import averaged, change, merged
from leadline.lab.experiments.measuring import (
    beside_exact,
    beside_nearest,
    block_channels,
    counted,
    linear_at,
    new_images,
    with_samples,
)
from leadline.lab.experiments.spec import EXPERIMENTS, Experiment, Subject
from leadline.lab.keeping import Kept
from leadline.lab.sources import LabModel, model_digest
from leadline.models.pretrained import load_pipeline
from leadline.presets import preset
from leadline.progress import ProgressCallback
from leadline.recipe import Recipe, with_overrides
from leadline.records import Measurement, TheoryResult
from leadline.runs import Run

SNAPSHOTS = (100, 200, 400, 800)
AVERAGED = ("linearity", "score_difference")
FOLLOWED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("generalization_score", {"set": "samples", "squared": False}),
    ("linearity", {"denoiser": TRAINED, "centred": False}),
    ("score_difference", {"first": TRAINED, "second": GAUSSIAN}),
    ("score_difference", {"first": TRAINED, "second": MULTI_DELTA}),
)
"""What is followed along width and training step, the last three averaged over the noise levels."""


def of_width(channels: int) -> Recipe:
    """mnist-edm on 1,000 images with that many channels in the first block, twice as many in the second.

    Every member keeps its weights at a few steps on the way; the early-stopped models are those of the widest.
    """
    changes = [f"model.channels={channels},{2 * channels}", "data.num_images=1000"]
    return with_overrides(preset("mnist-edm"), [*changes, f"train.snapshots={','.join(map(str, SNAPSHOTS))}"])


def first_channels(model: LabModel) -> int:
    """Channels of a model's first down block."""
    return block_channels(model)[0]


def stages(subjects: Sequence[Subject]) -> Iterator[tuple[int, Subject]]:
    """(step, model): every member at its end, the widest ones also at the steps that they kept."""
    widest = max(subject.member.value for subject in subjects)
    for subject in subjects:
        last = subject.member.recipe.train.steps
        if subject.member.value == widest:
            kept = [step for step in subject.member.recipe.train.snapshots if step < last]
            yield from ((step, stopped(subject, step)) for step in kept)
        yield last, subject


def stopped(subject: Subject, step: int) -> Subject:
    """A member as it was after that many steps."""
    folder, model = Run.open(subject.folder).snapshot_folder(step), subject.model
    early = replace(
        model,
        name=f"{model.name}, step {step:,}",
        denoiser=load_pipeline(folder, model.denoiser.device),
        digest=model_digest(folder),
    )
    return replace(subject, model=early)


def measure_capacity(
    wanted: Experiment, subjects: Sequence[Subject], kept: Kept, progress: ProgressCallback
) -> TheoryResult:
    """Score differences to the exact denoisers, effective k, linearity, GL scores, against width and training step."""
    found: list[Measurement] = []
    drawn = []
    chosen = list(stages(subjects))
    for number, (step, subject) in enumerate(chosen):
        told, measuring = counted(progress, number, len(chosen)), wanted.measuring
        model = with_samples(subject.model, subject.member.recipe, measuring, kept.folder, told)
        own = beside_exact(model, measuring, kept, told) + linear_at(model, measuring, kept, told)
        own += new_images(model, measuring, kept, told)
        where = {"channels": subject.member.value, "step": step, "train_seed": subject.member.seed}
        found += tagged(own, **where)
        drawn.append(model)
    result = merged(found)
    result += averaged([m for m in result if m.name in AVERAGED])
    return TheoryResult(
        measurements=(*result, *capacity_changes(result)),
        panels=(beside_nearest(drawn, wanted.measuring.num_shown),),
    )


def capacity_changes(found: Sequence[Measurement]) -> list[Measurement]:
    """From the narrowest to the widest at the last step, and from the first to the last step of the widest.

    Of the GL score, linearity and the distances to both exact denoisers; params along says which way.
    """
    placed = [m for m in found if "channels" in m.params and ("sigma" not in m.params)]
    widest, last = (max((m.params[axis] for m in placed), default=0) for axis in ("channels", "step"))
    made = []
    for axis, fixed in (("channels", ("step", last)), ("step", ("channels", widest))):
        along = [m for m in placed if m.params[fixed[0]] == fixed[1]]
        for wanted in FOLLOWED:
            of_it = [m for m in along if m.name == wanted[0] and wanted[1].items() <= m.params.items()]
            if (m := change(of_it, axis)) is not None:
                made.append(m.model_copy(update={"params": {**m.params, "along": axis}}))
    return made


@EXPERIMENTS.register("capacity")
def capacity() -> Experiment:
    """P2, Figure 3, on MNIST."""
    return Experiment(
        name="capacity",
        kind="capacity",
        sentence="P2, Figure 3: distance to the Gaussian and the multi-delta denoiser, linearity and generalization "
        "score against width, and against the training step.",
        cost="4 models of 1,500 steps, of 8 to 64 channels: an estimated hour on 2 cores, 6 minutes on a GPU.",
        axis="channels",
        axis_title="channels of the first block",
        unit="channels",
        field="model.channels",
        values=(8, 16, 32, 64),
        small=(8, 16),
        recipe=of_width,
        place=first_channels,
        measure=measure_capacity,
    )
