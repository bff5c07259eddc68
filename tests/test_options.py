"""The words of the command line's help against what they stand for."""

from leadline.audit.encoders import ENCODERS
from leadline.options import ENCODER_NAMES


def test_the_help_names_every_encoder_and_no_other() -> None:
    assert sorted(ENCODER_NAMES.split(", ")) == sorted(ENCODERS)
