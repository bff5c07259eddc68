"""A sweep over settings of the bypass, whole: settings, resuming, paired tests, choice and confirmation."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

from leadline import stages, steer_sweep
from leadline.cli import main
from leadline.errors import LeadlineError
from leadline.experiment import audit_run, run
from leadline.frontier import Choice, Setting
from leadline.presets import preset
from leadline.recipe import Recipe, SteerSpec, with_overrides
from leadline.report import build
from leadline.runs import Run, open_sweep, save_sweep
from leadline.steer_sweep import Swept, members

TINY = ["train.steps=4", "train.batch_size=4", "sample.num_images=24", "sample.steps=3", "sample.batch_size=24",
        "audit.labeler_epochs=1", "audit.num_panels=2", "audit.ks=1,2"]  # fmt: skip
PROMPTED = ["audit.metrics=prompted"]
WINDOW = "window(sigma_max=200, sigma_min=0.5)"


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return with_overrides(preset("digits69-debug"), TINY)


@pytest.fixture(scope="module")
def base(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(recipe, tmp_path_factory.mktemp("runs"))


def second(settings: Any, wanted: Choice) -> Choice:
    """The setting after strength 0, whatever its value: a model without training may be best left alone."""
    return wanted.model_copy(update={"index": 1, "space": "labeler features"})


@pytest.fixture(scope="module")
def swept(base: Run) -> Swept:
    """Two settings, and the first of them confirmed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steer_sweep, "choose", second)
        return sweep(base.folder, confirm_seed=1)


