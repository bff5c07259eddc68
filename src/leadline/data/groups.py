"""Classes out of table columns: a label, a boolean attribute (Male), a product of them (Blond_Hair*Male)."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import product

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from leadline.errors import LeadlineError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One column as classes.

    codes: int64 [n], indices into `classes`. product_names: what the classes are called in a product of columns.
    """

    codes: Int[np.ndarray, " n"]
    classes: tuple[str, ...]
    product_names: tuple[str, ...]


def group_labels(
    groups: str, columns: Collection[str], factor_of: Callable[[str], Factor]
) -> tuple[Int[np.ndarray, " n"], tuple[str, ...]]:
    """Labels int64 [n] and classes of a column or of a product `A*B*…` of columns, the first the most significant.

    Two booleans thus give 4 classes in binary order: "not A, not B", "not A, B", "A, not B", "A, B".
    Raises LeadlineError on an unknown column (with the nearest names) or one named twice.
    """
    names = [groups] if groups in columns else [part.strip() for part in groups.split("*")]
    for name in names:
        if name not in columns:
            raise LeadlineError(
                f"groups: there is no column {name!r}: {did_you_mean(name, columns)} (--set data.groups)"
            )
    if len(set(names)) < len(names):
        raise LeadlineError(f"groups {groups!r} name a column twice (--set data.groups)")
    factors = [factor_of(name) for name in names]
    if len(factors) == 1:
        return factors[0].codes, factors[0].classes
    labels = np.zeros(len(factors[0].codes), dtype=np.int64)
    for factor in factors:
        labels = labels * len(factor.classes) + factor.codes
    return labels, tuple(", ".join(parts) for parts in product(*(factor.product_names for factor in factors)))


def column_factor(name: str, column: pa.ChunkedArray, label_names: tuple[str, ...] | None = None) -> Factor:
    """The classes of one column: booleans, integers, strings; with `label_names`, integers that index them.

    Integers that are all -1 or 1, with a -1 among them, are CelebA's booleans. A boolean column gives the classes
    "not <name>" and "<name>"; other values their text, in sorted order. Raises LeadlineError on missing values and
    on columns of any other type.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or text):
        raise LeadlineError(
            f"groups: column {name!r} holds {column.type}: classes come from booleans, integers or text "
            "(--set data.groups)"
        )
    if column.null_count:
        raise LeadlineError(
            f"groups: column {name!r} has no value in {column.null_count:,} of {len(column):,} rows: choose another "
            "column (--set data.groups), or fill it in"
        )
    if text:
        values, codes = np.unique(np.array(column.to_pylist(), dtype=str), return_inverse=True)
        return _categories(name, codes, tuple(values.tolist()))
    numbers = np.array(column.to_pylist(), dtype=np.int64)
    if label_names is not None:
        return _labelled(name, numbers, label_names)
    values, codes = np.unique(numbers, return_inverse=True)
    if pa.types.is_boolean(kind) or (set(values.tolist()) <= {-1, 1} and -1 in values):
        classes = (f"not {name}", name)
        return Factor(codes=(numbers > 0).astype(np.int64), classes=classes, product_names=classes)
    return _categories(name, codes, tuple(str(value) for value in values))


def _labelled(name: str, numbers: Int[np.ndarray, " n"], label_names: tuple[str, ...]) -> Factor:
    outside = int(((numbers < 0) | (numbers >= len(label_names))).sum())
    if outside:
        raise LeadlineError(
            f"groups: column {name!r} has {len(label_names)} named classes, and {outside:,} of {len(numbers):,} rows "
            "have none of them (a test split without labels?): choose another split or column (--set data.split, "
            "data.groups)"
        )
    return _categories(name, numbers, label_names)


def _categories(name: str, codes: Int[np.ndarray, " n"], classes: tuple[str, ...]) -> Factor:
    return Factor(
        codes=codes.astype(np.int64), classes=classes, product_names=tuple(f"{name}={value}" for value in classes)
    )
