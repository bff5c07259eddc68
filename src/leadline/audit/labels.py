"""Labels of the samples that come from a file or a list instead of the labeler."""

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from leadline.audit.judged import UNCLASSIFIED
from leadline.errors import LeadlineError, did_you_mean
from leadline.records import ImageSet

UNSURE = "unclassified"


def given_labels(given: str | Path | Sequence[str], samples: ImageSet, classes: Sequence[str]) -> Int[np.ndarray, " n"]:
    """The class of each sample as an index into `classes`, UNCLASSIFIED (-1) for the word "unclassified".

    given: class names in the order of the samples, or a file of them: one per line; a JSON list; or by id, as CSV
    with the columns id and label or a JSON object (ids are those of the samples, or their numbers from 0 on).
    Raises LeadlineError on another number of labels, an unknown or missing id and an unknown class.
    """
    if isinstance(given, str | Path):
        source, content = str(given), read_labels(Path(given))
    else:
        source, content = "labels", list(given)
    names = _in_order(content, samples, source) if isinstance(content, Mapping) else content
    if len(names) != len(samples):
        raise LeadlineError(f"{source}: {len(names)} labels for {len(samples)} samples: give one for each (--labels)")
    position = {name: index for index, name in enumerate(classes)} | {UNSURE: UNCLASSIFIED}
    unknown = next((name for name in names if name not in position), None)
    if unknown is not None:
        raise LeadlineError(f"{source}: unknown class {unknown!r}: {did_you_mean(unknown, position)}")
    return np.array([position[name] for name in names], dtype=np.int64)


def read_labels(file: Path) -> list[str] | dict[str, str]:
    """A file's labels: a list in the order of the samples, or a mapping from ids. Never runs what it reads."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LeadlineError(f"labels {file} cannot be read as UTF-8 text: {error} (--labels FILE)") from None
    if file.suffix == ".json":
        return _from_json(file, text)
    lines = [line for line in csv.reader(text.splitlines()) if line]
    if lines and {"id", "label"} <= {cell.strip() for cell in lines[0]}:
        head = [cell.strip() for cell in lines[0]]
        ragged = next((n for n, line in enumerate(lines) if len(line) != len(head)), None)
        if ragged is not None:
            raise LeadlineError(f"{file}: row {ragged} has {len(lines[ragged])} cells, the head {len(head)}")
        pairs = [(line[head.index("id")].strip(), line[head.index("label")].strip()) for line in lines[1:]]
        return _unique(file, pairs)
    # One label per line is taken whole: a class of a product of attributes has a comma in its name.
    return [line.strip() for line in text.splitlines() if line.strip()]


def _from_json(file: Path, text: str) -> list[str] | dict[str, str]:
    try:
        content: Any = json.loads(text, object_pairs_hook=lambda pairs: _unique(file, pairs))
    except json.JSONDecodeError as error:
        raise LeadlineError(f"{file} is not valid JSON: {error}") from None
    values = list(content.values()) if isinstance(content, dict) else content
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise LeadlineError(f"{file}: labels are a list of class names, or an object id -> class name, all strings")
    return content if isinstance(content, dict) else values


def _unique(file: Path, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        twice, times = Counter(key for key, _ in pairs).most_common(1)[0]
        raise LeadlineError(f"{file}: the id {twice!r} stands {times} times: give each sample one label")
    return mapping


def _in_order(content: Mapping[str, str], samples: ImageSet, source: str) -> list[str]:
    ids = samples.ids or tuple(str(index) for index in range(len(samples)))
    missing = [name for name in ids if name not in content]
    strange = sorted(set(content) - set(ids))
    if missing or strange:
        first = f"no label for {missing[0]!r}" if missing else f"{strange[0]!r} is no sample"
        raise LeadlineError(
            f"{source}: {len(content)} labels for {len(ids)} samples; {len(missing)} samples have none and "
            f"{len(strange)} ids are unknown ({first})"
        )
    return [content[name] for name in ids]
