"""The page of `leadline theory smoothness`: P1's Lemma 1 and Theorem 1, each norm with the way that it goes."""

from collections.abc import Mapping, Sequence

from leadline.records import TheoryResult
from leadline.report.content import Cell, Finding, Section, TableView
from leadline.report.lab.lines import central, of, reasons
from leadline.report.lab.page import PAGES, LabPage
from leadline.report.lab.smoothness_sections import COLUMNS, JACOBIAN, LATENT, energy, latent, lemma, of_all
from leadline.report.words import counted, listed, measurement_text, plain, short, table_cell

LEMMA, IN_X, IN_Z = "Lemma 1", "Energy in x", "Energy in z"
WORDS = {
    "jacobian_norm": "the norm ‖∂z/∂x‖",
    "jacobian_norm_per_value": "the norm per value",
    "jacobian_gain": "the gain",
    "relative_jacobian_gain": "the relative gain",
    "scaled_hessian_norm": "σ²‖H‖",
    "latent_gradient_norm": "the slope",
    "latent_hessian_norm": "the curvature",
    "relative_latent_gradient_norm": "the relative slope",
    "relative_latent_hessian_norm": "the relative curvature",
}
VERBS = {"not decided": "is not decided", "not measurable": "is not measurable"}
"""Columns of the table of directions, as they stand after a noun; the others are verbs."""
BY_BLOCK, BY_DEPTH = "from block to block", "from the shallowest to the deepest"
CLAIMS = {
    LEMMA: "2505.17560, Lemma 1, says that ‖∂z/∂x‖ falls from level to level of the encoder.",
    IN_Z: "2505.17560, Theorem 1, says that E's curvature falls from level to level; its proof takes the inverse of a "
    "contraction for one, and an encoder that loses dimensions has no inverse.",
}


@PAGES.register("smoothness")
def page(result: TheoryResult) -> LabPage:
    """The three answers, the counts behind them, Jacobians by block, the energy in x over sigma and in z by block."""
    settings = result.settings
    points = listed(dict.fromkeys(settings["points"].values()))
    return LabPage(
        title=f"Smoothness: {listed(settings['models'])}",
        findings=[_lemma_answer(result), _energy_answer(result), _latent_answer(result)],
        caveats=_caveats(result),
        facts=[
            counted(len(settings["sigmas"]), "noise level"),
            f"up to {counted(settings['num_images'], 'noisy image')} ({points})",
        ],
        sections=[_directions(result), lemma(result), energy(result), latent(result)],
    )


def _ways(result: TheoryResult, name: str, over: str) -> dict[str, int]:
    """How often a measure falls, grows, is not decided or not measurable, and of how many."""
    [table] = [table for table in result.tables if table.name == "directions"]
    for row in table.rows:
        if row[:2] == (name, over):
            return {column: int(count or 0) for column, count in zip(table.columns[2:], row[2:], strict=True)}
    return {}


def _told(ways: Mapping[str, int]) -> str:
    words = [f"{VERBS.get(name, name)} in {count}" for name, count in ways.items() if name != "of" and count]
    return f"{listed(words)} of {ways['of']}"


def _lemma_answer(result: TheoryResult) -> Finding:
    steps = _ways(result, JACOBIAN[0], BY_BLOCK)
    if not steps:
        first = reasons(result.find(JACOBIAN[0]))
        return Finding(run=LEMMA, headline=plain(" ".join(first) or "a single block has no next one."), sentences=())
    headline = f"{WORDS[JACOBIAN[0]]} {_told(steps)} steps {BY_BLOCK}, models and noise levels together."
    sentences = [
        ("Size and scale of z undone", f"{'; '.join(_each(result, JACOBIAN[1:], BY_BLOCK))}."),
        ("After the last block, by depth", _by_depth(result, JACOBIAN)),
        ("The paper", CLAIMS[LEMMA]),
    ]
    return Finding(run=LEMMA, headline=plain(headline), sentences=_said(sentences))


def _each(result: TheoryResult, names: Sequence[str], over: str) -> list[str]:
    found = {name: _ways(result, name, over) for name in names}
    return [f"{WORDS[name]} {_told(ways)}" for name, ways in found.items() if ways]


