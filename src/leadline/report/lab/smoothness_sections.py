"""The sections of the page of `leadline theory smoothness`: figures by block and noise level, tables of all values."""

from collections.abc import Callable, Mapping, Sequence

from leadline.records import Measurement, TheoryResult
from leadline.report.content import Cell, Figure, Plot, Section, TableView
from leadline.report.drawings import point
from leadline.report.lab.lines import Series, central, over_sigma, reasons, sigma_table
from leadline.report.plots import Line, draw
from leadline.report.words import brief_cell, interval_note, number, percent, plain, short

COLUMNS = {
    "jacobian_norm": "‖J‖₂",
    "jacobian_norm_per_value": "‖J‖₂ √(d/m)",
    "jacobian_gain": "gain",
    "relative_jacobian_gain": "relative gain",
    "scaled_hessian_norm": "σ²‖H‖₂",
    "latent_gradient_norm": "slope",
    "latent_hessian_norm": "curvature",
    "relative_latent_gradient_norm": "relative slope",
    "relative_latent_hessian_norm": "relative curvature",
}
JACOBIAN, LATENT = list(COLUMNS)[:4], list(COLUMNS)[5:]
MOST_LEVELS = 3
"""Noise levels with a figure of their own."""


def of_all(result: TheoryResult, name: str, *, exact: bool = True) -> list[Series]:
    """A series per model, and per exact denoiser."""
    names = [*result.settings["models"], *(result.settings["references"] if exact else ())]
    return [Series(label, name, {"model": label}) for label in names]


def _levels(result: TheoryResult, name: str) -> list[float]:
    """The noise levels with a figure: the highest, the central and the lowest of those with values."""
    known = sorted({float(m.params["sigma"]) for m in result.find(name) if m.value is not None}, reverse=True)
    middle = central({s: m for s in known for m in result.find(name, sigma=s) if m.value is not None})
    return [s for s in known if s in (known[0], middle, known[-1])][:MOST_LEVELS]


def _by_block(result: TheoryResult, name: str, sigma: float, caption: str, y_label: str, *, first: int) -> list[Plot]:
    """The measure after each block at one noise level, a line per model."""
    lines, told = [], []
    for style, model in enumerate(result.settings["models"]):
        found = result.find(name, model=model, sigma=sigma)
        points = tuple(p for m in found if "block" in m.params and (p := point(m.params["block"], m)) is not None)
        if points:
            lines.append(Line(label=model, points=points, style=style))
            told.append(f"{model}: {', '.join(f'{number(p.y)} at block {p.x}' for p in points)}")
    if not lines:
        return []
    return [
        draw(
            lines,
            name=f"{name.replace('_', '-')}-{short(sigma).replace('.', '-').replace(',', '')}",
            alt=f"{caption} {'. '.join(told)}.",
            caption=caption,
            x_label="after down block" if first else "after down block (0: the image itself)",
            y_label=y_label,
            log_y=True,
        )
    ]


def lemma(result: TheoryResult) -> Section:
    """Norms of the encoder's Jacobian by block, and their factors."""
    figures: list[Figure] = []
    for name, words in ((JACOBIAN[0], "‖∂z/∂x‖₂"), (JACOBIAN[3], "relative gain of the encoder")):
        for sigma in _levels(result, name):
            caption = f"{words} after each down block at σ = {short(sigma)}. Bars: intervals over images."
            figures += _by_block(result, name, sigma, caption, words, first=1)
    lead = (
        "z is what a down block hands on, x the noisy image as the denoiser takes it. ‖J‖₂ compares lengths of vectors "
        "of different sizes m and d, and the scale of z is the network's own affair (the next layer normalises it). "
        "The gain, ‖J‖/√m with the Frobenius norm, is a root mean square change per value over all directions; the "
        "relative gain undoes the scales of x and z too. ‖J‖₂ comes from below, the gain has the noise of its probes."
    )
    tables = [_block_table(result, JACOBIAN, "jacobians", "Norms of the encoder's Jacobian, means over images")]
    tables += _factor_table(result, JACOBIAN, "jacobian_factors")
    return _section(result, "lemma", "Lemma 1: Jacobians of the encoder", lead, figures, tables, JACOBIAN[0])


def _section(
    result: TheoryResult,
    key: str,
    title: str,
    lead: str,
    figures: Sequence[Figure],
    tables: Sequence[TableView],
    of_name: str,
) -> Section:
    missing = [plain(text) for text in reasons(result.find(of_name))]
    return Section(
        id=key, title=title, lead=lead, figures=figures, tables=[t for t in tables if t.rows], caveats=missing
    )


def _table(
    found: Sequence[Measurement], names: Sequence[str], heads: Mapping[str, Callable[[Measurement], str]], which: str
) -> tuple[tuple[Cell, ...], ...]:
    """A row for all measurements with the same heads, a column per name, told apart by `which`."""
    rows: dict[tuple[str, ...], dict[str, Measurement]] = {}
    for m in found:
        key = tuple(head(m) for head in heads.values())
        rows.setdefault(key, {})[m.name if which == "name" else str(m.params[which])] = m
    return tuple(
        (*(Cell(text=plain(text)) for text in key), *(brief_cell(row.get(name)) for name in names))
        for key, row in rows.items()
    )


