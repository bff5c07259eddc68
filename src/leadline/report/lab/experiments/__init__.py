"""Pages of the experiments of the theory lab."""

from leadline.report.lab.experiments import capacity, depth, growth, structure  # noqa: F401  each enters its page