def _by_depth(result: TheoryResult, names: Sequence[str]) -> str:
    each = _each(result, names, BY_DEPTH)
    return f"{_ends(result)}: {'; '.join(each)} noise levels. {_runs(result)}" if each else ""


def _ends(result: TheoryResult) -> str:
    """Which depths are compared."""
    params = result.find("depth_factor")[0].params
    return f"From {params['from depth']} to {params['to depth']} blocks"


def _runs(result: TheoryResult) -> str:
    depths = list(result.settings["blocks"].values())
    alone = max(depths.count(depth) for depth in (min(depths), max(depths))) == 1
    return (
        "One training run per depth: another training may go the other way."
        if alone
        else "The intervals are over images and say nothing of another training."
    )


def _said(sentences: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((label, plain(words)) for label, words in sentences if words)


def _energy_answer(result: TheoryResult) -> Finding:
    name = "scaled_hessian_norm"
    over_depth = _ways(result, name, BY_DEPTH)
    sigma = next((found for series in of_all(result, name) if (found := central(of(result, series)))), None)
    if sigma is None:
        return Finding(run=IN_X, headline=plain(" ".join(reasons(result.find(name)))), sentences=())
    seen = f"at σ = {short(sigma)} σ²‖H‖ is {_values(result, name, sigma)}."
    headline = f"{_ends(result).lower()} σ²‖H‖ {_told(over_depth)} noise levels." if over_depth else seen
    bounds = _values(result, "scaled_gradient_lipschitz", sigma)
    asymmetry = _values(result, "jacobian_asymmetry", sigma, exact=False)
    sentences = [
        ("Values", f"{seen[0].upper()}{seen[1:]}" if over_depth else ""),
        ("Gradient's Lipschitz constant", f"Times σ² it is at least {bounds} there." if bounds else ""),
        ("Trainings", _runs(result) if over_depth else ""),
        ("Asymmetry", f"‖J − Jᵀ‖/‖J + Jᵀ‖ of ∂D/∂x is {asymmetry} there." if asymmetry else ""),
    ]
    return Finding(run=IN_X, headline=plain(headline), sentences=_said(sentences))


def _values(result: TheoryResult, name: str, sigma: float, *, exact: bool = True) -> str:
    """What is known of each model, and of each exact denoiser, at one noise level."""
    found = {series.label: of(result, series).get(sigma) for series in of_all(result, name, exact=exact)}
    told = [f"{measurement_text(m)} for {label}" for label, m in found.items() if m is not None and m.value is not None]
    return "; ".join(told)


def _latent_answer(result: TheoryResult) -> Finding:
    steps = _ways(result, "latent_hessian_norm", BY_BLOCK)
    if not steps:
        return Finding(run=IN_Z, headline=plain(" ".join(reasons(result.find("latent_hessian_norm")))), sentences=())
    headline = f"{WORDS['latent_hessian_norm']} {_told(steps)} steps {BY_BLOCK}, models and noise levels together."
    others = [name for name in LATENT if name != "latent_hessian_norm"]
    sentences = [("Others", f"{'; '.join(_each(result, others, BY_BLOCK))}."), ("The paper", CLAIMS[IN_Z])]
    return Finding(run=IN_Z, headline=plain(headline), sentences=_said(sentences))


def _caveats(result: TheoryResult) -> list[str]:
    told = []
    missed = sum(
        m.params.get("not converged", 0) for name in (JACOBIAN[0], "scaled_hessian_norm") for m in result.find(name)
    )
    if missed:
        told.append(
            f"{counted(missed, 'eigenvalue')} did not reach the wanted residual: they are lower bounds further from "
            "their values than the rest."
        )
    if "training" in result.settings["points"].values():
        told.append(
            "Nothing was held out: noise was added to training images, where a model may be smoother or rougher."
        )
    return told


def _directions(result: TheoryResult) -> Section:
    [table] = [table for table in result.tables if table.name == "directions"]
    rows = [(Cell(text=COLUMNS[str(row[0])]), *(table_cell(value) for value in row[1:])) for row in table.rows]
    view = TableView(
        key="directions", caption=table.title, columns=table.columns, rows=tuple(rows), note=table.note, style="dense"
    )
    lead = (
        "A factor compares the same noisy images before and after; it falls where its interval lies below 1 and grows "
        "where it lies above."
    )
    return Section(id="directions", title="Which way", lead=lead, tables=[view] if rows else [])
