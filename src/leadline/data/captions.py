"""Captions of images, made from their classes or attributes by a fixed grammar: equal rows have equal captions."""

from collections.abc import Callable, Mapping, Sequence

from leadline.data.source import Source
from leadline.errors import LeadlineError
from leadline.registry import Registry

CAPTIONS: Registry[Callable[[Source], Sequence[str]]] = Registry("kind of captions")
"""Source -> one caption per image."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

HAIR = {"Blond_Hair": "blond hair", "Black_Hair": "black hair", "Brown_Hair": "brown hair", "Gray_Hair": "gray hair"}
"""Attribute -> words; the first that an image has counts."""
WORN = {"Eyeglasses": "glasses", "Wearing_Hat": "a hat", "Wearing_Necktie": "a tie"}
"""Attribute -> words; all that an image has are named."""
ATTRIBUTES = ("Male", "Young", "Smiling", "Bald", "No_Beard", *HAIR, *WORN)


@CAPTIONS.register("digits")
def digit_captions(source: Source) -> list[str]:
    """ "a handwritten six", from the classes 0 to 9. Raises LeadlineError for a source with other classes."""
    strange = [name for name in source.classes if name not in tuple("0123456789")]
    if source.labels is None or strange:
        found = f"the class {strange[0]!r}" if strange else "no classes"
        raise LeadlineError(
            f"captions 'digits' are made from the classes 0 to 9, and {source.name} has {found}: leave out "
            "--set data.captions, or take the data set mnist or digits"
        )
    words = [f"a handwritten {NUMBERS[int(name)]}" for name in source.classes]
    return [words[label] for label in source.labels.tolist()]


@CAPTIONS.register("celeba")
def celeba_captions(source: Source) -> list[str]:
    """ "a photo of a smiling woman with blond hair", from CelebA's attributes, the columns of ATTRIBUTES.

    Raises LeadlineError for a source without these columns.
    """
    if source.flag is None:
        raise LeadlineError(
            f"captions 'celeba' are made from CelebA's attributes, and {source.name} has no such columns: leave out "
            "--set data.captions, or take the data set celeba"
        )
    columns = {name: source.flag(name).tolist() for name in ATTRIBUTES}
    return [face_caption(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def face_caption(has: Mapping[str, bool]) -> str:
    """a photo of (a|an old) [smiling] [bald] (man|woman) [with … hair [and a beard]] [wearing glasses, a hat, a tie].

    has: whether the face has each of ATTRIBUTES. What a face has not goes unsaid, and so does that it is young.
    """
    words = ["a photo of", "a" if has["Young"] else "an old"]
    words += [word for name, word in (("Smiling", "smiling"), ("Bald", "bald")) if has[name]]
    words.append("man" if has["Male"] else "woman")
    hair = [text for name, text in HAIR.items() if has[name]][:1]
    features = hair + ([] if has["No_Beard"] else ["a beard"])
    worn = [text for name, text in WORN.items() if has[name]]
    for verb, things in (("with", features), ("wearing", worn)):
        if things:
            words += [verb, " and ".join(things)]
    return " ".join(words)
