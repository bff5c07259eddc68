"""Pieces of a long measurement on disk: each computed once under its settings, whatever happens between."""

from pathlib import Path

import numpy as np
import pytest

from leadline.lab.keeping import VERSION, Arrays, Kept


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        return {"values": np.arange(3.0), "words": np.array(["a", "σ"])}


def files(kept: Kept) -> list[Path]:
    return sorted(kept.folder.iterdir())


def test_a_piece_is_computed_once_under_its_settings(tmp_path: Path) -> None:
    kept, compute = Kept(tmp_path / "kept"), Counting()
    first = kept.piece({"sigma": 1.5, "seed": 0}, compute)
    again = Kept(tmp_path / "kept").piece({"seed": 0, "sigma": 1.5}, compute)
    assert compute.calls == 1
    assert set(again) == {"values", "words"}
    assert all(np.array_equal(first[name], again[name]) for name in again)
    kept.piece({"sigma": 1.5, "seed": 1}, compute)
    assert compute.calls == 2
    assert len(files(kept)) == 2


def test_what_an_earlier_formula_gave_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, compute = Kept(tmp_path), Counting()
    kept.piece({"n": 1}, compute)
    monkeypatch.setattr("leadline.lab.keeping.VERSION", VERSION + 1)
    kept.piece({"n": 1}, compute)
    assert compute.calls == 2


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", None])
def test_a_damaged_piece_is_computed_again(tmp_path: Path, damage: bytes | None) -> None:
    kept, compute = Kept(tmp_path), Counting()
    kept.piece({"n": 1}, compute)
    [file] = files(kept)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if damage is None else damage)
    assert np.array_equal(kept.piece({"n": 1}, compute)["values"], np.arange(3.0))
    assert compute.calls == 2
    assert np.array_equal(kept.piece({"n": 1}, compute)["values"], np.arange(3.0))
    assert compute.calls == 2


def test_a_piece_of_other_settings_under_the_same_name_is_not_taken(tmp_path: Path) -> None:
    kept, compute = Kept(tmp_path), Counting()
    kept.piece({"n": 1}, compute)
    [one] = files(kept)
    kept.piece({"n": 2}, compute)
    [other] = [file for file in files(kept) if file != one]
    other.write_bytes(one.read_bytes())
    kept.piece({"n": 2}, compute)
    assert compute.calls == 3


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    kept, compute = Kept(tmp_path), Counting()
    kept.piece({"n": 1}, compute)
    [file] = files(kept)
    with np.load(file) as opened:
        settings = opened["settings"]
    np.savez(file, settings=settings, values=np.array([object()], dtype=object), allow_pickle=True)
    assert np.array_equal(kept.piece({"n": 1}, compute)["values"], np.arange(3.0))
    assert compute.calls == 2


def test_an_interrupted_piece_leaves_nothing_and_the_earlier_ones(tmp_path: Path) -> None:
    kept, compute = Kept(tmp_path), Counting()
    kept.piece({"n": 1}, compute)

    def interrupted() -> Arrays:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.piece({"n": 2}, interrupted)
    assert len(files(kept)) == 1
    kept.piece({"n": 1}, compute)
    assert compute.calls == 1
