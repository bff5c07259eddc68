"""Lists after one flag."""

import pytest

from leadline.cli.console import spread


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("--strength 0 .25 1", "--strength 0 --strength .25 --strength 1"),
        ("--strength 0 --strength 1", "--strength 0 --strength 1"),
        ("RUN --strength 0 .5 --seed 7 8", "RUN --strength 0 --strength .5 --seed 7 8"),
        ("--strength -1 nan", "--strength -1 --strength nan"),
        ("--strength", "--strength"),
        ("--strength=0 .5 1", "--strength=0 --strength .5 --strength 1"),
        ("--strength=0 RUN .5 --seed=7 8", "--strength=0 RUN .5 --seed=7 8"),
        ("--strength .5 RUN 1", "--strength .5 RUN 1"),
        ("--steps 5 6", "--steps 5 6"),
    ],
)
def test_a_flag_takes_the_numbers_that_follow_it(given: str, read: str) -> None:
    assert spread(given.split()) == read.split()
