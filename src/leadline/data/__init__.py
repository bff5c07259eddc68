"""Images with their labels: data sets, exact shares, disjoint splits, planted duplicates. Never imports torch."""

from leadline.data import celeba, digits, folders, mnist, tables  # noqa: F401  each enters its data sets
from leadline.data.loading import load, load_images
from leadline.data.names import parse_source
from leadline.data.source import DATASETS, Source

__all__ = ["DATASETS", "Source", "load", "load_images", "parse_source"]
