"""P2, Figure 2: one model of many images beside the Gaussian, the linear and the multi-delta denoiser."""

from collections.abc import Sequence
from functools import partial

from leadline.lab.denoisers import Comparing, compare_denoisers
from leadline.lab.experiments.growth import num_train, of_size
from leadline.lab.experiments.spec import EXPERIMENTS, Experiment, Subject
from leadline.lab.keeping import Kept
from leadline.progress import ProgressCallback
from leadline.records import TheoryResult


def measure_structure(
    wanted: Experiment, subjects: Sequence[Subject], kept: Kept, progress: ProgressCallback
) -> TheoryResult:
    """What `leadline theory denoisers` measures, of the experiment's model, or its replicates one by one."""
    spec = Comparing(
        sigmas=wanted.measuring.sigmas,
        num_images=wanted.measuring.num_images,
        num_shown=wanted.measuring.num_shown,
        num_seeds=max(2, 2 * wanted.measuring.num_shown),
        seed=wanted.measuring.seed,
    )
    return compare_denoisers([subject.model for subject in subjects], spec, kept, progress=progress)


@EXPERIMENTS.register("structure")
def structure() -> Experiment:
    """P2, Figure 2, on the model of growth with the most images."""
    return Experiment(
        name="structure",
        kind="structure",
        sentence="P2, Figure 2: a model of 10,000 MNIST images beside the Gaussian, linear and multi-delta denoisers.",
        cost="1 model of 1,500 steps, that of growth where it is there: an estimated 30 minutes on 2 cores.",
        axis="num_train",
        axis_title="training images",
        unit="images",
        field="data.num_images",
        values=(10000,),
        small=(80,),
        recipe=partial(of_size, "mnist-edm"),
        place=num_train,
        measure=measure_structure,
        one=True,
    )
