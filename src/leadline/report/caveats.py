"""What the numbers do not show, found from what the runs are."""

from collections.abc import Sequence

from leadline.report.classifier import what_can_be_told
from leadline.report.settings import differing_fields
from leadline.report.spaces import INCEPTION, LABELER, measured_spaces
from leadline.report.views import RunView, who
from leadline.report.words import accuracy_text, listed

Views = Sequence[RunView]
ENOUGH_ANCESTRAL_STEPS = 250
"""Fewer steps of the ancestral sampler bend shares by themselves (docs/samplers.md: 8.4 % at 25 for a true 10 %)."""


def all_of(views: Views) -> list[str]:
    """All caveats that hold for these runs."""
    found = (
        stochastic_sampler(views),
        unlike_settings(views),
        single_training_run(views),
        unmatched_depths(views),
        imperfect_labels(views),
        enough_images(views),
        learned_features(views),
        few_for_frechet(views),
        not_canonical(views),
        not_lpips(views),
        copies_among_many(views),
        interval_meaning(views),
        shared_held_out(views),
        changed_code(views),
    )
    return [caveat for caveat in found if caveat]


def stochastic_sampler(views: Views) -> str:
    """A coarse ancestral sampler bends shares by itself."""
    coarse = [
        view.name
        for view in views
        if (drawn := view.sampling) is not None
        and drawn.sampler == "ancestral"
        and drawn.steps < ENOUGH_ANCESTRAL_STEPS
    ]
    if not coarse:
        return ""
    return (
        f"{who(coarse, views)}: sampled with the ancestral sampler in fewer than {ENOUGH_ANCESTRAL_STEPS} steps, which "
        "bends shares towards the majority by itself, even with an exact denoiser. Do not read a change of shares as "
        "the model's: sample again with ddim, euler or heun, or in more steps."
    )


def unlike_settings(views: Views) -> str:
    """Runs side by side that differ in more than the model."""
    meant = ("model.", "train.seed", *(("sample.steer.",) if views[0].sweep is not None else ()))
    fields = [name for name in differing_fields(views) if not name.startswith(meant)]
    if not fields:
        return ""
    return (
        f"These runs differ in more than the model: {listed(fields)}. A difference between them may come from any of "
        "these (the settings have the values)."
    )


def single_training_run(views: Views) -> str:
    """Without replicates, a difference between depths may be one between runs."""
    trained = [view for view in views if view.header.kind == "run"]
    seeds: dict[str, set[int]] = {}
    for view in trained:
        if view.recipe is not None:
            seeds.setdefault(f"{view.depth}/{view.member}", set()).add(view.recipe.train.seed)
    if not trained or (seeds and all(len(found) > 1 for found in seeds.values())):
        return ""
    return (
        "One training run per depth: the intervals cover the sampling of images only. Another training seed would move "
        "the numbers by an amount that is not measured here, so differences between depths may be differences between "
        "runs. Replicates (--set train.seed=1 and so on) show how large that is."
    )


def unmatched_depths(views: Views) -> str:
    """The papers' members differ in more than depth."""
    trained = [view for view in views if view.recipe is not None]
    if len({view.depth for view in trained}) < 2:
        return ""
    matched = {part for view in trained if view.recipe is not None for part in view.recipe.model.match}
    free = [
        words
        for part, words in (("parameters", "in size"), ("width", "in width"), ("attention", "in where attention sits"))
        if part not in matched
    ]
    if not free:
        return ""
    return (
        f"These models differ not only in depth but also {listed(free)}: what is seen may come from either. Matched "
        "controls (--set model.match=parameters, width or attention) hold one of them fixed."
    )


def imperfect_labels(views: Views) -> str:
    """The labels are a classifier's."""
    found = {view.name: m for view in views for m in view.find("labeler_accuracy")}
    if not found:
        return ""
    texts = dict.fromkeys(accuracy_text(m) for m in found.values())
    corrected = any(view.measured(("corrected_difference",)) for view in views)
    by_person = any(view.measured(("prediction_powered_difference",)) for view in views)
    intervals = (
        "the corrected shares hold its errors on known images, and the uncertainty of those; the others do not"
        if corrected
        else "its errors are not part of the intervals"
    )
    if by_person:
        intervals += "; shares with a person's labels need nothing of it"
    return (
        f"The classes of generated images are the labeler's word. How often it is right: {listed(texts)}; on generated "
        f"images it may be right less often, and {intervals}. "
        "Unclassified images are counted as such and forced into no class."
    )


