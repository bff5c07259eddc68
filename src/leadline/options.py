"""The flags of the command line, and what they say: a recipe, changes of one, a list of numbers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from leadline.recipe import DataSpec, Recipe

EXIT_CODES = (
    "Exit codes: 0 done; 1 a fault in leadline, what was computed until then is kept; 2 bad input, or a file that the "
    "system refuses to read or write, the message says what to change; 3 done, but a condition of --fail-if holds or "
    "could not be checked; 130 interrupted."
)
ENCODER_NAMES = "inception, lpips-alex, lpips-vgg, lpips-squeeze, squeezenet, dinov2, clip, sscd, pixels"
"""The registry's, written out: it imports torch, and help is to be quick."""
LABELER = "labeler"
RUNS = Path("runs")
Out = Annotated[Path, typer.Option("--out", help="Folder of the run folders.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a field: train.steps=4000.")]
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a preset, or a recipe's JSON file.")]
Encoders = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="NAME[:WEIGHTS]",
        help=f"Also compare images by this network, repeatable: {ENCODER_NAMES}. WEIGHTS: a file or folder.",
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch the networks' weights that are not on this machine.")]
AllowTorchscript = Annotated[
    bool,
    typer.Option(
        "--allow-torchscript",
        help="Load weights from TorchScript files. Such a file is a program and is run: only from who you trust.",
    ),
]
FailIf = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-if",
        metavar="CONDITION",
        help="Exit with code 3 if this holds, repeatable: 'nearest_copy_rate[rule=d1/d2].lower > 0.01'.",
    ),
]
Compare = Annotated[
    Path | None,
    typer.Option(metavar="AUDIT", help="An earlier run or audit: say what changed since, with intervals."),
]

Images = Annotated[Path, typer.Argument(help="A run, a folder of images, Parquet, or a diffusers pipeline folder.")]
Training = Annotated[
    str | None, typer.Option("--train", metavar="DATA", help="Training data: digits, mnist:PATH, a path, hf:NAME.")
]
Groups = Annotated[
    str | None, typer.Option(help="Column with the classes, an attribute, or a product: Blond_Hair*Male.")
]
HeldOut = Annotated[str | None, typer.Option(metavar="DATA", help="Real images that the model was not trained on.")]
LabelerData = Annotated[
    str | None, typer.Option(metavar="DATA", help="Labelled images, not of the training data, for the labeler.")
]
Labels = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Labels of the samples: a CSV or JSON, instead of a labeler.")
]
HumanLabels = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A person's labels of some samples, saved from a page of `leadline label`."),
]
LabelerModel = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL", help="A labeler that exists: ARCHITECTURE:FILE.safetensors, or clip[:FOLDER] with --prompt."
    ),
]
Prompts = Annotated[
    list[str] | None, typer.Option("--prompt", metavar="CLASS=TEXT", help="A class in words, for clip; repeatable.")
]
Metrics = Annotated[str | None, typer.Option(help="Which metrics, separated by commas.")]
Flips = Annotated[bool, typer.Option("--flips", help="Also look for mirrored copies of training images.")]
AuditOut = Annotated[
    Path | None, typer.Option("--out", help="Folder of the audit; default: runs/audit-NAME, or the run.")
]
UntilWidth = Annotated[
    float | None,
    typer.Option(
        "--until-width",
        metavar="WIDTH",
        help="Draw further images until a share is known to this width: 0.02 for two points.",
    ),
]
UntilGroup = Annotated[
    str | None, typer.Option("--group", metavar="CLASS", help="The class whose share is meant; default: every class.")
]
AtMost = Annotated[
    int | None, typer.Option("--at-most", metavar="N", help="Draw no more images than this; default: 20000.")
]


def audit_changes(
    overrides: Sequence[str] | None,
    *,
    metrics: str | None = None,
    encoders: Sequence[str] | None = None,
    flips: bool = False,
    labeler_model: str | None = None,
    prompts: Sequence[str] | None = None,
) -> list[str]:
    """The --set changes, with the audit's flags written as such. Raises LeadlineError where one is given both ways."""
    from leadline.errors import LeadlineError

    for prompt in prompts or ():
        name, separator, text = prompt.partition("=")
        if not (name.strip() and separator and text.strip()):
            raise LeadlineError(f"--prompt takes CLASS=TEXT ('male=a photo of a man'), not {prompt!r}")
    if prompts and labeler_model is None and not _is_set("audit.labeler_model", overrides):
        raise LeadlineError("--prompt needs --labeler-model clip[:FOLDER] beside it: prompts are read by that labeler")
    spaces = list(encoders or ())
    flags = {
        "--metrics": ("audit.metrics", metrics),
        "--encoder": ("audit.encoders", spaces and json.dumps(spaces if LABELER in spaces else [LABELER, *spaces])),
        "--flips": ("audit.flips", flips and "true"),
        "--labeler-model": ("audit.labeler_model", labeler_model and json.dumps(labeler_model)),
        "--prompt": ("audit.prompts", prompts and json.dumps(list(prompts))),
    }
    changes = list(overrides or ())
    for flag, (field, value) in flags.items():
        if not value:
            continue
        if _is_set(field, overrides):
            raise LeadlineError(f"{flag} and --set {field} both say what to take: give one of them")
        changes.append(f"{field}={value}")
    return changes


def find_recipe(name: str, overrides: list[str] | None) -> "Recipe":
    """A preset by name, or a recipe from a JSON file, with the overrides applied."""
    from leadline.errors import LeadlineError
    from leadline.presets import preset
    from leadline.recipe import recipe_from_json, with_overrides

    if name.endswith(".json"):
        try:
            content = json.loads(Path(name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise LeadlineError(f"the recipe {name} cannot be read: {error}") from None
        if not isinstance(content, dict):
            raise LeadlineError(f"the recipe {name} is no JSON object: `leadline presets cp NAME FILE` makes one")
        found = recipe_from_json(content)
    else:
        found = preset(name)
    return with_overrides(found, overrides or [])


def data_spec(source: str, groups: str | None) -> "DataSpec":
    """The DataSpec of --train and --groups."""
    from leadline.data import parse_source

    spec = parse_source(source)
    return spec if groups is None else spec.model_copy(update={"groups": groups})


def numbers(flag: str, text: str) -> list[int]:
    """2,3,4 as a list of numbers."""
    from leadline.errors import LeadlineError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise LeadlineError(f"{flag} takes numbers separated by commas (2,3,4), not {text!r}") from None


def check_overrides(overrides: list[str] | None, parts: str) -> None:
    """Refuse a --set that this command would not look at."""
    from leadline.errors import LeadlineError

    for override in overrides or []:
        if override.partition(".")[0] not in parts.replace(",", "").split():
            raise LeadlineError(f"--set {override}: this command reads the parts {parts} only")


def refuse(flags: list[str], needed: str) -> None:
    """Refuse flags that have no effect without another."""
    from leadline.errors import LeadlineError

    if flags:
        raise LeadlineError(f"{', '.join(flags)} need {needed} beside it: without it the run's own data is used")


def _is_set(field: str, overrides: Sequence[str] | None) -> bool:
    return any(override.partition("=")[0] == field for override in overrides or ())
