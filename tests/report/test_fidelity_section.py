"""The section on fidelity: a table per space, held-out images beside, FID named where it is FID."""

from leadline.records import Measurement
from leadline.report.fidelity import at_equal_n, fidelity_section, plots, title_of
from leadline.report.spaces import INCEPTION, LABELER
from leadline.report.views import open_views

RUN = "digits69, 2 blocks"


def test_only_the_canonical_inception_gives_fid_and_kid() -> None:
    assert title_of("frechet_distance", INCEPTION) == "Fréchet distance (FID)"
    assert title_of("kernel_distance", INCEPTION) == "Kernel distance (KID)"
    assert title_of("frechet_distance", LABELER) == "Fréchet distance"
    assert title_of("precision", INCEPTION) == "Precision"


def test_a_table_per_space_with_the_larger_set_thinned_too(make_run) -> None:
    found = fidelity_section(open_views([make_run(2, full=True)]))
    tables = {t.caption: t.to_json() for t in found.tables}
    assert list(tables) == ["Fidelity in labeler features", f"Fidelity in {INCEPTION}", "How to read them"]
    rows = tables["Fidelity in labeler features"]["rows"]
    assert [row[:4] for row in rows] == [
        [RUN, "generated", "1,000", "18.0 (16.2 to 19.8)"],
        [RUN, "generated, thinned", "250", "23.0"],
        [RUN, "held-out real", "250", "10.0 (9.0 to 11.0)"],
    ]
    assert rows[1][4:] == ["–", "–", "0.40", "–", "–"]
    assert "FID" not in str(tables["Fidelity in labeler features"])
    assert "FID" in str(tables[f"Fidelity in {INCEPTION}"])


def test_drawings_are_for_several_runs_and_at_equal_numbers(make_run) -> None:
    one = open_views([make_run(2, full=True)])
    assert fidelity_section(one).figures == []
    frechet, shares = plots(open_views([make_run(2, full=True), make_run(4, full=True)]))[:2]
    assert "generated: 2 blocks: 23; 4 blocks: 21. held-out real: 10.0." in frechet.alt
    assert "250 images of each set" in frechet.caption
    assert "recall: 2 blocks: 0.4000; 4 blocks: 0.4000" in shares.alt
    assert "Of held-out real images: precision 0.70, recall 0.50" in shares.caption


def test_a_number_that_could_not_be_had_at_equal_n_stays_as_it_was_measured() -> None:
    params = {"equal_n": 3, "value_at_equal_n": "not measurable: needs 6 images"}
    m = Measurement(name="recall", value=0.5, lower=0.4, upper=0.6, params=params)
    assert at_equal_n(m) is m
    thinned = at_equal_n(m.model_copy(update={"params": {"equal_n": 3, "value_at_equal_n": 0.25}}))
    assert (thinned.value, thinned.lower, thinned.upper, thinned.n) == (0.25, None, None, 3)


def test_without_numbers_the_reason_stands(make_run) -> None:
    missing = Measurement.not_measurable("precision", "give more images than k", params={"set": "samples"})
    found = fidelity_section(open_views([make_run(measurements=[missing])]))
    assert found.lead.startswith("Nothing to show.")
    assert found.caveats == [f"{RUN}: precision (generated) not measurable: give more images than k"]
