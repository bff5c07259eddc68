"""The page of `leadline theory run depth`: P1's claims about depth, effective k and linearity beside the smoothness."""

from typing import Any

from leadline.records import TheoryResult
from leadline.report.content import Finding, Section
from leadline.report.lab.experiments.shared import (
    COSINE,
    Axis,
    along,
    at,
    axis_table,
    ends,
    facts,
    levels_words,
    runs_caveat,
    runs_words,
)
from leadline.report.lab.lines import Series, bound, central, over_sigma, reasons, sigma_table, verdict
from leadline.report.lab.page import PAGES, LabPage
from leadline.report.words import listed, number, plain, short

AXIS = Axis("depth", "down blocks", {"denoiser": "trained"}, log=False)
LINEAR = Series("linearity, mean over σ", "linearity", {"centred": False})
CENTRED = Series("about the training mean", "linearity", {"centred": True})
CLAIM = (
    "P1 says that the abstraction level of the latent, set by depth, plays the part of k in k-NN: deeper models "
    "average more images, and their landscape is smoother."
)


@PAGES.register("experiment-depth")
def page(result: TheoryResult) -> LabPage:
    """The answers; effective k and linearity by depth; then all that `leadline theory smoothness` says."""
    smooth = PAGES["smoothness"](result)
    own = [m for m in result if m.name in ("effective_k", "linearity")]
    return LabPage(
        title="Depth: effective k, linearity, Lemma 1 and smoothness",
        findings=[_answer(result), *smooth.findings],
        caveats=[runs_caveat(result), *dict.fromkeys([*reasons(own), *smooth.caveats])],
        facts=[*facts(result), *smooth.facts],
        sections=[_effective_k(result), _linearity(result), *smooth.sections],
    )


def _answer(result: TheoryResult) -> Finding:
    """Effective k at the central level, and at how many it rises or falls; linearity."""
    linear = ends(result, LINEAR, AXIS, result.find("linearity_change", centred=False))
    sentences = [
        ("Effective k over the noise levels", _ways(result)),
        ("Linearity", f"{levels_words(result)}: {linear}." if linear else ""),
        ("The paper", CLAIM),
    ]
    return Finding(
        run="Depth",
        headline=plain(f"{_central(result)}; {runs_words(result)}."),
        sentences=tuple((label, plain(words)) for label, words in sentences if words),
    )


def _central(result: TheoryResult) -> str:
    """Effective k of the shallowest and the deepest at the level that is nearest to the middle."""
    changes = {m.params["sigma"]: m for m in result.find("effective_k_change")}
    sigma = central(changes)
    if sigma is None:
        return "effective k could not be measured at two depths and one noise level"
    told = ends(result, Series("k", "effective_k", {"sigma": sigma}), AXIS, [changes[sigma]])
    fits = at(result, Series("R²", "effective_k_r_squared", {"sigma": sigma}), AXIS)
    explained = [f"{number(m.value, 2)} at {place}" for place, m in fits.items() if m.value is not None]
    return f"effective k at σ = {short(sigma)} against {AXIS.words}: {told} (R² of the soft k-NN: {listed(explained)})"


def _ways(result: TheoryResult) -> str:
    """At which levels k rises with depth, where it falls, where neither is decided."""
    told: dict[str, list[str]] = {"rises": [], "falls": [], "is not decided": []}
    for m in sorted(result.find("effective_k_change"), key=lambda m: -float(m.params["sigma"])):
        way = verdict(m, "rises", "falls").partition(":")[0]
        told[way if way in told else "is not decided"].append(short(m.params["sigma"]))
    parts = [f"{way} at σ = {listed(levels)}" for way, levels in told.items() if levels]
    return (
        f"from the shallowest to the deepest it {'; '.join(parts)}. Each interval is for its own level."
        if parts
        else ""
    )


def _by_depth(result: TheoryResult, name: str, label: str = "", **params: Any) -> list[Series]:
    places = sorted({m.params["depth"] for m in result.find(name, denoiser="trained", **params)})
    return [
        Series(f"{label}{place} blocks", name, {"denoiser": "trained", "depth": place, **params}) for place in places
    ]


def _effective_k(result: TheoryResult) -> Section:
    lines = _by_depth(result, "effective_k")
    exact = Series("multi-delta", "effective_k", {"denoiser": "multi-delta", **_first(result)})
    fits = _by_depth(result, "effective_k_r_squared", "R², ")
    return Section(
        id="effective-k",
        title="Effective k",
        lead="How many training images a denoiser averages: exp(entropy) of the weights of the soft k-NN (P1 Eq. 2) "
        "that is nearest to it. The multi-delta denoiser is the soft k-NN at τ = 2σ². Where R² is low no soft k-NN is "
        "near, and k says little.",
        figures=over_sigma(
            result,
            [*lines, exact],
            name="effective-k",
            caption="Effective k over the noise level by depth, logarithmic on both axes.",
            y_label="training images averaged",
            log_y=True,
        ),
        tables=[
            sigma_table(
                result,
                [*lines, exact, *fits],
                key="effective_k",
                caption="Effective k of the trained models, and how well a soft k-NN explains them",
                note="At most, at least: every lower, every higher temperature fits as well.",
                beside=lambda m: f" {bound(m)}".rstrip(),
            )
        ],
    )


def _first(result: TheoryResult) -> dict[str, int]:
    """The exact denoisers are the same at every depth: those of the first are shown."""
    places = [m.params["depth"] for m in result.find("effective_k") if "depth" in m.params]
    return {"depth": min(places)} if places else {}


def _linearity(result: TheoryResult) -> Section:
    lines = _by_depth(result, "linearity", centred=False)
    affine = Series("Gaussian", "linearity", {"denoiser": "gaussian", "centred": False, **_first(result)})
    return Section(
        id="linearity",
        title="Linearity",
        lead=COSINE,
        figures=[
            *along(
                result,
                [LINEAR, CENTRED],
                AXIS,
                name="linearity-depth",
                caption=f"Linearity, {levels_words(result)}, against the number of down blocks.",
                y_label="cosine",
            ),
            *over_sigma(
                result,
                [*lines, affine],
                name="linearity-sigma",
                caption="Linearity over the noise level by depth.",
                y_label="cosine",
            ),
        ],
        tables=[
            axis_table(result, [LINEAR, CENTRED], AXIS, key="linearity", caption=f"Linearity, {levels_words(result)}"),
            sigma_table(result, [*lines, affine], key="linearity_sigma", caption="Linearity by depth"),
        ],
    )
