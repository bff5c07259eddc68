"""The run folder: create, open, list, table. The only module that knows its file names; it never imports torch.

<preset>-<fingerprint8>-s<seed>/
  run.json              header: schema version, status, recipe, overrides, commit, versions, device, times
  train.jsonl           training curve
  checkpoint.safetensors   while training
  model/                a diffusers folder: DiffusionPipeline.from_pretrained opens it
  snapshots/step-000500/   the same, of the averaged weights after that many steps
  watch.jsonl           one look at the training per line: what its bank of images gave after so many steps
  watch/step-000500/*.parquet   the bank's images, as samples/
  checkpoints/step-000500/   an audit, as a folder of its own, of images drawn by that snapshot
  samples/*.parquet     Hugging Face image feature: datasets.load_dataset opens it
  measurements.jsonl    one Measurement per line
  audit.json, panels/   tables, settings and image panels of the audit
  labels.csv            what each sample was labelled as; --labels reads it
  gate.json             the conditions that the audit was checked by, and what came of each
  comparison.json       what changed since an earlier audit
  report.html, report.json

<run>-until/            an audit, as a run folder, of further images of the run's model, drawn until a share was known

steer-<preset>-<fingerprint8>/
  sweep.json            what settings of the bypass change beside strength 0; each setting is a run folder beside it
  report.html, report.json
"""

import csv
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from leadline.comparison import Comparison
from leadline.errors import LeadlineError
from leadline.files import atomic_file, atomic_folder, inside, link_or_copy, locked, write_text
from leadline.frontier import SteerSweep
from leadline.gate import Verdict
from leadline.looks import Look
from leadline.recipe import Recipe, explain, recipe_from_json
from leadline.records import SCHEMA_VERSION, AuditResult, ImageLabels, Measurement, Panel, Table

Kept = TypeVar("Kept", bound=BaseModel)
Status = Literal["started", "trained", "sampled", "complete"]
SWEEP = "sweep.json"
LABELS = "labels.csv"
WATCH = "watch.jsonl"
PACKAGES = ("leadline", "torch", "torchvision", "diffusers", "accelerate", "numpy", "scikit-learn", "datasets")


class RunHeader(BaseModel):
    """run.json: what explains the run years later."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    kind: Literal["run", "audit"] = "run"
    title: str
    status: Status = "started"
    recipe: dict[str, Any] | None = None
    overrides: tuple[str, ...] = ()
    data: dict[str, Any] = {}
    """Name of each split -> name, content fingerprint, n, counts, notes."""
    model: dict[str, Any] = {}
    """parameters, family, ..."""
    samples: dict[str, Any] = {}
    """Of an audit of foreign images: where they came from, content fingerprint."""
    commit: str | None = None
    dirty: bool | None = None
    packages: dict[str, str] = {}
    python: str = ""
    device: str = ""
    created: str = ""
    seconds: dict[str, float] = {}
    """Wall time per stage, over all attempts."""


class GateRecord(BaseModel):
    """gate.json: what came of the conditions that an audit was checked by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdicts: tuple[Verdict, ...]