def _block_table(result: TheoryResult, names: Sequence[str], key: str, caption: str) -> TableView:
    found = [m for name in names for m in result.find(name) if "block" in m.params]
    heads: dict[str, Callable[[Measurement], str]] = {
        "Model": lambda m: str(m.params["model"]),
        "σ": lambda m: short(m.params["sigma"]),
        "Block": lambda m: str(m.params["block"]),
        "Values of z": lambda m: number(m.params["size"]),
    }
    if names == LATENT:
        heads["Rank"] = lambda m: short(m.params["rank"])
    found.sort(key=lambda m: (list(result.settings["models"]).index(m.params["model"]), -m.params["sigma"]))
    return TableView(
        key=key,
        caption=caption,
        columns=(*heads, *(COLUMNS[name] for name in names)),
        rows=_table(found, names, heads, "name"),
        note=interval_note(found),
        style="dense",
    )


def _factor_table(result: TheoryResult, names: Sequence[str], key: str) -> list[TableView]:
    """Factors from block to block, and from depth to depth, of these measures."""
    views = []
    for factor, ends, title in (
        ("block_factor", "block", "Factors from block to block"),
        ("depth_factor", "depth", "Factors from depth to depth, after the last block where a measure has blocks"),
    ):
        found = [m for m in result.find(factor) if m.params["of"] in names]
        heads: dict[str, Callable[[Measurement], str]] = {
            "Model": lambda m: str(m.params.get("model", "all")),
            "σ": lambda m: short(m.params["sigma"]),
            "From, to": lambda m, ends=ends: f"{m.params[f'from {ends}']} → {m.params[f'to {ends}']}",  # type: ignore[misc]
        }
        rows = _table(found, names, heads, "of")
        columns = (*heads, *(COLUMNS[name] for name in names))
        note = f"{interval_note(found)} Below 1: falls."
        views.append(
            TableView(key=f"{key}_{ends}", caption=title, columns=columns, rows=rows, note=note, style="dense")
        )
    return views


def energy(result: TheoryResult) -> Section:
    """Curvature, steepness and asymmetry in x over the noise level, the exact denoisers beside the models."""
    curve, bound = "scaled_hessian_norm", "scaled_gradient_lipschitz"
    figures: list[Figure] = [
        *over_sigma(
            result,
            of_all(result, curve),
            name="hessian",
            caption="σ²‖H‖₂, mean over images with its interval, against the noise level.",
            y_label="σ²‖H‖₂",
            log_y=True,
        ),
        *over_sigma(
            result,
            of_all(result, bound),
            name="lipschitz",
            caption="σ² times the Lipschitz constant of ∇E, a lower bound: the largest found over images, pairs of "
            "them and segments between them.",
            y_label="σ² · Lipschitz constant, at least",
            log_y=True,
        ),
    ]
    titles = {
        curve: ("σ²‖H‖₂", "After a value: the largest over the images.", _largest),
        "lowest_scaled_curvature": ("Lowest eigenvalue of σ²H", "Below 0: curved downwards in some direction.", None),
        bound: ("Lower bound of σ² · Lipschitz constant of ∇E", "More points or pairs can only raise it.", None),
        "jacobian_asymmetry": (
            "Asymmetry ‖J − Jᵀ‖ / ‖J + Jᵀ‖ (Frobenius) of J = ∂D/∂x",
            "0: the score is the gradient of an energy; else H is that of the field's symmetric part.",
            None,
        ),
    }
    tables = [
        sigma_table(result, of_all(result, name), key=name, caption=caption, note=note, beside=beside)
        for name, (caption, note, beside) in titles.items()
    ]
    tables += _factor_table(result, [curve], "hessian_factors")
    lead = (
        "E = −log p in the denoiser's own reading: ∇E = (x − D)/σ², H = (I − (J + Jᵀ)/2)/σ² with J = ∂D/∂x. Times σ² "
        "it is a number without unit: 1 is the curvature of the noise alone. Eigenvalues are found from within the "
        f"spectrum, to a residual of {percent(result.settings['tolerance'])} of the largest, and a largest value over "
        "the images tried is a lower bound of the largest over all."
    )
    return _section(result, "energy", "Theorem 1 in x: curvature of the energy", lead, figures, tables, curve)


def _largest(m: Measurement) -> str:
    return f", largest {number(m.params['largest'])}" if m.value is not None else ""


def latent(result: TheoryResult) -> Section:
    """Slope and curvature of the energy in z by block, and their factors."""
    figures: list[Figure] = []
    for name, words in (("latent_hessian_norm", "curvature in z"), (LATENT[3], "relative curvature in z")):
        for sigma in _levels(result, name)[1:2] or _levels(result, name)[:1]:
            caption = f"{words.capitalize()} after each down block at σ = {short(sigma)}. Bars: intervals over images."
            figures += _by_block(result, name, sigma, caption, words, first=0)
    tolerance = short(result.settings["rank_tolerance"])
    lead = (
        "E as a function of z, with the pseudo-inverse J⁺ of the encoder's Jacobian as the inverse: slope ‖(J⁺)ᵀ∇E‖, "
        "curvature ‖(J⁺)ᵀHJ⁺‖₂, the first of the chain rule's two terms; the second, with the inverse's own curvature, "
        f"is left out. Directions with a singular value below {tolerance} of the largest are left out too: the rank is "
        "how many remain, and the smallest of them rules J⁺. Relative: with the scale of z undone."
    )
    tables = [_block_table(result, LATENT, "latent", "The energy in z, means over images; block 0: the image itself")]
    tables += _factor_table(result, LATENT, "latent_factors")
    return _section(result, "latent", "Theorem 1 in z", lead, figures, tables, "latent_hessian_norm")
