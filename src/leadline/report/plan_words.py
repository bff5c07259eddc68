"""The answer of `leadline plan` in sentences."""

from leadline.records import AuditResult, Measurement
from leadline.report.content import Finding
from leadline.report.words import SPACE, counted, number, short


def share_text(value: float) -> str:
    """A share in per cent with up to four digits: `0.86 %`, `41.68 %`."""
    return f"{short(100 * value)}{SPACE}%"


def points(value: float) -> str:
    """A standard deviation of shares: `0.5 points`, in percentage points."""
    return f"{short(100 * value)} points"


def sure(result: AuditResult) -> str:
    """`95 % intervals`."""
    return f"{short(100 * result.settings['level'])}{SPACE}% intervals"


def finding(result: AuditResult) -> Finding:
    """The headline, and a sentence on each part of the plan."""
    said = [
        ("Decision", _decision(result)),
        ("Textbook", _textbook(result)),
        ("Classifier", _classifier(result)),
        ("Labelled images", _labelled(result)),
        ("Same classifier on both sets", _alike(result)),
        ("Training runs", _runs(result)),
        ("Looking at every step", _stopped(result)),
    ]
    return Finding(run="Plan", headline=_headline(result), sentences=tuple((k, text) for k, text in said if text))


def _headline(result: AuditResult) -> str:
    asked = result.settings
    if asked["two_models"]:
        n = result.find("images_per_set")[0]
        pair = f"{share_text(asked['share'])} and {share_text(asked['detect'])}"
        return f"{number(n.value or 0)} images of each model tell {pair} apart"
    if asked["detect"] is None:
        return _told(result)
    pair = f"{share_text(asked['detect'])} is told from {share_text(asked['share'])}"
    _, perfect, *others = result.find("images_needed")
    parts = [f"by {_images(perfect)} with a perfect classifier"]
    for m in others:
        known = (
            "this one, its rates known" if m.params["counting"] == "rates known" else "its rates as uncertain as given"
        )
        parts.append(f"by {_images(m)} with {known}")
    one_model = "; ".join(parts)
    return (
        f"{pair} {one_model}"
        if asked["replicates"] is None
        else f"{pair} {_over_runs(result)}; of one model {one_model}"
    )


def _over_runs(result: AuditResult) -> str:
    """`in 3 training runs by 2,714 images of each`: the answer about the training, not about one model."""
    runs = result.settings["replicates"]
    where = f"in {counted(runs, 'training run')}"
    for m in result.find("images_per_run", runs=runs):
        if m.value is None and result.settings["between_run_sd"] is None:
            return f"{where} not at all, as long as the spread between runs is unknown"
        return f"{where} by {_images(m)} of each"
    (limit,) = result.find("largest_between_run_sd", runs=runs, images="unlimited")
    return (
        f"{where} only where their true shares differ by a standard deviation of {points(limit.value or 0.0)} or less"
    )


def _told(result: AuditResult) -> str:
    asked = result.settings
    last = result.find("detectable_share")[-2:]
    ends = [f"{m.params['side']}, none" if m.value is None else f"{share_text(m.value)} or {_further(m)}" for m in last]
    return f"{asked['images']:,} images tell {share_text(asked['share'])} from {' and from '.join(ends)}"


def _further(m: Measurement) -> str:
    return "less" if m.params["side"] == "below" else "more"


def _images(m: Measurement) -> str:
    return "no number of images" if m.value is None else f"{number(m.value)} images"


def _decision(result: AuditResult) -> str:
    asked = result.settings
    if asked["two_models"]:
        return "The score test of two shares, two-sided; both are estimated."
    end = "" if asked["detect"] is None else ", at that number of images and at every larger one"
    return (
        f"The {short(100 * asked['level'])}{SPACE}% interval of the samples' share (Wilson's; with fewer than ten "
        "images of the group, or of all others, the exact one), corrected where a classifier is given, leaves out the "
        "training share, on the right side, with a probability of "
        f"{short(100 * asked['power'])}{SPACE}% or more{end}."
    )


def _textbook(result: AuditResult) -> str:
    found = [m for m in result.find("images_needed") if m.method == "normal approximation"]
    return f"The usual normal formula says {_images(found[0])}, with a perfect classifier." if found else ""


def _classifier(result: AuditResult) -> str:
    reported = {m.params["of"]: m for m in result.find("reported_share")}
    precise = {m.params["of"]: m for m in result.find("precision")}
    if not reported:
        return ""
    asked = result.settings
    before, after = (asked["share"], asked["detect"])
    words = (
        f"It would report {share_text(reported['training'].value or 0)} for {share_text(before)} and "
        f"{share_text(reported['samples'].value or 0)} for {share_text(after)}."
    )
    samples = precise["samples"]
    if samples.value is None:
        return words
    true, false = (10_000 * float(samples.params[key]) for key in ("true", "false"))
    return (
        f"{words} Of 10,000 samples it would call {number(round(true + false))} so: {number(round(true))} rightly and "
        f"{number(round(false))} wrongly, {share_text(samples.value)} right "
        f"({share_text(precise['training'].value or 0)} among training images)."
    )


def _labelled(result: AuditResult) -> str:
    found = [m for m in result.find("labelled_images_needed") if m.params["images"] == "unlimited"]
    if not found:
        return ""
    kinds = {m.params["drawn"]: m for m in found}
    parts = [
        f"{number(m.value)} labelled images ({drawn}: {m.params['group_images']:,} of the group)"
        for drawn, m in kinds.items()
        if m.value is not None
    ]
    if not parts:
        return "No number of labelled images makes its rates sure enough."
    return (
        f"To know its rates well enough, even for unlimited samples, takes {' or '.join(parts)}. Fewer leave an error "
        "that no number of samples mends."
    )


def _alike(result: AuditResult) -> str:
    found = result.find("images_per_set")
    if not found or result.settings["two_models"]:
        return ""
    return (
        "Where as many real images that the classifier has not seen are scored as samples, equal shares are reported "
        f"as equal and its rates need not be known: {_images(found[0])} of each."
    )


def _runs(result: AuditResult) -> str:
    asked = result.settings
    runs = asked["replicates"]
    if runs is None:
        return ""
    for m in result.find("images_per_run", runs=runs):
        if m.value is None:
            return f"Not possible: {m.reason}."
        known = ", the spread taken as known" if runs == 1 else ""
        spread = f"a standard deviation of {points(asked['between_run_sd'])}"
        return f"{_images(m)} of each of {counted(runs, 'run')}{known}, with {spread} between runs."
    largest = {m.params["images"]: m for m in result.find("largest_between_run_sd", runs=runs)}
    limit = largest["unlimited"].value or 0.0
    spread = f"differ by a standard deviation of at most {points(limit)}"
    words = f"{runs:,} runs are enough where their true shares {spread}"
    some = next((m for images, m in largest.items() if images != "unlimited"), None)
    if some is None:
        return f"{words}."
    images = number(some.params["images"])
    less = f"not at all with {images} each" if some.value is None else f"{points(some.value)} with {images} each"
    return f"{words} with unlimited images ({less}). The spread is not known: it was not given (--between-run-sd)."


def _stopped(result: AuditResult) -> str:
    found = result.find("images_until_stopped")
    if not found:
        return ""
    m = found[0]
    if m.value is None:
        return f"Not possible: {m.reason}."
    return (
        f"An audit that may stop at any step (confidence sequence) has its answer at about {_images(m)}, as a median."
    )
