"""Errors whose message is written for the person who has to mend the input."""

from collections.abc import Iterable
from difflib import get_close_matches


class LeadlineError(ValueError):
    """Bad input: says what was expected, what was given and what to change.

    The command line prints it without a traceback and exits with code 2.
    """


class NotMeasurable(LeadlineError):
    """A measurement that cannot be made: its message says why and how to get it. The other metrics still run."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an "unknown name" message: the nearest known names, else all of them."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(repr(c) for c in close)}?"
    return f"known: {', '.join(names)}" if names else "none are known"