def sweep(folder: Path, strengths: tuple[float, ...] = (0.5,), **options: Any) -> Swept:
    return steer_sweep.steer_sweep(folder, strengths, schedules=["1", WINDOW], **options)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often images were drawn and audited, and settings tested; training is forbidden."""
    calls = {"draw": 0, "measure": 0, "paired_audit": 0}

    def counting(owner: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def call(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return original(*args, **options)

        monkeypatch.setattr(owner, name, call)

    for owner, name in ((stages, "draw"), (stages, "measure"), (steer_sweep, "paired_audit")):
        counting(owner, name)
    monkeypatch.setattr(stages, "train", None)
    return calls


def test_settings_are_all_combinations_and_strength_0_once(recipe: Recipe) -> None:
    found = members(recipe, [1.0, 0.5, 0.5, 0.0], ["constant(1)", WINDOW, WINDOW.replace("200", "200.0")], ["blend"])
    assert [r.sample.steer.words for r in found] == [
        "",
        "bypass 0.5 (constant, blend)",
        "bypass 1 (constant, blend)",
        "bypass 0.5 (window(1, sigma_max=200, sigma_min=0.5), blend)",
        "bypass 1 (window(1, sigma_max=200, sigma_min=0.5), blend)",
    ]
    assert found[0] == recipe
    assert len({r.folder_name() for r in found}) == 5
    assert {r.training_fingerprint() for r in found} == {recipe.training_fingerprint()}
    modes = members(recipe, [0.5], modes=["elements", "channels"])
    assert [r.sample.steer for r in modes[1:]] == [
        SteerSpec(strength=0.5, mode="elements"),
        SteerSpec(strength=0.5, mode="channels"),
    ]


def test_the_run_itself_is_strength_0_and_the_model_is_not_copied(swept: Swept, base: Run) -> None:
    assert swept.runs[0].folder == base.folder
    assert [s.steer.strength for s in swept.sweep.settings] == [0.0, 0.5, 0.5]
    weights = [r.model_folder / "unet" / "diffusion_pytorch_model.safetensors" for r in swept.runs]
    assert len({file.stat().st_ino for file in weights}) == 1
    assert {r.header.model["trained_in"] for r in swept.runs[1:]} <= {r.folder.name for r in swept.runs}
    assert swept.runs[1].title == "digits69-debug, 2 blocks, bypass 0.5 (constant, blend)"
    assert all(Run.open(r.folder).recipe == r.recipe for r in swept.runs)


def test_the_tests_compare_what_the_audits_measured(swept: Swept) -> None:
    names = set()
    for setting in swept.sweep.others:
        for tested in setting.tests:
            d = tested.difference
            if d.value is None:
                continue
            names.add(d.params["of"])
            before, now = swept.sweep.zero.value(d), setting.value(d)
            assert before is not None
            assert now is not None
            assert (before.value, now.value) == pytest.approx((d.params["base"], d.params["other"]), rel=1e-6, abs=1e-9)
    assert names >= {"share", "nearest_distance", "frechet_distance", "kernel_distance", "mean_pairwise_distance"}


def test_holm_goes_over_the_settings_of_each_measurement(swept: Swept) -> None:
    checked = 0
    for name in swept.sweep.families:
        tests = [tested for _, tested in swept.sweep.tests(name) if tested.p is not None]
        if not tests:
            continue
        assert len(tests) == 2
        first, last = sorted(tests, key=lambda tested: tested.p or 0.0)
        smaller = min(1.0, 2 * (first.p or 0.0))
        assert [first.p_holm, last.p_holm] == pytest.approx([smaller, max(smaller, last.p or 0.0)])
        assert [t.differs for t in tests] == [t.p_holm is not None and t.p_holm < 0.05 for t in tests]
        checked += 1
    assert checked > 10


def test_the_choice_is_confirmed_on_fresh_images_by_one_test(swept: Swept) -> None:
    (confirmation,) = swept.sweep.confirmations
    chosen = swept.sweep.chosen
    assert chosen is not None
    assert confirmation.seed == 1
    assert confirmation.chosen.steer == chosen.steer
    assert confirmation.zero.values != swept.sweep.zero.values
    assert {t.p_holm for t in confirmation.chosen.tests} == {None}
    for tested in confirmation.chosen.tests:
        before = confirmation.zero.value(tested.difference)
        if tested.difference.value is not None:
            assert before is not None
            assert before.value == pytest.approx(tested.difference.params["base"], rel=1e-6, abs=1e-9)


def test_the_same_command_again_does_nothing(
    swept: Swept, base: Run, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(steer_sweep, "choose", second)
    again = sweep(base.folder, progress=lambda stage, *_: said.append(stage))
    assert counted == {"draw": 0, "measure": 0, "paired_audit": 0}
    assert again.sweep == swept.sweep == open_sweep(swept.folder)
    assert "setting 1 of 3 (strength 0): complete already" in said
    confirmed = sweep(base.folder, confirm_seed=1)
    assert counted == {"draw": 0, "measure": 0, "paired_audit": 0}
    assert confirmed.sweep == swept.sweep


def test_confirmations_on_other_seeds_and_of_other_settings_are_kept(
    swept: Swept, base: Run, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steer_sweep, "choose", second)
    try:
        again = sweep(base.folder, confirm_seed=2).sweep
        assert counted["paired_audit"] == 1
        assert [each.of for each in again.confirmations] == [(1, again.settings[1].steer), (2, again.settings[1].steer)]
        assert again.confirmed == again.confirmations
        assert again.confirmations[0] == swept.sweep.confirmations[0]
        monkeypatch.setattr(steer_sweep, "choose", lambda _, wanted: wanted.model_copy(update={"index": 2}))
        other = sweep(base.folder).sweep
        assert other.confirmations == again.confirmations
        assert other.confirmed == ()
    finally:
        save_sweep(swept.folder, swept.sweep)


def test_what_was_chosen_and_confirmed_outlives_an_interruption(
    swept: Swept, base: Run, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests are those of an older version: all are made anew, and the second one is interrupted."""
    testing = steer_sweep.paired_audit

    def stopped(*args: Any, **options: Any) -> Any:
        if counted["paired_audit"] == 1:
            raise KeyboardInterrupt
        return testing(*args, **options)

    monkeypatch.setattr(steer_sweep, "VERSION", -1)
    monkeypatch.setattr(steer_sweep, "paired_audit", stopped)
    try:
        with pytest.raises(KeyboardInterrupt):
            sweep(base.folder)
        left = open_sweep(swept.folder)
        assert left is not None
        assert (left.choice, left.confirmations) == (swept.sweep.choice, swept.sweep.confirmations)
        assert [setting.folder for setting in left.settings] == [setting.folder for setting in swept.sweep.settings]
        assert [bool(setting.tests) for setting in left.settings] == [False, True, False]
    finally:
        save_sweep(swept.folder, swept.sweep)


def test_tests_of_the_same_images_are_taken_from_another_sweep(
    swept: Swept, base: Run, counted: dict[str, int]
) -> None:
    one = steer_sweep.steer_sweep(base.folder, [0.5])
    assert one.folder != swept.folder
    assert counted == {"draw": 0, "measure": 0, "paired_audit": 0}
    ours, theirs = one.sweep.others[0].tests, swept.sweep.others[0].tests
    assert [t.difference for t in ours] == [t.difference for t in theirs]
    assert [t.p_holm for t in ours] == [t.p for t in ours]


