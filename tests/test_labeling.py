"""`leadline label` and `leadline audit --human-labels`, from the command to the file and back."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leadline.audit.human_labels import NONE, UNSURE, page_id
from leadline.cli import main
from leadline.data import load
from leadline.data.shards import write_shard
from leadline.errors import LeadlineError
from leadline.experiment import audit_run
from leadline.labeling import label_task
from leadline.options import data_spec
from leadline.presets import preset
from leadline.recipe import with_overrides
from leadline.report.label_page import LabelTask
from leadline.runs import Run

TRAINING = {"cat": 6, "dog": 4}
CHANGES = ["audit.metrics=memorization", "audit.ks=1", "audit.num_panels=0"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and their cache go to the test's own folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve grey images without classes."""
    return images_in(tmp_path / "generated", 12, 0)


@pytest.fixture
def training(tmp_path: Path) -> str:
    for seed, (name, number) in enumerate(TRAINING.items(), 1):
        images_in(tmp_path / "training" / name, number, seed)
    return f"imagefolder:{tmp_path / 'training'}"


def images_in(folder: Path, number: int, seed: int) -> Path:
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (number, 8, 8), dtype=np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index:02d}.png")
    return folder


def say(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    code, captured = ended.value.code, capsys.readouterr()
    return int(code or 0), captured.out, captured.err


def answered(task: LabelTask, file: Path, m: int) -> Path:
    """What the page saves when its first m images are all answered alike, the last one unsure."""
    answers = [task.classes[0]] * (m - 1) + [UNSURE]
    content = {
        "format": task.format,
        "version": task.version,
        "page": task.page,
        "samples": {"name": task.samples_name, "fingerprint": task.fingerprint, "n": task.num_samples},
        "seed": task.seed,
        "n": len(task.ids),
        "classes": list(task.classes),
        "labels": [{"id": name, "label": answer} for name, answer in zip(task.ids, answers, strict=False)],
        "saved": "2026-01-02T03:04:05.000Z",
    }
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_a_page_of_a_folder_and_an_audit_with_its_labels(
    capsys: pytest.CaptureFixture[str], pictures: Path, training: str, tmp_path: Path
) -> None:
    code, out, err = say(capsys, "label", str(pictures), "--train", training, "--n", "8", "--seed", "3")
    assert (code, Path(out.splitlines()[-1])) == (0, Path("label.html")), err
    assert f"as cat, dog, {NONE}, {UNSURE}" in out
    page = Path("label.html").read_text(encoding="utf-8")
    (embedded,) = re.findall(r'<script type="application/json" id="task">(.*?)</script>', page)
    content = json.loads(embedded)
    task = label_task(pictures, n=8, seed=3, classes=["cat", "dog"])
    assert (content["page"], tuple(content["ids"])) == (task.page, task.ids)
    assert len(content["images"]) == len(set(content["images"])) == 8
    file = answered(task, tmp_path / "human.json", 6)
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\n" * 12, encoding="utf-8")
    flags = [word for change in CHANGES for word in ("--set", change)]
    given = ["--labels", str(labels), "--human-labels", str(file), "--out", "audit"]
    code, _, err = say(capsys, "audit", str(pictures), "--train", training, *given, *flags)
    assert code == 0, err
    found = Run.open("audit").audit()
    assert found is not None
    (unsure,) = found.find("prediction_powered_share", UNSURE)
    assert unsure.value == pytest.approx(1 / 6)
    assert "Human labels" in Path("audit/report.html").read_text(encoding="utf-8")


def drawn_run(root: Path) -> Run:
    """A run that has drawn twelve images of noise, as digits69's are, and was never trained."""
    fields = ["audit.metrics=memorization", 'audit.encoders=["pixels"]', "audit.ks=1", "audit.num_panels=0"]
    recipe = with_overrides(preset("digits69-debug"), [*fields, "data.labeler=0"])
    training = load(recipe.data).train
    run = Run.create(root / "run", title="noise", recipe=recipe.model_dump(mode="json"))
    run.model_folder.mkdir()
    run.samples_folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (12, *training.shape), dtype=np.uint8)
    write_shard(run.samples_folder / "00000.parquet", pixels, {"seed": [0] * 12, "index": list(range(12))})
    run.update(status="sampled", data={"train": {"counts": training.counts(), "fingerprint": training.fingerprint()}})
    return run


