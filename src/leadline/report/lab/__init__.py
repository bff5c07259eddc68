"""A TheoryResult -> one page, its figures as SVG files, and a JSON."""

from leadline.report.lab import (  # noqa: F401  each enters its page
    abstraction,
    bias_variance,
    denoisers,
    experiments,
    landscape,
    linearity,
    smoothness,
)
from leadline.report.lab.page import PAGES, build_lab, check_folder

__all__ = ["PAGES", "build_lab", "check_folder"]