def test_with_another_audit_the_run_stays_as_it_is_and_its_images_are_linked(
    swept: Swept, base: Run, counted: dict[str, int]
) -> None:
    """The run itself, and the setting that another sweep has audited."""
    kept = {file: file.read_bytes() for run_ in swept.runs[:2] for file in run_.folder.rglob("*") if file.is_file()}
    found = sweep(base.folder, overrides=["audit.metrics=bias,fidelity", "audit.level=0.9"])
    assert counted == {"draw": 0, "measure": 3, "paired_audit": 2}
    assert {file: file.read_bytes() for file in kept} == kept
    for before, now in zip(swept.runs, found.runs, strict=True):
        assert now.folder.name.startswith(f"{before.folder.name}-")
        assert now.header.model["drawn_in"] == before.folder.name
        files = [sorted(run_.samples_folder.glob("*.parquet"))[0] for run_ in (before, now)]
        assert files[0].stat().st_ino == files[1].stat().st_ino
    again = sweep(base.folder, overrides=["audit.metrics=bias,fidelity", "audit.level=0.9"])
    assert counted == {"draw": 0, "measure": 3, "paired_audit": 2}
    assert again.sweep == found.sweep
    assert found.sweep.zero.folder == found.runs[0].folder.name
    # Audited anew, such a folder is meant, and not the one that its recipe's name says.
    audited = audit_run(found.runs[0].folder, ["audit.metrics=bias"])
    assert audited.folder == found.runs[0].folder
    assert {file: file.read_bytes() for file in kept} == kept


def test_too_few_images_for_a_jackknife_over_blocks_say_so(base: Run, tmp_path: Path) -> None:
    found = steer_sweep.steer_sweep(
        base.folder, [1.0], root=tmp_path, num_images=3, overrides=["audit.metrics=bias,fidelity"]
    )
    reasons = {t.difference.params["of"]: t.difference.reason for t in found.sweep.others[0].tests}
    assert "needs 20 images or more in each set, 3 given" in str(reasons["frechet_distance"])
    assert reasons["share"] is None