def test_human_labels_of_a_run_make_another_audit_and_are_not_lost_in_silence(tmp_path: Path) -> None:
    run = drawn_run(tmp_path)
    task = label_task(run.folder, n=10)
    assert task.classes == ("6", "9")
    first, second = (answered(task, tmp_path / f"{m}.json", m) for m in (5, 6))
    before = audit_run(run.folder, []).audit()
    assert before is not None
    assert not before.find("human_share")
    shares = []
    for file in (first, second):
        found = audit_run(run.folder, [], human_labels=file).audit()
        assert found is not None
        shares.append(found.find("human_share", "6")[0].value)
    assert shares == pytest.approx([4 / 5, 5 / 6])
    said: list[str] = []
    audit_run(run.folder, [], lambda stage, *_: said.append(stage), human_labels=second)
    audit_run(run.folder, [], lambda stage, *_: said.append(stage))
    assert [text for text in said if "audit" in text] == []
    assert said.count("complete already, nothing to do") == 2
    with pytest.warns(UserWarning, match="the last audit had human labels .the file 6.json., this one has none"):
        audit_run(run.folder, ["audit.level=0.9"])


def test_human_labels_of_a_finished_audit_measure_nothing_else_again(tmp_path: Path) -> None:
    """They give what a whole audit with them gives."""
    run = drawn_run(tmp_path)
    task = label_task(run.folder, n=10)
    file, other = (answered(task, tmp_path / f"{m}.json", m) for m in (6, 4))
    whole = audit_run(run.folder, [], human_labels=file).audit()
    (run.folder / "audit.json").unlink()
    before = audit_run(run.folder, []).audit()
    assert before is not None
    said: list[str] = []
    for given in (other, file):
        audit_run(run.folder, [], lambda stage, *_: said.append(stage), human_labels=given)
    found = run.audit()
    assert [stage for stage in said if "measuring" in stage] == ["audit, measuring human labels"] * 2
    assert found is not None
    assert whole is not None
    assert sorted(map(repr, found)) == sorted(map(repr, whole))
    assert found.settings == whole.settings
    assert found.labels == whole.labels
    assert [panel.name for panel in found.panels] == [panel.name for panel in before.panels]


def test_human_labels_of_other_images_are_refused_before_the_data_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = drawn_run(tmp_path)
    file = answered(label_task(run.folder, n=10), tmp_path / "human.json", 6)
    content = json.loads(file.read_text(encoding="utf-8"))
    content["samples"]["fingerprint"] = "0" * 16
    content["page"] = page_id("0" * 16, 0, 10, content["classes"])
    file.write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setattr("leadline.experiment.load", lambda *_: pytest.fail("the data was read"))
    with pytest.raises(LeadlineError, match="these are labels of other images"):
        audit_run(run.folder, [], human_labels=file)


def test_too_many_images_are_refused(pictures: Path) -> None:
    with pytest.raises(LeadlineError, match="n 13: from 1 to all 12"):
        label_task(pictures, n=13, classes=["cat"])


def test_classes_are_asked_for_where_they_are_not_known(pictures: Path, training: str) -> None:
    with pytest.raises(LeadlineError, match="name them .--classes"):
        label_task(pictures, n=3)
    spec = data_spec(training, None)
    with pytest.raises(LeadlineError, match="--classes: 'dgo' is no class of the training data: did you mean 'dog'"):
        label_task(pictures, n=3, classes=["cat", "dgo"], train=spec)
    with pytest.raises(LeadlineError, match="no class may be named 'unsure'"):
        label_task(pictures, n=3, classes=["cat", UNSURE])
    with pytest.raises(LeadlineError, match="different names"):
        label_task(pictures, n=3, classes=["cat", "cat"])
    assert label_task(pictures, n=3, classes=["dog"], train=spec).classes == ("dog",)


def test_what_holds_no_images_says_what_to_label_instead(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "model_index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(LeadlineError, match="is a pipeline, not its images: audit it first"):
        label_task(tmp_path / "pipeline", classes=["a"])
    audit = Run.create(tmp_path / "audit", title="audit", kind="audit")
    audit.update(samples={"source": str(pictures)})
    with pytest.raises(LeadlineError, match=f"leadline label {pictures} --train DATA"):
        label_task(audit.folder)
