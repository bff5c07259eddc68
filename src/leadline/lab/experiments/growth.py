"""P2, Figure 1: from memorization to generalization, and towards a linear denoiser, as the training set grows."""

from collections.abc import Sequence
from functools import partial

from leadline.lab.evaluating import tagged
from leadline.lab.experiments.combining import averaged, change, merged
from leadline.lab.experiments.measuring import beside_nearest, counted, linear_at, new_images, with_samples
from leadline.lab.experiments.spec import EXPERIMENTS, Experiment, Subject
from leadline.lab.keeping import Kept
from leadline.lab.sources import LabModel
from leadline.presets import preset
from leadline.progress import ProgressCallback
from leadline.recipe import Recipe, with_overrides
from leadline.records import Measurement, TheoryResult


def of_size(name: str, num_images: int) -> Recipe:
    """The preset with that many training images: with one data seed, a part of those of every larger size."""
    return with_overrides(preset(name), [f"data.num_images={num_images}"])


def num_train(model: LabModel) -> int:
    """How many images a model was trained on."""
    return len(model.splits.train)


def measure_growth(
    wanted: Experiment, subjects: Sequence[Subject], kept: Kept, progress: ProgressCallback
) -> TheoryResult:
    """Linearity over the noise level and averaged, GL scores, copies, all against the number of training images."""
    found: list[Measurement] = []
    drawn = []
    for number, subject in enumerate(subjects):
        told = counted(progress, number, len(subjects))
        model = with_samples(subject.model, subject.member.recipe, wanted.measuring, kept.folder, told)
        own = [*linear_at(model, wanted.measuring, kept, told), *new_images(model, wanted.measuring, kept, told)]
        found += tagged(own, num_train=subject.member.value, train_seed=subject.member.seed)
        drawn.append(model)
    result = merged(found)
    result += averaged([m for m in result if m.name == "linearity"])
    return TheoryResult(
        measurements=(*result, *growth_changes(result)),
        panels=(beside_nearest(drawn, wanted.measuring.num_shown),),
    )


def growth_changes(found: Sequence[Measurement]) -> list[Measurement]:
    """From the smallest to the largest training set: the GL score, and linearity averaged over the levels."""
    of_samples = [m for m in found if m.params.get("set") == "samples" and m.params.get("squared") is False]
    mean = [m for m in found if "num_sigmas" in m.params and m.params["denoiser"] == "trained"]
    kinds = (of_samples, *([m for m in mean if m.params["centred"] is centred] for centred in (False, True)))
    return [m for one in kinds if (m := change(one, "num_train")) is not None]


@EXPERIMENTS.register("growth")
def growth() -> Experiment:
    """P2, Figure 1, on MNIST."""
    return Experiment(
        name="growth",
        kind="growth",
        sentence="P2, Figure 1: generalization score and linearity against the number of training images, MNIST.",
        cost="4 models of 1,500 steps: an estimated hour on 2 cores, 5 minutes on a GPU.",
        axis="num_train",
        axis_title="training images",
        unit="images",
        field="data.num_images",
        values=(10, 100, 1000, 10000),
        small=(10, 80),
        recipe=partial(of_size, "mnist-edm"),
        place=num_train,
        measure=measure_growth,
    )


@EXPERIMENTS.register("growth-celeba")
def growth_celeba() -> Experiment:
    """P2, Figure 1, on CelebA."""
    return Experiment(
        name="growth-celeba",
        kind="growth",
        sentence="P2, Figure 1: generalization score and linearity against the number of training images, CelebA.",
        cost="4 models of 10,000 steps: an estimated half an hour on a GPU, days on 2 cores.",
        axis="num_train",
        axis_title="training images",
        unit="images",
        field="data.num_images",
        values=(10, 100, 1000, 8000),
        small=(10, 80),
        recipe=partial(of_size, "celeba-edm"),
        place=num_train,
        measure=measure_growth,
    )
