"""Which sets of images belong beside each other: drawn from the same seeds, and apart in one thing."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from leadline.recipe import RUNTIME, ModelSpec, Recipe, Spec, SteerSpec, fingerprint, recipe_from_json
from leadline.runs import Run

Kind = Literal["depth", "bypass", "checkpoint"]
MEANT = frozenset({"sample.num_images", "sample.steer", "train.snapshots"})
"""Fields in which two sets of the same seeds may differ: a smaller set pairs by its ids, a snapshot changes nothing."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A run's images, or those of an audit. recipe, step (of training): of the model that drew them, where known."""

    run: Run
    recipe: Recipe | None = None
    step: int | None = None

    @property
    def title(self) -> str:
        return f"{self.run.title} ({self.run.folder.name})"

    @property
    def traits(self) -> dict[Kind, Hashable]:
        """What a pair may differ in, one of it."""
        if self.recipe is None:
            return {}
        steer = self.recipe.sample.steer
        return {"depth": self.recipe.model, "bypass": steer if steer.strength else SteerSpec(), "checkpoint": self.step}

    @property
    def rest(self) -> Hashable:
        """What the two of a pair have in common: data, training with its seed, sampling."""
        if self.recipe is None:
            return None
        specs = (self.recipe.data, self.recipe.train, self.recipe.sample)
        text = () if self.recipe.text is None else (self.recipe.text,)
        contents = (self.training.get("fingerprint"), self.run.header.model.get("fingerprint"))
        return (fingerprint(*specs, *text, leave_out=set(MEANT)), *map(str, contents))

    @property
    def training(self) -> dict[str, Any]:
        """What the run's record says of its training data."""
        noted = self.run.header.data.get("train")
        return noted if isinstance(noted, dict) else {}

    def words(self, kind: Kind) -> str:
        """What it is of that kind: `4 blocks`, `bypass 0.5 (constant, blend)`, `step 500`."""
        if self.recipe is None:
            return ""
        words: dict[Kind, str] = {
            "depth": "" if self.recipe.text is not None else self.recipe.model.words,
            "bypass": self.recipe.sample.steer.words or "strength 0",
            "checkpoint": f"step {self.step:,}" if self.step is not None else "",
        }
        return words[kind]


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Two sets of the same seeds. kind: the one thing that they differ in; "several" where it is more than that.

    a, b: what the two are called; of: what they have in common. remark: what else differs.
    """

    first: Drawn
    second: Drawn
    kind: Kind | Literal["several"]
    a: str
    b: str
    of: str = ""
    remark: str = ""

    @property
    def params(self) -> dict[str, Any]:
        """What identifies the pair in each of its measurements."""
        drawn = self.second.recipe or self.first.recipe
        return {
            "kind": self.kind,
            "a": self.a,
            "b": self.b,
            "of": self.of,
            "folder_a": self.first.run.folder.name,
            "folder_b": self.second.run.folder.name,
            **({"sampler": drawn.sample.sampler} if drawn is not None else {}),
            **({"remark": self.remark} if self.remark else {}),
        }


def drawn_by(run: Run) -> Drawn:
    """What drew a run's images, or those of an audit of a model's images. Raises LeadlineError on a damaged recipe."""
    noted = run.header.samples
    content = run.header.recipe or noted.get("recipe")
    if not isinstance(content, dict):
        return Drawn(run=run)
    recipe = recipe_from_json(content)
    step = noted.get("step", recipe.train.steps)
    return Drawn(run=run, recipe=recipe, step=step if isinstance(step, int) else None)


def pairings(drawn: Sequence[Drawn]) -> list[Pairing]:
    """Of all sets those to be compared: they differ in one thing, and one of the two is the least or the last of it."""
    found = []
    known = [each for each in drawn if each.recipe is not None]
    for kind, order in ORDER.items():
        alike: dict[Hashable, dict[Hashable, Drawn]] = {}
        for each in known:
            traits = each.traits
            own = traits.pop(kind)
            alike.setdefault((each.rest, tuple(traits.values())), {}).setdefault(own, each)
        for members in alike.values():
            ordered = [members[own] for own in sorted(members, key=order)]
            if kind == "checkpoint":
                found += [_pairing(each, ordered[-1], kind) for each in ordered[:-1]]
            else:
                found += [_pairing(ordered[0], each, kind) for each in ordered[1:]]
    return found


def _by_depth(model: Any) -> tuple[Any, ...]:
    spec: ModelSpec = model
    return (spec.blocks, spec.match, spec.wide, spec.channels or ())


def _by_strength(steer: Any) -> tuple[Any, ...]:
    spec: SteerSpec = steer
    return (spec.strength, spec.kind, spec.seed)


def _by_step(step: Any) -> int:
    return -1 if step is None else int(step)


ORDER: dict[Kind, Callable[[Any], Any]] = {"depth": _by_depth, "bypass": _by_strength, "checkpoint": _by_step}


def pairing(first: Drawn, second: Drawn) -> Pairing:
    """Any two sets that someone wants to compare, with a remark where they differ in more than one thing."""
    if first.recipe is None or second.recipe is None:
        remark = "nothing tells how the images of one of them were drawn: that their ids name the same seeds is assumed"
        return Pairing(first=first, second=second, kind="several", a=first.title, b=second.title, remark=remark)
    apart = [kind for kind, value in first.traits.items() if second.traits[kind] != value]
    if first.rest == second.rest and len(apart) == 1:
        return _pairing(first, second, apart[0])
    fields = [*apart, *differing(first.recipe, second.recipe)]
    remark = f"they differ in more than one thing ({', '.join(fields)})" if fields else ""
    names = [", ".join(filter(None, (each.title, each.words("checkpoint")))) for each in (first, second)]
    return Pairing(first=first, second=second, kind="several", a=names[0], b=names[1], remark=remark)


def differing(first: Recipe, second: Recipe, parts: Sequence[str] = ("data", "train", "sample", "text")) -> list[str]:
    """Names of the parts' fields that decide the outcome and are not the same, but for those that may differ."""
    found = []
    for part in parts:
        ours, theirs = (_deciding(getattr(recipe, part)) for recipe in (first, second))
        names = [f"{part}.{name}" for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        found += [name for name in names if name not in MEANT]
    return found


def _deciding(spec: Spec | None) -> dict[str, Any]:
    """A spec's fields that are a part of its fingerprint."""
    if spec is None:
        return {}
    fields = type(spec).model_fields
    return {name: value for name, value in spec if fields[name].json_schema_extra != RUNTIME}


def _pairing(first: Drawn, second: Drawn, kind: Kind) -> Pairing:
    recipe = second.recipe
    common = []
    if recipe is not None:
        last = second.step == recipe.train.steps
        others = {"depth": True, "bypass": bool(recipe.sample.steer.strength), "checkpoint": not last}
        told = [second.words(other) for other in ORDER if other != kind and others[other]]
        common = [recipe.name, *told, f"training seed {recipe.train.seed}"]
    of = ", ".join(filter(None, common))
    return Pairing(first=first, second=second, kind=kind, a=first.words(kind), b=second.words(kind), of=of)
