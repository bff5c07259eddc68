"""The experiments: members that fit together, debug twins in full on embedded digits, numbers put together."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leadline import experiment as running_recipes
from leadline.cli import main
from leadline.errors import LeadlineError
from leadline.lab.experiments import EXPERIMENTS, experiment, experiment_names, run_experiment
from leadline.lab.experiments.combining import averaged, change, merged
from leadline.lab.experiments.running import check_members, nested, on_shared_points
from leadline.lab.experiments.spec import Member, Subject
from leadline.lab.sources import LabModel, open_model
from leadline.lab.summaries import mean_of
from leadline.presets import preset
from leadline.recipe import recipe_from_json, with_overrides
from leadline.records import Measurement, TheoryResult
from leadline.report.lab import build_lab
from leadline.report.lab.experiments.depth import AXIS as DEPTH
from leadline.report.lab.experiments.shared import ends
from leadline.report.lab.lines import Series
from leadline.runs import Run, open_runs

GL = "generalization_score"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the debug twins share: structure takes growth's largest model."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def growth(root: Path) -> TheoryResult:
    return run_experiment(experiment("growth-debug"), root)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_members_differ_in_what_the_axis_says_alone(name: str) -> None:
    wanted = experiment(name)
    members = wanted.members()
    assert [member.value for member in members] == list(wanted.values)
    for member in members:
        # model_copy checks nothing: built again from JSON, every field is.
        assert recipe_from_json(member.recipe.model_dump(mode="json")) == member.recipe
    part, _, field = wanted.field.partition(".")
    contents = [m.recipe.model_dump(mode="json", exclude={"description"}) for m in members]
    for content in contents:
        content[part].pop(field)
    assert all(content == contents[0] for content in contents)
    assert wanted.description.endswith(".")


@pytest.mark.parametrize("name", [name for name in experiment_names() if name.endswith("-debug")])
def test_debug_twins_need_no_data_but_the_embedded_and_fit_together(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEADLINE_DATA", raising=False)
    wanted = experiment(name)
    members = wanted.members()
    assert all(m.recipe.train.steps <= 12 and m.recipe.data.dataset == "digits" for m in members)
    assert all(max(m.recipe.train.snapshots, default=0) <= m.recipe.train.steps for m in members)
    check_members(members)


def test_a_sweep_by_docs_results_serves_depth() -> None:
    """The training fingerprint that finished runs of docs/results.md, 16×16, have."""
    changes = ["data.image_size=16", "data.fit=resize", "train.steps=4000", "train.batch_size=64"]
    changes += ["train.learning_rate=1e-3", "train.warmup_steps=200"]
    swept = running_recipes.members(with_overrides(preset("mnist69"), changes), [2, 3, 4, 5], [0])
    own = experiment("depth").members()
    assert [m.recipe.training_fingerprint() for m in own] == [r.training_fingerprint() for r in swept]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"values": (10, 10)}, "^--values of growth: one number or more, each once, not \\[10, 10\\]"),
        ({"seeds": ()}, "^--seeds of growth"),
        ({"overrides": ("data.num_images=5",)}, "^--set data.num_images: .* say which by --values"),
        ({"overrides": ("train.seed=5",)}, "^--set train.seed: .* say which by --seeds"),
        ({"overrides": ("train.stepz=5",)}, "did you mean 'steps'"),
    ],
)
def test_what_cannot_be_one_experiment_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        replace(experiment("growth"), **changed).members()


def test_structure_is_about_one_model() -> None:
    with pytest.raises(LeadlineError, match=r"^structure is about one model"):
        replace(experiment("structure"), values=(10, 100)).members()


def test_overrides_apply_to_every_member() -> None:
    wanted = replace(experiment("capacity"), overrides=("train.steps=900",), seeds=(0, 3))
    members = wanted.members()
    assert {m.recipe.train.steps for m in members} == {900}
    assert [(m.value, m.seed) for m in members[:3]] == [(8, 0), (8, 3), (16, 0)]


def test_all_members_are_checked_before_the_first_is_trained(tmp_path: Path) -> None:
    wanted = replace(experiment("growth-debug"), values=(10, 5000))
    with pytest.raises(LeadlineError, match=r"lower --set data\.num_images"):
        run_experiment(replace(wanted, recipe=lambda n: of_digits(n)), tmp_path)
    assert open_runs(tmp_path) == []
    with pytest.raises(LeadlineError, match="--set data.held_out=256"):
        run_experiment(replace(wanted, values=(10,), overrides=("data.held_out=0",)), tmp_path)


def of_digits(num_images: int) -> Any:
    return with_overrides(experiment("growth-debug").recipe(10), [f"data.num_images={num_images}"])


def test_growth_measures_every_model_at_the_same_held_out_images(growth: TheoryResult) -> None:
    for n in (10, 80):
        for which in ("samples", "held-out"):
            (score,) = growth.find(GL, num_train=n, set=which, squared=False)
            assert score.value is not None
            assert score.lower is not None
        for denoiser in ("trained", "gaussian", "multi-delta"):
            levels = growth.find("linearity", num_train=n, denoiser=denoiser, centred=False)
            assert [m.params.get("sigma") for m in levels] == [1.0, 0.1, None]
            assert levels[-1].value == pytest.approx(np.mean([m.value for m in levels[:-1]]))
        assert len(growth.find("nearest_copy_rate", num_train=n)) == 2
    held_out = [m.n for m in growth.find(GL, set="held-out")]
    # Those of the larger model: the smaller one's own are in the larger one's training set.
    assert held_out == [12] * 4
    assert growth.settings["nested"] is True
    (rise,) = growth.find(f"{GL}_change")
    (first, last) = (growth.find(GL, num_train=n, set="samples", squared=False)[0].value for n in (10, 80))
    assert first is not None
    assert last is not None
    assert rise.value == pytest.approx(last - first)


def test_what_is_finished_is_not_done_again(growth: TheoryResult, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr("leadline.lab.experiments.running.run", never)
    monkeypatch.setattr("leadline.theory.linearity.linearity", never)
    monkeypatch.setattr("leadline.sampling.sample", never)
    again = run_experiment(experiment("growth-debug"), root)
    assert again.measurements == growth.measurements


def test_the_page_of_growth(growth: TheoryResult, root: Path) -> None:
    page = build_lab(growth, root / "page-growth")
    said = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert "one training run per point: another seed may move it" in said["headlines"][0]["headline"]
    text = page.read_text(encoding="utf-8")
    assert "nearest training image" in text
    assert "Every training set is a part of the next larger one." in text
    assert (page.parent / "figures" / "samples.png").exists()
    assert len(list((page.parent / "figures").glob("*.svg"))) == 4


def test_structure_takes_the_model_that_growth_trained(growth: TheoryResult, root: Path) -> None:
    known = {run.folder for run in open_runs(root)}
    found = run_experiment(experiment("structure-debug"), root)
    assert {run.folder for run in open_runs(root)} == known
    assert len(found.find("score_difference", first="linear", second="gaussian")) == 2
    said = json.loads(build_lab(found, root / "page-structure").with_suffix(".json").read_text(encoding="utf-8"))
    assert "80 images" in said["headlines"][0]["run"]
    assert "One training run: another seed may move it." in said["headlines"][0]["headline"]
    assert growth.kind != found.kind


def test_capacity_follows_width_and_training_step(root: Path) -> None:
    found = run_experiment(experiment("capacity-debug"), root)
    at = [(m.params["channels"], m.params["step"]) for m in found.find(GL, set="samples", squared=False)]
    assert at == [(8, 12), (16, 4), (16, 12)]
    # Early models are others than the last: their distances differ.
    distances = [
        m.value
        for m in found.find("score_difference", first="trained", second="gaussian", num_sigmas=2)
        if m.params["channels"] == 16
    ]
    assert len(set(distances)) == 2
    changes = found.find("score_difference_change", first="trained", second="gaussian")
    assert [(m.params["along"], m.params["from"], m.params["to"]) for m in changes] == [
        ("channels", 8, 16),
        ("step", 4, 12),
    ]
    page = build_lab(found, root / "page-capacity")
    said = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert [h["run"] for h in said["headlines"]] == ["Width", "Early stopping"]


def test_depth_on_runs_that_are_given(root: Path) -> None:
    trained = run_experiment(experiment("depth-debug"), root)
    blocks = [m.params["depth"] for m in trained.find("effective_k", denoiser="trained", sigma=1.0)]
    assert blocks == [2, 3]
    assert trained.find("depth_factor")
    runs = [run.folder for run in open_runs(root) if run.header.recipe and run.header.recipe["name"] == "mnist69-debug"]
    given = run_experiment(experiment("depth-debug"), root, runs=runs)
    assert given.measurements == trained.measurements
    page = build_lab(trained, root / "page-depth")
    said = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert said["headlines"][0]["headline"].startswith("Depth: effective k at σ = 1 against down blocks: ")


def test_runs_that_are_no_one_experiment_are_refused(growth: TheoryResult, root: Path, tmp_path: Path) -> None:
    wanted = experiment("growth-debug")
    folders = [root / str(facts["run"]) for facts in growth.settings["members"].values()]
    with pytest.raises(LeadlineError, match="--runs gives a training twice"):
        run_experiment(wanted, tmp_path, runs=[folders[0], folders[0]])
    with pytest.raises(LeadlineError, match="differ in more than the training seed"):
        # Both have two blocks: on the axis of depth they stand at one place, with other training sets.
        run_experiment(experiment("depth-debug"), tmp_path, runs=folders)


def test_shared_points_leave_out_what_any_model_has_seen(growth: TheoryResult, root: Path) -> None:
    runs = [root / str(facts["run"]) for facts in growth.settings["members"].values()]
    subjects = [subject(open_model(folder), folder) for folder in runs]
    shared = on_shared_points(list(reversed(subjects)))
    assert [s.member.value for s in shared] == [10, 80]
    seen = {name for s in subjects for name in s.model.splits.train.ids}
    for one in shared:
        assert one.model.splits.held_out is not None
        assert not seen & set(one.model.splits.held_out.ids)
    assert nested(subjects)
    small, large = (s.model for s in subjects)
    other = replace(large, splits=replace(large.splits, train=replace(large.splits.train, name="mnist train")))
    with pytest.raises(LeadlineError, match="at the same images"):
        on_shared_points([subjects[0], subject(other, runs[1])])
    assert small.splits.held_out is not None
    seen_all = replace(large, splits=replace(large.splits, held_out=small.splits.train))
    with pytest.raises(LeadlineError, match="fewer than two held-out images"):
        on_shared_points([subjects[0], subject(seen_all, runs[1])])


def subject(model: LabModel, folder: Path) -> Subject:
    recipe = Run.open(folder).recipe
    assert recipe is not None
    return Subject(member=Member(value=len(model.splits.train), recipe=recipe), model=model, folder=folder)


def test_of_one_run_the_number_stays_of_several_it_is_their_mean() -> None:
    pair = np.array([1.0, 3.0])
    values = [mean_of("score", pair * (seed + 1), sigma=1.0, model=f"{seed}") for seed in range(3)]
    (alone,) = merged(values[:1])
    assert (alone.value, alone.lower, alone.params) == (2.0, values[0].lower, {"sigma": 1.0})
    (mean,) = merged(values)
    # Student over 2, 4, 6: 4 ± 4.303 · 2 / √3.
    assert mean.value == 4.0
    assert mean.lower == pytest.approx(4 - 4.302653 * 2 / math.sqrt(3), abs=1e-5)
    assert (mean.n, mean.method, mean.params) == (3, "Student t over training runs", {"sigma": 1.0})
    missing = Measurement.not_measurable("score", "why", params={"sigma": 1.0, "model": "9"})
    (absent,) = merged([values[0], missing])
    assert absent.reason == "why"


def test_a_mean_over_runs_of_which_one_is_a_bound_is_a_bound() -> None:
    free = mean_of("effective_k", np.array([1.0, 2.0]), model="a")
    bound = mean_of("effective_k", np.array([1.0, 2.0]), model="b", bound="at least")
    (found,) = merged([free, bound])
    assert (found.value, found.params) == (1.5, {"bound": "at least"})
    assert (found.lower, found.level, found.method) == (None, None, None)
    other = mean_of("effective_k", np.array([1.0, 2.0]), model="c", bound="at most")
    (neither,) = merged([free, bound, other])
    assert (neither.value, neither.params) == (None, {})
    assert neither.reason is not None
    assert neither.reason.startswith("one training run gives a bound from below, another one from above")


@pytest.mark.parametrize("bounded", [{2: "at most"}, {3: "at least"}, {2: "at most", 3: "at least"}])
def test_an_end_that_is_a_bound_decides_nothing(bounded: dict[int, str]) -> None:
    params = [{"depth": place, "denoiser": "trained", "sigma": 1.0} for place in (2, 3)]
    params = [{**one, "bound": bounded[one["depth"]]} if one["depth"] in bounded else one for one in params]
    values = (np.array([4.0, 5.0, 6.0]), np.array([44.0, 45.0, 46.0]))
    found = [mean_of("effective_k", each, **one) for each, one in zip(values, params, strict=True)]
    changed = change(found, "depth")
    assert changed is not None
    assert changed.value is None
    assert changed.reason is not None
    words = ends(TheoryResult(tuple(found)), Series("k", "effective_k", {"sigma": 1.0}), DEPTH, [changed])
    assert re.sub(r" \(95.*?\)", "", words).partition(": ")[0] == ", ".join(
        f"{bounded.get(place, '')} {value} at {place}".strip() for place, value in ((2, "5.0"), (3, "45.0"))
    )
    assert f": not decided: the end{'s are bounds' if len(bounded) > 1 else ' is a bound'} (" in words
    for place, side in bounded.items():
        assert f"{side} {5 if place == 2 else 45} at {place}" in changed.reason


def test_averaged_is_never_too_narrow_and_leaves_out_levels_that_one_model_lacks() -> None:
    stream = np.random.Generator(np.random.PCG64(0))
    shared = stream.normal(size=64)
    rows = {sigma: shared + stream.normal(size=64) for sigma in (1.0, 2.0, 3.0)}
    found = [mean_of("score", row, sigma=sigma, num_train=10) for sigma, row in rows.items()]
    found += [mean_of("score", row, sigma=sigma, num_train=20) for sigma, row in rows.items() if sigma < 3]
    found.append(Measurement.not_measurable("score", "outside", params={"sigma": 3.0, "num_train": 20}))
    first, second = averaged(found)
    assert (first.params, second.params) == ({"num_train": 10, "num_sigmas": 2}, {"num_train": 20, "num_sigmas": 2})
    exact = mean_of("score", (rows[1.0] + rows[2.0]) / 2)
    assert first.value == pytest.approx(exact.value)
    assert first.lower is not None
    assert exact.lower is not None
    assert first.lower <= exact.lower


def test_a_change_has_the_interval_of_zou_and_donner() -> None:
    """Two means with equal standard errors s: the half-width is √2 times theirs; ends that are not symmetric count as
    they are."""

    def at(place: int, value: float, lower: float, upper: float) -> Measurement:
        params = {"num_train": place, "set": "samples"}
        return Measurement(name="score", value=value, lower=lower, upper=upper, level=0.95, method="m", params=params)

    found = change([at(100, 5, 4, 6), at(10, 2, 1, 3)], "num_train")
    assert found is not None
    assert (found.name, found.value) == ("score_change", 3.0)
    assert found.lower == pytest.approx(3 - math.sqrt(2))
    assert found.upper == pytest.approx(3 + math.sqrt(2))
    assert found.params == {"set": "samples", "from": 10, "to": 100}
    skew = change([at(10, 2, 1.9, 6), at(100, 5, 2, 5.1)], "num_train")
    assert skew is not None
    assert skew.lower == pytest.approx(3 - math.hypot(3, 4))
    assert skew.upper == pytest.approx(3 + math.hypot(0.1, 0.1))
    assert change([at(10, 2, 1, 3)], "num_train") is None


def test_the_command_lists_and_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["theory", "ls"])
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == experiment_names()
    for arguments, message in (
        (["growht"], "unknown experiment 'growht': did you mean 'growth'"),
        (["growth", "--runs", "a", "--values", "10"], "--values and --runs"),
        (["growth", "--values", "ten"], "--values takes numbers separated by commas"),
    ):
        with pytest.raises(SystemExit) as end:
            run_command(["theory", "run", *arguments], catch=False)
        assert end.value.code == 2
        assert message in capsys.readouterr().err


def run_command(arguments: Sequence[str], *, catch: bool = True) -> None:
    try:
        main(list(arguments))
    except SystemExit as end:
        if not catch or end.code:
            raise


def test_the_command_runs_and_prints_the_page(
    growth: TheoryResult, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_command(["theory", "run", "growth-debug", "--out", str(root)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Growth: generalization score of samples against training images: ")
    assert Path(lines[-1]) == root / "theory-growth-debug" / "report.html"
    assert Path(lines[-1]).exists()
