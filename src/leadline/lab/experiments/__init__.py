"""Experiments of the theory lab: each trains its member recipes, measures them and says what was found."""

import leadline.lab.experiments.capacity
import leadline.lab.experiments.depth
import leadline.lab.experiments.growth
import leadline.lab.experiments.structure  # noqa: F401  each enters its experiments
from leadline.lab.experiments.running import experiment_folder, run_experiment
from leadline.lab.experiments.spec import EXPERIMENTS, Experiment, Measuring, Member, experiment, experiment_names

__all__ = [
    "EXPERIMENTS",
    "Experiment",
    "Measuring",
    "Member",
    "experiment",
    "experiment_folder",
    "experiment_names",
    "run_experiment",
]