class Run:
    """One run folder. `Run.create` or `Run.open`; the header changes only through `update`."""

    def __init__(self, folder: Path, header: RunHeader) -> None:
        self.folder = folder
        self.header = header

    @property
    def model_folder(self) -> Path:
        return self.folder / "model"

    def snapshot_folder(self, step: int) -> Path:
        """The model as it was after that many steps, of those that train.snapshots names."""
        return self.folder / "snapshots" / f"step-{step:06d}"

    def bank_folder(self, step: int) -> Path:
        """The bank's images as they were after that many steps of a training that is watched."""
        return self.folder / "watch" / f"step-{step:06d}"

    @property
    def checkpoints_folder(self) -> Path:
        """Folders of audits of the run's snapshots, made when one was asked for."""
        return self.folder / "checkpoints"

    def checkpoint_folder(self, step: int) -> Path:
        """The audit of images that the snapshot after that many steps draws."""
        return self.checkpoints_folder / f"step-{step:06d}"

    @property
    def checkpoint_file(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def curve_file(self) -> Path:
        return self.folder / "train.jsonl"

    @property
    def samples_folder(self) -> Path:
        return self.folder / "samples"

    @property
    def report_file(self) -> Path:
        return self.folder / "report.html"

    @property
    def recipe(self) -> Recipe | None:
        return None if self.header.recipe is None else recipe_from_json(self.header.recipe)

    @property
    def title(self) -> str:
        return self.header.title

    @classmethod
    def create(cls, folder: Path, *, title: str, kind: Literal["run", "audit"] = "run", **fields: Any) -> "Run":
        """Make the folder with its header, or open it when it is there already."""
        if (folder / "run.json").exists():
            return cls.open(folder)
        folder.mkdir(parents=True, exist_ok=True)
        commit, dirty = _commit()
        header = RunHeader(
            title=title,
            kind=kind,
            commit=commit,
            dirty=dirty,
            packages=_versions(),
            python=platform.python_version(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            **fields,
        )
        run = cls(folder, header)
        run._write_header()
        return run

    @classmethod
    def open(cls, folder: Path | str) -> "Run":
        """Open a run folder. Raises LeadlineError when it is none or was written by a newer schema."""
        folder = Path(folder)
        try:
            content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise LeadlineError(
                f"{folder} is no run folder: it has no run.json (runs are made by `leadline run`)"
            ) from None
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise LeadlineError(f"{folder / 'run.json'} cannot be read: {error}") from None
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise LeadlineError(
                f"{folder / 'run.json'} has schema version {version}, this leadline reads {SCHEMA_VERSION}"
            )
        try:
            return cls(folder, RunHeader.model_validate(content))
        except ValidationError as error:
            raise LeadlineError(f"{folder / 'run.json'}: {explain('run', error)}") from None

    def update(self, **fields: Any) -> None:
        """Change fields of the header, on disk too. Raises pydantic's ValidationError on what could not be opened."""
        self.header = RunHeader.model_validate({**dict(self.header), **fields})
        self._write_header()

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Add to a stage's wall time."""
        times = dict(self.header.seconds)
        times[stage] = round(times.get(stage, 0.0) + seconds, 2)
        self.update(seconds=times)

    def _write_header(self) -> None:
        write_text(self.folder / "run.json", self.header.model_dump_json(indent=1) + "\n")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out of the folder."""
        with locked(self.folder / ".lock"):
            yield

    def curve(self) -> list[dict[str, Any]]:
        """The training curve: one record per logged step. An unfinished last line is left out."""
        records = []
        if self.curve_file.exists():
            for line in self.curve_file.read_text(encoding="utf-8").splitlines():
                try:
                    records.append(json.loads(line))
                except json.JSONDecodeError:
                    break
        return records

    def looks(self) -> tuple[Look, ...]:
        """What `save_looks` wrote; empty where no one looked. Raises LeadlineError when it is damaged."""
        file = self.folder / WATCH
        if not file.exists():
            return ()
        try:
            return tuple(Look.model_validate_json(line) for line in file.read_bytes().splitlines())
        except (OSError, ValidationError) as error:
            told = str(error).splitlines()[0]
            raise LeadlineError(f"{file} cannot be read ({told}): delete it, and look again (leadline watch)") from None

    def save_looks(self, looks: Sequence[Look]) -> None:
        """Keep the looks at the training, by rising step, in place of those that were there."""
        ordered = sorted(looks, key=lambda look: look.step)
        write_text(self.folder / WATCH, "".join(look.model_dump_json() + "\n" for look in ordered))

    def save_audit(self, result: AuditResult) -> None:
        """Write measurements.jsonl, panels/ and, last, audit.json: without it the audit counts as not done.

        What was said of an earlier audit, gate.json and comparison.json, is removed.
        """
        for name in ("audit.json", "gate.json", "comparison.json"):
            (self.folder / name).unlink(missing_ok=True)
        lines = [m.model_dump_json() for m in result.measurements]
        write_text(self.folder / "measurements.jsonl", "".join(line + "\n" for line in lines))
        with atomic_folder(self.folder / "panels") as folder:
            for panel in result.panels:
                np.save(folder / f"{panel.name}.npy", panel.tiles, allow_pickle=False)
        kept = self._save_labels(result.labels)
        words = ("name", "title", "caption", "captions", "column_titles", "row_titles")
        content = {
            "settings": result.settings,
            "labels": None if kept is None else {"origin": kept[1], "sha256": kept[0]},
            "tables": [json.loads(t.model_dump_json()) for t in result.tables],
            "panels": [{word: getattr(p, word) for word in words} for p in result.panels],
        }
        write_text(self.folder / "audit.json", json.dumps(content, indent=1, default=str) + "\n")

    def audit(self) -> AuditResult | None:
        """What `save_audit` wrote, or None when there is no finished audit. Raises LeadlineError when it is damaged."""
        file = self.folder / "audit.json"
        if not file.exists():
            return None
        try:
            return self._read_audit(json.loads(file.read_text(encoding="utf-8")))
        except LeadlineError:
            raise
        # A run folder may come from anywhere: whatever is wrong in it, the person gets to know which file to delete.
        except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise LeadlineError(
                f"{file} and what belongs to it cannot be read ({type(error).__name__}: {error}): delete it, "
                "and measure again"
            ) from None

    def save_gate(self, verdicts: Sequence[Verdict]) -> None:
        """Keep what came of the conditions that the audit was checked by."""
        content = GateRecord(verdicts=tuple(verdicts))
        write_text(self.folder / "gate.json", content.model_dump_json(indent=1) + "\n")

    def gate(self) -> tuple[Verdict, ...]:
        """What `save_gate` wrote; empty when the audit was not checked. Raises LeadlineError when it is damaged."""
        kept = self._kept("gate.json", GateRecord)
        return () if kept is None else kept.verdicts

    def save_comparison(self, comparison: Comparison) -> None:
        """Keep what changed since an earlier audit."""
        write_text(self.folder / "comparison.json", comparison.model_dump_json(indent=1) + "\n")

    def comparison(self) -> Comparison | None:
        """What `save_comparison` wrote, or None. Raises LeadlineError when it is damaged."""
        return self._kept("comparison.json", Comparison)

    def _kept(self, name: str, kind: type[Kept]) -> Kept | None:
        return _read_kept(self.folder / name, kind, "check or compare again")

    def _read_audit(self, content: Any) -> AuditResult:
        settings = content["settings"]
        if not all(isinstance(settings.get(part, {}), dict) for part in ("audit", "fingerprints", "images")):
            raise ValueError("settings must be an object, and so must audit, fingerprints and images in it")
        lines = (self.folder / "measurements.jsonl").read_text(encoding="utf-8").splitlines()
        panels = []
        for words in content["panels"]:
            file = inside(self.folder / "panels", f"{words['name']}.npy")
            tiles = np.load(file, allow_pickle=False)
            fixed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in words.items()}
            panels.append(Panel(tiles=tiles, **fixed))
        return AuditResult(
            measurements=tuple(Measurement.model_validate_json(line) for line in lines),
            tables=tuple(Table.model_validate(t) for t in content["tables"]),
            panels=tuple(panels),
            settings=settings,
            labels=self._read_labels(content.get("labels")),
        )

    def _save_labels(self, labels: ImageLabels | None) -> tuple[str, str] | None:
        """Digest and origin of what was written, None where there is nothing to write."""
        if labels is None:
            (self.folder / LABELS).unlink(missing_ok=True)
            return None
        text = _as_csv(labels)
        write_text(self.folder / LABELS, text)
        return hashlib.sha256(text.encode()).hexdigest(), labels.origin

    def _read_labels(self, kept: dict[str, str] | None) -> ImageLabels | None:
        """None also where the audit is from before labels were kept, or the file is gone: the numbers stand without.

        Raises LeadlineError where it is no longer what the audit wrote: labels of other images would be paired.
        """
        file = self.folder / LABELS
        if kept is None or not file.exists():
            return None
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != kept["sha256"]:
            raise LeadlineError(
                f"{file} is not what the audit wrote: restore it, or remove it and audit again (leadline audit)"
            )
        # Not splitlines, which also ends a line at characters that an image's name may have.
        _, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
        return ImageLabels(
            ids=tuple(row[0] for row in rows), labels=tuple(row[1] for row in rows), origin=kept["origin"]
        )


def _as_csv(labels: ImageLabels) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("id", "label"), *zip(labels.ids, labels.labels, strict=True)])
    return text.getvalue()


def save_sweep(folder: Path, sweep: SteerSweep) -> None:
    """Keep what a steering sweep found."""
    write_text(folder / SWEEP, sweep.model_dump_json(indent=1) + "\n")


def open_sweep(folder: Path) -> SteerSweep | None:
    """What `save_sweep` wrote, or None when there is none. Raises LeadlineError when it is damaged."""
    return _read_kept(folder / SWEEP, SteerSweep, "start the same command again")


def _read_kept(file: Path, kind: type[Kept], again: str) -> Kept | None:
    if not file.exists():
        return None
    try:
        return kind.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        told = str(error).splitlines()[0]
        raise LeadlineError(f"{file} cannot be read ({told}): delete it, and {again}") from None


def open_audit(path: Path) -> tuple[str, AuditResult]:
    """A finished audit by its run folder, or by the audit.json in it, with a name to call it by.

    Raises LeadlineError when there is none.
    """
    run = Run.open(path.parent if path.name == "audit.json" else path)
    found = run.audit()
    if found is None:
        raise LeadlineError(f"{run.folder} has no finished audit (its status is {run.header.status}): audit it first")
    return f"{run.title} ({run.folder.resolve().name})", found


def open_runs(root: Path) -> list[Run]:
    """All run folders directly under `root`, by name. Other folders are passed over."""
    return [Run.open(f.parent) for f in sorted(root.glob("*/run.json"))]


def find_trained(root: Path, recipe: Recipe) -> Run | None:
    """A run under `root` whose finished model was trained from the same data, model and training spec.

    One that has lost a snapshot is passed over.
    """
    wanted = recipe.training_fingerprint()
    for file in sorted(root.glob("*/run.json")):
        try:
            run = Run.open(file.parent)
            other = run.recipe
        except LeadlineError as error:
            warnings.warn(f"passed over when looking for a model of the same training: {error}", stacklevel=2)
            continue
        finished = other is not None and run.header.status != "started" and other.training_fingerprint() == wanted
        if finished and all(run.snapshot_folder(step).exists() for step in recipe.train.snapshots):
            return run
    return None


def adopt_model(run: Run, trained: Run, *, linked: bool = False) -> None:
    """Copy the finished model, its snapshots, its curve and the looks at it from another run of the same training.

    linked: the model's files are hard links where the file system has them: no room is taken, and who writes into
    such a file writes into both.
    """
    copy = link_or_copy if linked else shutil.copy2
    steps = trained.recipe.train.snapshots if trained.recipe is not None else ()
    folders = [(trained.snapshot_folder(step), run.snapshot_folder(step)) for step in steps]
    banks = [(trained.bank_folder(look.step), run.bank_folder(look.step)) for look in trained.looks()]
    folders += [(source, target) for source, target in banks if source.exists()]
    # The model last: where it is there, the run counts as trained.
    for source, target in [*folders, (trained.model_folder, run.model_folder)]:
        with atomic_folder(target) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True, copy_function=copy)
    for name in (trained.curve_file.name, WATCH):
        if (trained.folder / name).exists():
            with atomic_file(run.folder / name) as file:
                shutil.copyfile(trained.folder / name, file)
    run.update(model={**trained.header.model, "trained_in": trained.folder.name}, status="trained")


def adopt_samples(run: Run, drawn: Run) -> None:
    """Take over the samples of another run of the same recipe, as hard links where the file system has them."""
    with atomic_folder(run.samples_folder) as folder:
        shutil.copytree(drawn.samples_folder, folder, dirs_exist_ok=True, copy_function=link_or_copy)
    model = {**drawn.header.model, **run.header.model, "drawn_in": drawn.folder.name}
    run.update(model=model, device=drawn.header.device, status="sampled")


def num_processes() -> int:
    """Processes of this training: more than one under `accelerate launch`."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process writes."""
    return int(os.environ.get("RANK", "0")) == 0


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _commit() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout that leadline runs from; (None, None) outside one."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(here), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603

    try:
        if git("ls-files", Path(__file__).name) == "":
            return None, None
        return git("rev-parse", "HEAD"), git("status", "--porcelain", "-uno") != ""
    except (OSError, subprocess.SubprocessError):
        return None, None
