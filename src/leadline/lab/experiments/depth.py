"""P1: effective k, Lemma 1, smoothness and linearity against the number of down blocks."""

from collections.abc import Sequence
from dataclasses import replace

from leadline.lab.evaluating import TRAINED, tagged
from leadline.lab.experiments.combining import averaged, change, merged
from leadline.lab.experiments.measuring import beside_exact, block_channels, counted, linear_at
from leadline.lab.experiments.spec import EXPERIMENTS, Experiment, Measuring, Subject
from leadline.lab.keeping import Kept
from leadline.lab.smoothness import Smoothing, measure_smoothness
from leadline.lab.sources import LabModel
from leadline.presets import preset
from leadline.progress import ProgressCallback
from leadline.recipe import Recipe, with_overrides
from leadline.records import Measurement, TheoryResult

SMALL_SWEEP = (
    "data.image_size=16",
    "data.fit=resize",
    "train.steps=4000",
    "train.batch_size=64",
    "train.learning_rate=1e-3",
    "train.warmup_steps=200",
)
"""How docs/results.md trains mnist69 at 16×16: a sweep of that training under --out serves as it is."""


def of_depth(blocks: int) -> Recipe:
    """mnist69 at 16×16 with that many down blocks."""
    return with_overrides(preset("mnist69"), [*SMALL_SWEEP, f"model.blocks={blocks}"])


def num_blocks(model: LabModel) -> int:
    """Down blocks of a model's U-Net."""
    return len(block_channels(model))


def measure_depth(
    wanted: Experiment, subjects: Sequence[Subject], kept: Kept, progress: ProgressCallback
) -> TheoryResult:
    """What `leadline theory smoothness` measures, and effective k and linearity over the noise level at every depth."""
    measuring = wanted.measuring
    found: list[Measurement] = []
    for number, subject in enumerate(subjects):
        told, model = counted(progress, number, len(subjects)), subject.model
        own = [*beside_exact(model, measuring, kept, told), *linear_at(model, measuring, kept, told)]
        found += tagged(own, depth=subject.member.value, train_seed=subject.member.seed)
    result = merged(found)
    result += averaged([m for m in result if m.name == "linearity"])
    spec = Smoothing(
        sigmas=measuring.smooth_sigmas,
        num_images=measuring.num_points,
        num_latent=max(2, measuring.num_points // 2),
        seed=measuring.seed,
    )
    smooth = measure_smoothness([subject.model for subject in subjects], spec, kept, progress)
    return replace(smooth, measurements=(*result, *depth_changes(result), *smooth.measurements))


def depth_changes(found: Sequence[Measurement]) -> list[Measurement]:
    """From the shallowest to the deepest: linearity averaged over the levels, and effective k at each level."""
    kinds = [[m for m in found if "num_sigmas" in m.params and m.params["denoiser"] == TRAINED]]
    kinds = [[m for m in kinds[0] if m.params["centred"] is centred] for centred in (False, True)]
    own = [m for m in found if m.name == "effective_k" and m.params["denoiser"] == TRAINED]
    kinds += [[m for m in own if m.params["sigma"] == sigma] for sigma in sorted({m.params["sigma"] for m in own})]
    return [m for one in kinds if (m := change(one, "depth")) is not None]


@EXPERIMENTS.register("depth")
def depth() -> Experiment:
    """P1's claims about depth, on mnist69 at 16×16."""
    return Experiment(
        name="depth",
        kind="depth",
        sentence="P1: effective k, Lemma 1, smoothness and linearity against the number of down blocks, MNIST 6/9.",
        cost="4 models of 4,000 steps, those of a sweep where it is there: an estimated 3 hours on 2 cores.",
        axis="depth",
        axis_title="down blocks",
        unit="blocks",
        field="model.blocks",
        values=(2, 3, 4, 5),
        small=(2, 3),
        recipe=of_depth,
        place=num_blocks,
        measure=measure_depth,
        measuring=Measuring(num_images=128),
    )
