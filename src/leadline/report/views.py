"""One run as the report sees it: loaded once, in the order of depth; what cannot be loaded is there as a reason."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from leadline.comparison import Comparison
from leadline.errors import LeadlineError
from leadline.frontier import SteerSweep
from leadline.gate import Verdict
from leadline.looks import Look
from leadline.recipe import Recipe, SampleSpec, SteerSpec
from leadline.records import AuditResult, Measurement, Table
from leadline.report.words import listed, plain
from leadline.runs import Run, RunHeader

UNREADABLE = (LeadlineError, OSError, ValueError, KeyError, TypeError)
"""What opening a file of a run folder raises when the file is damaged: shown as a reason, the rest is drawn."""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run with what was read from its folder.

    name: its title, unique on the page. label: short, for axes (`4 blocks`). audit_reason, curve_reason,
    recipe_reason: why `audit` or `recipe` is None or `curve` empty. looks: at its training, where it was watched, and
    looks_reason, why they cannot be read. judged_reason: why verdicts or the comparison with
    an earlier audit, which need not be there, cannot be read. sweep: the steering sweep that the whole page is about,
    where it is. across: what was found in all runs of the page together, the same in each view. drawn: whether it has
    a place in the drawings of every section; the tables have all runs.
    """

    name: str
    label: str
    folder: str
    header: RunHeader
    recipe: Recipe | None = None
    recipe_reason: str = ""
    audit: AuditResult | None = None
    audit_reason: str = ""
    curve: Sequence[dict[str, Any]] = field(default_factory=tuple)
    curve_reason: str = ""
    looks: tuple[Look, ...] = ()
    looks_reason: str = ""
    verdicts: tuple[Verdict, ...] = ()
    comparison: Comparison | None = None
    judged_reason: str = ""
    sweep: SteerSweep | None = None
    across: AuditResult | None = None
    drawn: bool = True

    @property
    def depth(self) -> str | None:
        """The model's place on the depth axis: `2`, `2 (large)`, or None when it is not known or not of the family."""
        return None if self.recipe is None or self.recipe.text is not None else depth_text(self.recipe)

    @property
    def member(self) -> str:
        """Which control the model is matched by; empty for the papers' own members."""
        return "" if self.recipe is None else " and ".join(self.recipe.model.match)

    @property
    def steering(self) -> SteerSpec | None:
        """The bypass that the images were drawn with, None where there was none or it is not known."""
        drawn = self.sampling
        return drawn.steer if drawn is not None and drawn.steer.strength else None

    @property
    def sampling(self) -> SampleSpec | None:
        """How the images were drawn: by the recipe, or as the audit of a pipeline's or another run's images noted."""
        if self.recipe is not None:
            return self.recipe.sample
        noted = self.header.samples.get("sample")
        try:
            return SampleSpec(**noted) if isinstance(noted, dict) else None
        except LeadlineError:
            return None

    def find(self, name: str, group: str | None = None, **params: Any) -> list[Measurement]:
        """The audit's measurements of that name, group and params, those with a value first.

        A param of None is any. One that could not be measured may be recorded once for all groups or options: it
        answers for each of them.
        """
        found = [m for m in self.audit or () if m.name == name and _answers(m, group, params)]
        return sorted(found, key=lambda m: m.value is None)

    def measured(self, names: Sequence[str]) -> bool:
        """Whether one of these measurements has a value."""
        return any(m.value is not None for name in names for m in self.find(name))

    def first(self, name: str, group: str | None = None, **params: Any) -> Measurement | None:
        """The first such measurement, or None."""
        return next(iter(self.find(name, group, **params)), None)

    def against_k(self, name: str, subset: str, space: str | None = None) -> list[Measurement]:
        """Measurements over the nearest neighbours of one set (samples, held_out) in one space, by rising k."""
        return sorted(self.find(name, set=subset, space=space), key=lambda m: m.params.get("k", 0))

    def tables(self, beginning: str) -> list[Table]:
        """The audit's own tables whose name begins so."""
        return [] if self.audit is None else [t for t in self.audit.tables if t.name.startswith(beginning)]


def _answers(m: Measurement, group: str | None, params: dict[str, Any]) -> bool:
    everything = m.value is None
    right_group = group is None or m.group == group or (everything and m.group is None)
    return right_group and all(
        m.params[key] == value if key in m.params else everything for key, value in params.items() if value is not None
    )


def depth_text(recipe: Recipe) -> str:
    """The papers' name of a member of the depth family: its number of blocks, `(large)` for the wide one."""
    return f"{recipe.model.blocks} (large)" if recipe.model.wide else str(recipe.model.blocks)


