"""What a grid refuses before anything is loaded, and the order of its columns."""

from typing import Any

import numpy as np
import pytest

from leadline.errors import LeadlineError
from leadline.recipe import SteerSpec
from leadline.steer_grid import GridSpec
from leadline.text.generating import bypass_strengths

TOO_MUCH = SteerSpec(schedule="window(0.7) + window(0.7, sigma_max=3)")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompts": ()}, "at least one prompt"),
        ({"prompts": ("a", " ")}, "none may be empty"),
        ({"prompts": ("a", "a")}, "--prompt 'a' is given twice"),
        ({"strengths": (0.0, 1.5)}, "--strength 1.5: expected numbers from 0 to 1"),
        ({"strengths": (float("nan"),)}, "--strength nan"),
        ({"strengths": ()}, r"--strength \(none\)"),
        ({"strengths": (0.5, 0.5)}, "--strength 0.5 is given twice"),
        ({"num_images": 0}, "--images 0: expected 1 or more"),
        ({"seed": -1}, "--seed -1: expected 0 or more"),
        ({"size": -8}, "--size -8"),
        ({"guidance": float("inf")}, "--guidance inf"),
        ({"sampler": "dim"}, "did you mean 'ddim'.*--sampler"),
        ({"precision": "int8"}, "--precision int8"),
        ({"steps": 0}, "--steps 0"),
        ({"init_strength": 0.0}, "--init-strength 0"),
        ({"steps": 4, "init_strength": 0.2}, r"0.2 of 4 steps leaves none: give 5 steps or more \(--steps\)"),
        (
            {"guidance": 1.0, "steer": SteerSpec(branch="conditional")},
            "--branch conditional is one half.*at --guidance 1 there is none",
        ),
        ({"strengths": (1.0,), "steer": TOO_MUCH}, r"has strength 1.4 at noise level.*\[0, 1\]"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        GridSpec(**{"prompts": ("a woman",), **fields})


def test_a_schedule_may_pass_1_before_its_factor() -> None:
    spec = GridSpec(prompts=("a",), strengths=(0.0, 0.5), steer=TOO_MUCH)
    assert bypass_strengths(spec.sampling(0.5).steer, np.array([1.0])) == 0.7


def test_strengths_rise_and_freeu_stands_beside_strength_0() -> None:
    spec = GridSpec(prompts=("a",), strengths=(1.0, 0.0, 0.25), freeu=True)
    labels = [spec.label(column) for column in spec.columns]
    assert labels == ["strength 0", "FreeU", "strength 0.25", "strength 1"]
    assert GridSpec(prompts=("a",), strengths=(0.5,), freeu=True).columns[0].freeu