def test_an_interrupted_sweep_goes_on_where_it_was(
    swept: Swept, base: Run, tmp_path: Path, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(base.folder, tmp_path / base.folder.name)
    shutil.copytree(base.folder.parent / ".cache", tmp_path / ".cache")
    drawing, testing = stages.draw, steer_sweep.paired_audit

    def stopped(*args: Any, **options: Any) -> Any:
        if counted["draw"] == 1:
            raise KeyboardInterrupt
        return drawing(*args, **options)

    def stopped_later(*args: Any, **options: Any) -> Any:
        if counted["paired_audit"] == 1:
            raise KeyboardInterrupt
        return testing(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(stages, "draw", stopped)
        with pytest.raises(KeyboardInterrupt):
            sweep(tmp_path / base.folder.name)
    with monkeypatch.context() as patch:
        patch.setattr(steer_sweep, "paired_audit", stopped_later)
        with pytest.raises(KeyboardInterrupt):
            sweep(tmp_path / base.folder.name)
    assert counted == {"draw": 2, "measure": 2, "paired_audit": 1}
    done = sweep(tmp_path / base.folder.name)
    assert counted == {"draw": 2, "measure": 2, "paired_audit": 2}
    assert [s.tests for s in done.sweep.settings] == [s.tests for s in swept.sweep.settings]


def test_elsewhere_the_model_is_taken_along_and_nothing_is_trained(
    base: Run, tmp_path: Path, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("links are not for this file system")

    monkeypatch.setattr(os, "link", refused)
    found = sweep(base.folder, root=tmp_path, num_images=6, seed=3, overrides=["audit.metrics=fidelity"])
    assert counted["draw"] == 3
    assert {r.folder.parent for r in found.runs} == {tmp_path}
    assert {(r.recipe.sample.num_images, r.recipe.sample.seed) for r in found.runs if r.recipe} == {(6, 3)}
    weights = [r.model_folder / "unet" / "diffusion_pytorch_model.safetensors" for r in found.runs]
    own = base.model_folder / "unet" / "diffusion_pytorch_model.safetensors"
    assert [file.read_bytes() for file in weights] == [own.read_bytes()] * 3
    assert found.sweep.zero.steer == SteerSpec()
    assert {m.name for m in found.runs[1].audit() or ()} >= {"recall"}
    assert base.folder not in {r.folder for r in found.runs}


@pytest.mark.parametrize(
    ("strengths", "options", "message"),
    [
        ((0.5, 1.5), {}, "--strength 1.5: a strength lies in"),
        ((float("nan"),), {}, "--strength nan: a strength lies in"),
        ((0.0,), {}, "give a strength above 0"),
        ((0.5,), {"schedules": ["windw(1)"]}, "unknown 'windw'"),
        ((1.0,), {"schedules": ["window(sigma_max=5) + window(sigma_min=1)"]}, "has strength 2 at noise level"),
        (
            (0.5,),
            {"schedules": ["window(sigma_max=500, sigma_min=400)"]},
            "--schedule .window.*has strength 0 at all 3 noise levels",
        ),
        ((0.5,), {"modes": ["blnd"]}, "mode: Input should be 'blend'"),
        ((0.5,), {"choose_by": "share"}, "cannot be chosen by 'share'"),
        ((0.5,), {"choose_by": "recall,dinov2"}, "compares in the features of labeler: name one of these, or add"),
        ((0.5,), {"overrides": ["audit.metrics=bias"]}, "of the metric fidelity.*audit.metrics=bias,fidelity"),
        ((0.5,), {"overrides": ["train.steps=5"]}, "only its audit"),
        ((0.5,), {"confirm_seed": 0}, "--confirm-seed 0 is the seed that the settings are compared on"),
        ((0.5,), {"confirm_seed": -1}, "--confirm-seed -1: a seed is 0 or more"),
        ((0.5,), {"num_images": 2}, "--num-images 2: a paired test needs 3"),
        ((0.5,), {"choose_by": "recall,dino"}, "add --encoder dino"),
        ((0.5,), {"choose_by": "prompt_agreement,labeler", "overrides": PROMPTED}, "not measured in feature spaces"),
        ((0.5,), {"choose_by": "init_distance", "overrides": PROMPTED}, "only text-to-image models have it"),
        ((0.5,), {"seed": -1}, "SampleSpec.seed"),
        ((0.5,), {"overrides": ["audit.encoders=dinov3"]}, "dinov3"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_drawn(
    base: Run, counted: dict[str, int], strengths: tuple[float, ...], options: dict[str, Any], message: str
) -> None:
    folders = sorted(base.folder.parent.iterdir())
    with pytest.raises(LeadlineError, match=message):
        steer_sweep.steer_sweep(base.folder, strengths, **options)
    assert counted["draw"] == 0
    assert sorted(base.folder.parent.iterdir()) == folders


def test_only_a_finished_run_can_be_steered(base: Run, tmp_path: Path) -> None:
    unfinished = Run.create(tmp_path / "begun", title="begun", recipe=base.header.recipe)
    with pytest.raises(LeadlineError, match=r"is not finished \(its status is started\)"):
        steer_sweep.steer_sweep(unfinished.folder, [0.5])
    audit = Run.create(tmp_path / "audit", title="audit", kind="audit")
    with pytest.raises(LeadlineError, match="is an audit of images, with no model to draw from"):
        steer_sweep.steer_sweep(audit.folder, [0.5])
    with pytest.raises(LeadlineError, match="is no run folder"):
        steer_sweep.steer_sweep(tmp_path, [0.5])


def test_a_damaged_record_names_the_file(swept: Swept, tmp_path: Path) -> None:
    assert open_sweep(tmp_path) is None
    save_sweep(tmp_path, swept.sweep)
    assert open_sweep(tmp_path) == swept.sweep
    (tmp_path / "sweep.json").write_text('{"title": ')
    with pytest.raises(LeadlineError, match=r"sweep\.json cannot be read.*start the same command again"):
        open_sweep(tmp_path)


def test_the_command_writes_the_page_and_says_what_it_found(
    base: Run, swept: Swept, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--strength", "0", ".5", "--schedule", "1", "--schedule", WINDOW]
    with pytest.raises(SystemExit) as ended:
        main(["steer-sweep", str(base.folder), *words])
    assert ended.value.code == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("digits69-debug, 2 blocks, steering: ")
    assert "of 6 quality measures" in first
    assert Path(last) == swept.folder / "report.html"
    content = json.loads(Path(last).with_suffix(".json").read_text())
    assert len(content["runs"]) == 3
    assert len(content["steer_sweep"]["settings"]) == 3
    with pytest.raises(SystemExit) as ended:
        main(["steer-sweep", str(base.folder), "--strength", "2"])
    assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        main(["steer-sweep", str(base.folder), "--strength", "1", "--set", "train.steps=9"])
    assert ended.value.code == 2
    assert "this command reads the parts audit only" in capsys.readouterr().err


@pytest.mark.browser
def test_the_page_of_a_real_sweep_shows_every_setting(browser: webdriver.Chrome, swept: Swept, tmp_path: Path) -> None:
    page = build(swept.runs, tmp_path / "report.html", sweep=swept.sweep)
    browser.get(page.as_uri())
    text = browser.execute_script("return document.querySelector('#frontier').innerText")
    settings: tuple[Setting, ...] = swept.sweep.others
    assert all(setting.steer.kind in text for setting in settings)
    assert browser.execute_script("return document.querySelectorAll('#frontier svg').length") >= 4
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(wide) <= 0
    answers = browser.execute_script(
        "return [...document.querySelectorAll('#answer .finding h3')].map(e => e.innerText)"
    )
    assert len(answers) == 2
    assert answers[0].startswith("digits69-debug, 2 blocks, steering:")