def open_views(
    runs: Sequence[Run], sweep: SteerSweep | None = None, across: AuditResult | None = None
) -> list[RunView]:
    """Views of the runs, sorted by depth; those whose depth is not known come last, in the order given.

    Of a steering sweep only strength 0 and the chosen setting are drawn in every section: more would hide each other.
    """
    opened = [replace(_open(run), across=across) for run in runs]
    if sweep is not None:
        chosen = {setting.folder for setting in (sweep.zero, sweep.chosen) if setting is not None}
        opened = [replace(view, sweep=sweep, drawn=view.folder in chosen) for view in opened]
    ordered = sorted(opened, key=_by_depth)
    return _named_apart(ordered)


def _open(run: Run) -> RunView:
    parts: dict[str, Any] = {}
    try:
        parts["recipe"] = run.recipe
        if parts["recipe"] is None:
            parts["recipe_reason"] = "an audit of foreign images has no recipe"
    except UNREADABLE as error:
        parts["recipe_reason"] = f"the recipe in run.json cannot be read: {error}"
    try:
        parts["audit"] = run.audit()
        if parts["audit"] is None:
            parts["audit_reason"] = (
                f"the audit is not finished (the run's status is {run.header.status}): start the same command again"
            )
    except UNREADABLE as error:
        parts["audit_reason"] = f"the audit's files cannot be read: {error}"
    try:
        parts["curve"] = tuple(run.curve())
        if not parts["curve"]:
            parts["curve_reason"] = (
                "images from elsewhere: there was no training"
                if run.header.kind == "audit"
                else "no curve was recorded"
            )
    except UNREADABLE as error:
        parts["curve_reason"] = f"the training curve cannot be read: {error}"
    try:
        parts["looks"] = run.looks()
    except UNREADABLE as error:
        parts["looks_reason"] = f"the looks at the training cannot be read: {error}"
    try:
        parts["verdicts"] = run.gate()
        parts["comparison"] = run.comparison()
    except UNREADABLE as error:
        parts["judged_reason"] = f"what was said before a release cannot be read: {error}"
    label = _label(run, parts.get("recipe"))
    return RunView(name=plain(run.title), label=label, folder=plain(run.folder.name), header=run.header, **parts)


def _label(run: Run, recipe: Recipe | None) -> str:
    """`4 blocks`, `2 blocks (large)`, `4 blocks, width matched`, with the bypass if any; without a recipe the title."""
    if recipe is None:
        return plain(run.title)
    if recipe.text is not None:
        return ", ".join(filter(None, (plain(recipe.name), recipe.sample.steer.words)))
    large = " (large)" if recipe.model.wide else ""
    match = f", {' and '.join(recipe.model.match)} matched" if recipe.model.match else ""
    steer = f", {recipe.sample.steer.words}" if recipe.sample.steer.words else ""
    return f"{recipe.model.blocks} blocks{large}{match}{steer}"


def _by_depth(view: RunView) -> tuple[Any, ...]:
    if view.recipe is None:
        return (1,)
    model = view.recipe.model
    return (0, model.match, model.blocks, model.wide, view.recipe.train.seed)


def who(names: Sequence[str], views: Sequence[RunView]) -> str:
    """`All runs`, or the names of those that are meant."""
    return "All runs" if len(names) == len(views) > 1 else listed(names)


def nothing_to_show(views: Sequence[RunView], what: str) -> str:
    """The lead of a section that no run has results for."""
    reasons = (f"{view.name}: {view.audit_reason or f'the audit has no results on {what}'}" for view in views)
    return f"Nothing to show. {'; '.join(reasons)}."


def missing_runs(views: Sequence[RunView], measured: Sequence[RunView]) -> list[str]:
    """One sentence per run that a section does not show, with the reason."""
    return [
        f"{view.name} is missing here: {view.audit_reason or 'it was not measured in this audit'}."
        for view in views
        if view not in measured
    ]


def _named_apart(views: Sequence[RunView]) -> list[RunView]:
    """Equal titles, and equal labels, get the training seed behind them, or where that is equal too the folder."""
    names = _apart([view.name for view in views], views)
    labels = _apart([view.label for view in views], views)
    return [replace(view, name=name, label=label) for view, name, label in zip(views, names, labels, strict=True)]


def _apart(words: Sequence[str], views: Sequence[RunView]) -> list[str]:
    apart = []
    for word, view in zip(words, views, strict=True):
        seeds = [v.recipe.train.seed for w, v in zip(words, views, strict=True) if w == word and v.recipe is not None]
        if words.count(word) == 1:
            apart.append(word)
        elif view.recipe is not None and len(set(seeds)) == words.count(word):
            apart.append(f"{word}, seed {view.recipe.train.seed}")
        else:
            apart.append(f"{word} ({view.folder})")
    return apart
