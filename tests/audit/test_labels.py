"""Labels from files: every form gives the same, every mistake is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leadline.audit.labels import given_labels
from leadline.errors import LeadlineError
from leadline.records import ImageSet

CLASSES = ("cat", "dog", "not Male, Blond")
SAMPLES = ImageSet(name="samples", pixels=np.zeros((4, 1, 4, 4), np.uint8), ids=("a", "b", "c", "d"))
NAMES = ["dog", "cat", "unclassified", "not Male, Blond"]
BY_ID = {"d": NAMES[3], "a": NAMES[0], "c": NAMES[2], "b": NAMES[1]}


def written(folder: Path, name: str, content: str) -> Path:
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "\n".join(NAMES) + "\n"),
        ("labels.csv", "\ufeffid,label\n" + "".join(f'{key},"{value}"\n' for key, value in BY_ID.items())),
        ("more.csv", "label,score,id\n" + "".join(f'"{value}",1, {key}\n' for key, value in BY_ID.items())),
        ("list.json", json.dumps(NAMES)),
        ("object.json", json.dumps(BY_ID)),
    ],
)
def test_every_form_gives_the_same_labels(tmp_path: Path, name: str, content: str) -> None:
    for given in (written(tmp_path, name, content), str(tmp_path / name)):
        assert given_labels(given, SAMPLES, CLASSES).tolist() == [1, 0, -1, 2]


def test_a_list_of_names_needs_no_file() -> None:
    assert given_labels(NAMES, SAMPLES, CLASSES).tolist() == [1, 0, -1, 2]


def test_samples_without_ids_go_by_their_numbers(tmp_path: Path) -> None:
    bare = ImageSet(name="samples", pixels=SAMPLES.pixels[:2])
    assert given_labels(written(tmp_path, "x.csv", "id,label\n1,dog\n0,cat\n"), bare, CLASSES).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.txt", "dog\ncat\n", "2 labels for 4 samples: give one for each"),
        ("x.txt", "dog\ncat\ncat\nbog\n", "unknown class 'bog': did you mean 'dog'"),
        ("x.csv", "id,label\na,dog\n", "1 labels for 4 samples; 3 samples have none .*no label for 'b'"),
        ("x.json", json.dumps({**BY_ID, "z": "dog"}), "1 ids are unknown .'z' is no sample"),
        ("x.csv", "id,label\na,dog\na,cat\n", "the id 'a' stands 2 times"),
        ("x.json", '{"a": "dog", "a": "cat"}', "the id 'a' stands 2 times"),
        ("x.csv", "id,label\na\n", "row 1 has 1 cells, the head 2"),
        ("x.json", '["dog"', "not valid JSON"),
        ("x.json", "[1, 2, 3, 4]", "all strings"),
        ("x.json", '"dog"', "all strings"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, name: str, content: str, words: str) -> None:
    with pytest.raises(LeadlineError, match=words):
        given_labels(written(tmp_path, name, content), SAMPLES, CLASSES)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: Any) -> None:
    if content is not None:
        (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(LeadlineError, match=r"x\.csv cannot be read as UTF-8 text.*--labels FILE"):
        given_labels(tmp_path / "x.csv", SAMPLES, CLASSES)