def enough_images(views: Views) -> str:
    """What so many images could have shown at all."""
    told: dict[str, list[str]] = {}
    for view in views:
        if sentence := what_can_be_told(view):
            told.setdefault(sentence, []).append(view.name)
    if not told:
        return ""
    several = len(told) > 1
    return "; ".join(f"{who(names, views)}: {words}" if several else words for words, names in told.items()) + "."


def learned_features(views: Views) -> str:
    """The labeler's features know what tells its classes apart."""
    if not any(m.params.get("space") == LABELER and m.value is not None for v in views for m in v.audit or ()):
        return ""
    return (
        "The labeler's features are learned from its labels: they hold what tells its classes apart and may miss what "
        "else differs between images. Numbers in them compare audits with the same labeler alone."
    )


def few_for_frechet(views: Views) -> str:
    """The Fréchet distance reads larger the fewer the images; below as many as dimensions it is mostly that."""
    found = [(view, m) for view in views for m in view.find("frechet_distance") if m.value is not None]
    if not found:
        return ""
    singular = dict.fromkeys(view.name for view, m in found if "caution" in m.params)
    reads = "A Fréchet distance reads larger the fewer images it is of; its interval does not hold that."
    few = (
        f" {who(list(singular), views)}: there are no more images than dimensions, so most of it may be that bias."
        if singular
        else ""
    )
    return f"{reads}{few} Compare it with held-out real images at the same number, or use the kernel distance."


def not_canonical(views: Views) -> str:
    """FID and KID are names of distances in one network's features."""
    spaces = [space for space in measured_spaces(views, "frechet_distance", "kernel_distance") if space != INCEPTION]
    if not spaces:
        return ""
    return (
        f"Fréchet and kernel distances in {listed(str(space) for space in spaces)} are not FID and KID, which are "
        "those of one Inception network: they do not compare with published values."
    )


def not_lpips(views: Views) -> str:
    """Distances of bare network features."""
    units = dict.fromkeys(m.unit for view in views for m in view.find("mean_pairwise_feature_distance") if m.unit)
    if not units:
        return ""
    return (
        f"{listed(units)}: this is not LPIPS. Its layers are not weighted by human judgements, and its values do not "
        "compare with published ones."
    )


def copies_among_many(views: Views) -> str:
    """Every rule in every space is another chance of a false alarm."""
    kinds = {(m.params.get("rule"), m.params.get("space")) for view in views for m in view.find("copy_rate_excess")
             if m.lower is not None}  # fmt: skip
    if len(kinds) < 2:
        return ""
    return (
        f"Copies were counted in {len(kinds)} ways (rules and spaces), each with its own interval: the more there are, "
        "the likelier one of them excludes 0 by chance."
    )


def interval_meaning(views: Views) -> str:
    """Many intervals, some miss."""
    levels = {m.level for view in views if view.audit is not None for m in view.audit if m.level is not None}
    if not levels:
        return ""
    return (
        "An interval that contains the training data's share does not show that there is no bias: it shows which "
        "differences this number of images can and cannot rule out."
    )


def shared_held_out(views: Views) -> str:
    """Held-out images that the training data contains are no baseline; the audit leaves them out."""
    found = {}
    for view in views:
        images = (view.audit.settings if view.audit is not None else {}).get("images", {})
        left_out = images.get("held_out", {}).get("notes", {}).get("training_images_left_out")
        if left_out:
            found[view.name] = left_out
    if not found:
        return ""
    numbers = listed(f"{count:,} ({name})" for name, count in found.items())
    return (
        f"Held-out images that are training images to the byte were left out: {numbers}. Among the rest there may be "
        "pictures that are nearly the same, which make the baseline too near."
    )


def changed_code(views: Views) -> str:
    """Runs made from a checkout with changes that no commit holds."""
    dirty = [view.name for view in views if view.header.dirty]
    if not dirty:
        return ""
    return f"{who(dirty, views)}: made by code with uncommitted changes; the commit alone does not reproduce it."
