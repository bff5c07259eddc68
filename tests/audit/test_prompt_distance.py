"""Distances between prompts on pictures whose distances are known, and their intervals."""

from itertools import product

import numpy as np
import pytest
import torch

from leadline.audit.encoders import load_encoder
from leadline.audit.intervals import mean_interval
from leadline.audit.prompt_distance import prompt_distances
from leadline.records import Measurement

PROMPTS = ("a", "b", "c")
GREYS = {"a": 0, "b": 10, "c": 40}
FACTOR = {"strength 0": 2.0, "strength 1": 1.0}


def picture(setting: str, prompt: str, seed: int) -> np.ndarray:
    """A grey picture: the prompt's grey times the setting's factor and the seed, and 3 more for every seed."""
    value = GREYS[prompt] * FACTOR[setting] * (1 + seed % 2) + 3 * seed
    return np.full((3, 2, 2), value, dtype=np.uint8)


def measured(
    prompts: tuple[str, ...] = PROMPTS, seeds: tuple[int, ...] = (0, 1, 2, 3), compared_with: str | None = "strength 0"
) -> list[Measurement]:
    encoder = load_encoder("pixels", shape=(3, 2, 2), device=torch.device("cpu"))
    return prompt_distances(
        encoder, picture, settings=list(FACTOR), prompts=prompts, seeds=seeds, compared_with=compared_with
    )


def one(
    found: list[Measurement], name: str, setting: str, pair: str | tuple[str, str] | None = "all pairs"
) -> Measurement:
    def of(m: Measurement) -> str | tuple[str, str] | None:
        return (m.params["first"], m.params["second"]) if "first" in m.params else m.params.get("pair")

    (only,) = [m for m in found if (m.name, m.params["setting"], of(m)) == (name, setting, pair)]
    return only


def test_each_pair_is_a_mean_over_seeds_with_its_interval() -> None:
    found = measured()
    gaps = {("a", "b"): 10.0, ("a", "c"): 40.0, ("b", "c"): 30.0}
    for (pair, gap), (setting, factor) in product(gaps.items(), FACTOR.items()):
        over_seeds = np.array([gap * factor * (1 + seed % 2) for seed in range(4)])
        m = one(found, "prompt_distance", setting, pair)
        assert (m.value, m.n) == (pytest.approx(over_seeds.mean()), 4)
        expected = mean_interval(over_seeds)
        assert expected is not None
        assert (m.lower, m.upper) == (pytest.approx(max(0.0, expected[0])), pytest.approx(expected[1]))


def test_all_pairs_are_averaged_within_a_seed_first() -> None:
    m = one(measured(), "prompt_distance", "strength 1")
    assert m.value == pytest.approx(80 / 3 * 1.5)
    assert m.upper == pytest.approx(mean_interval(np.array([1.0, 2, 1, 2]) * 80 / 3)[1])  # type: ignore[index]


def test_words_between_the_prompts_join_no_two_pairs() -> None:
    greys = {"a | b": 0, "c": 10, "a": 40, "b | c": 100}
    encoder = load_encoder("pixels", shape=(3, 2, 2), device=torch.device("cpu"))
    found = prompt_distances(
        encoder,
        lambda _, prompt, seed: np.full((3, 2, 2), greys[prompt], dtype=np.uint8),
        settings=["strength 0"],
        prompts=tuple(greys),
        seeds=(0,),
    )
    pairs = {(m.params["first"], m.params["second"]): m.value for m in found if "first" in m.params}
    assert len(pairs) == 6
    assert (pairs["a | b", "c"], pairs["a", "b | c"]) == (10, 60)
    assert one(found, "prompt_distance", "strength 0").value == pytest.approx(sum(pairs.values()) / 6)


def test_the_change_is_paired_by_seed() -> None:
    found = measured()
    m = one(found, "prompt_distance_change", "strength 1")
    assert m.value == pytest.approx(-80 / 3 * 1.5)
    assert m.upper is not None
    assert m.upper < 0
    assert m.params["compared_with"] == "strength 0"
    assert not [m for m in found if m.name == "prompt_distance_change" and m.params["setting"] == "strength 0"]
    assert not [m for m in measured(compared_with=None) if m.name == "prompt_distance_change"]


def test_two_seeds_of_one_prompt_are_the_measure() -> None:
    # Seeds 0 and 1: 3 greys apart and once more the prompt's own grey; seeds 2 and 3 alike: no spread.
    m = one(measured(), "seed_distance", "strength 1", None)
    assert (m.value, m.n) == (pytest.approx(3 + 50 / 3), 2)
    assert m.lower == pytest.approx(m.value)


def test_one_seed_has_no_interval_and_no_measure() -> None:
    found = measured(seeds=(1,))
    assert one(found, "prompt_distance", "strength 0").lower is None
    missing = one(found, "seed_distance", "strength 0", None)
    assert missing.value is None
    assert "--images" in str(missing.reason)


def test_the_last_of_an_odd_number_of_seeds_counts() -> None:
    found = measured(seeds=(0, 2, 1))
    assert one(found, "prompt_distance", "strength 1").value == pytest.approx(80 / 3 * 4 / 3)
    assert one(found, "seed_distance", "strength 1", None).n == 1


def test_one_prompt_has_no_distance() -> None:
    found = measured(prompts=("a",))
    for name, setting in (("prompt_distance", "strength 0"), ("prompt_distance_change", "strength 1")):
        m = one(found, name, setting)
        assert m.value is None
        assert "--prompt" in str(m.reason)
