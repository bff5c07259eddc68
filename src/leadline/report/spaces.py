"""The spaces that images were compared in: pixels, or the features of a network. They are never mixed in one line."""

from collections.abc import Sequence

from leadline.report.views import RunView

Views = Sequence[RunView]
PIXELS = "pixels"
LABELER = "labeler features"
INCEPTION = "inception-v3-compat features"
"""The space in which the Fréchet and the kernel distance are what the literature calls FID and KID."""
MOST_SPACES = 2
"""Spaces that are drawn; the tables have them all."""


def measured_spaces(views: Views, *names: str) -> list[str | None]:
    """The spaces in which one of these measurements has a value, in the audits' order.

    None stands for measurements that name no space. It is also what `RunView.find` takes for any space.
    """
    return list(
        dict.fromkeys(
            m.params.get("space") for view in views for name in names for m in view.find(name) if m.value is not None
        )
    )


def in_space(space: str | None) -> str:
    """` in pixels`, ` in labeler features`, or nothing where the space is not named."""
    return f" in {space}" if space else ""


def of_space(space: str | None) -> str:
    """A space as the first cell of a row."""
    return space or "not named"


def anchor(space: str | None) -> str:
    """A space as a part of an id: letters, digits and dashes."""
    return "".join(c if c.isalnum() else "-" for c in space or "any")
