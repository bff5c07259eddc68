"""The command line: parse, call one verb, print the path. Nothing heavy is imported before it is needed.

Exit codes: 0 done; 1 a fault in leadline; 2 bad input (the message says what to change); 130 interrupted.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from leadline.progress import ConsoleProgress
    from leadline.recipe import DataSpec, Recipe
    from leadline.runs import Run

app = typer.Typer(
    name="leadline",
    help="Measures where a diffusion model stands between memorizing its training data and amplifying its bias.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
presets_app = typer.Typer(help="Recipes that come with leadline.", no_args_is_help=True)
app.add_typer(presets_app, name="presets")

Out = Annotated[Path, typer.Option("--out", help="Folder of the run folders.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a field: train.steps=4000.")]
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a preset, or a recipe's JSON file.")]
RUNS = Path("runs")


@app.command()
def demo(out: Out = RUNS) -> None:
    """Compare a shallow and a deep model, from data to report.

    Sixes and nines of scikit-learn's digits at 90/10; about 5 minutes on 2 cores, no network. It can be interrupted:
    started again, it goes on where it was.
    """
    from leadline.presets import preset

    run_sweep(preset("digits69"), [2, 4], [0], out)


@app.command()
def run(
    recipe: RecipeName,
    overrides: Set = None,
    out: Out = RUNS,
) -> None:
    """Train, sample, audit and report one recipe.

    Started again, it goes on where it was, or says that it is complete.
    """
    wanted = find_recipe(recipe, overrides)
    from leadline.experiment import run as run_recipe

    with console() as progress:
        found = run_recipe(wanted, out, overrides=overrides or [], progress=progress)
    finish([found], found.report_file)


@app.command()
def sweep(
    recipe: RecipeName,
    blocks: Annotated[str, typer.Option(help="Depths, separated by commas.")] = "2,3,4",
    seeds: Annotated[str, typer.Option(help="Training seeds, separated by commas: several runs per depth.")] = "0",
    overrides: Set = None,
    out: Out = RUNS,
) -> None:
    """Run a recipe at several depths and training seeds.

    One report over all, depth on the x axis.
    """
    run_sweep(find_recipe(recipe, overrides), numbers("--blocks", blocks), numbers("--seeds", seeds), out, overrides)


@app.command()
def train(recipe: RecipeName, overrides: Set = None, out: Out = RUNS) -> None:
    """Train a recipe's model, and no more.

    Prints the model folder, which diffusers.DDPMPipeline.from_pretrained opens. On several GPUs:
    accelerate launch -m leadline train RECIPE.
    """
    wanted = find_recipe(recipe, overrides)
    from leadline.experiment import run as run_recipe

    with console() as progress:
        found = run_recipe(wanted, out, until="train", overrides=overrides or [], progress=progress)
    print(found.model_folder)


@app.command()
def sample(
    source: Annotated[Path, typer.Argument(help="A run folder or a diffusers pipeline folder.")],
    out: Annotated[Path, typer.Option(help="Folder for the images (Parquet shards).")],
    overrides: Set = None,
) -> None:
    """Draw images from a run's or a pipeline's model.

    Options by --set: sample.num_images=1000, sample.seed=0, sample.sampler=ddim, sample.steps=50.
    """
    from leadline.experiment import sample_model
    from leadline.recipe import Recipe, with_overrides

    check_overrides(overrides, "sample")
    with console() as progress:
        sample_model(source, out, with_overrides(Recipe(), overrides or []).sample, progress)
    print(out)


@app.command()
def audit(
    samples: Annotated[
        Path, typer.Argument(help="A run, a folder of images, Parquet, or a diffusers pipeline folder.")
    ],
    training: Annotated[
        str | None, typer.Option("--train", metavar="DATA", help="Training data: digits, mnist:PATH, a path, hf:NAME.")
    ] = None,
    groups: Annotated[
        str | None, typer.Option(help="Column with the classes, an attribute, or a product: Blond_Hair*Male.")
    ] = None,
    held_out: Annotated[
        str | None, typer.Option(metavar="DATA", help="Real images that the model was not trained on.")
    ] = None,
    labeler: Annotated[
        str | None, typer.Option(metavar="DATA", help="Labelled images, not of the training data, for the labeler.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labels of the samples: a CSV or JSON, instead of a labeler.")
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="Which metrics, separated by commas.")] = None,
    overrides: Set = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the audit; default: runs/audit-NAME, or the run.")] = None,
) -> None:
    """Measure images against the training data.

    Bias, memorization, diversity, and the report. Options by --set: audit.level=0.99, data.classes=6,9 and so on.
    """
    from leadline.recipe import Recipe, with_overrides

    check_overrides(overrides, "audit" if training is None else "audit, data or sample")
    changes = [*(overrides or []), *([f"audit.metrics={metrics}"] if metrics else [])]
    foreign = {"--groups": groups, "--held-out": held_out, "--labeler": labeler, "--labels": labels}
    if training is None:
        refuse([name for name, value in foreign.items() if value is not None], "--train DATA")
    from leadline.experiment import audit_images, audit_run

    with console() as progress:
        if training is None:
            found = audit_run(samples, changes, progress)
        else:
            whole = with_overrides(Recipe(data=data_spec(training, groups)), changes)
            found = audit_images(
                samples,
                out or RUNS / f"audit-{samples.resolve().name}",
                train=whole.data,
                held_out=held_out,
                labeler=labeler,
                labels=labels,
                spec=whole.audit,
                sample=whole.sample,
                progress=progress,
            )
    finish([found], found.report_file)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of them, side by side in one page.")],
    out: Annotated[Path, typer.Option(help="The page to write; the JSON lies beside it.")] = Path("report.html"),
) -> None:
    """Write one page over several runs."""
    from leadline.runs import Run, open_runs

    finish([run for folder in runs for run in open_runs(folder) or [Run.open(folder)]], out)


@presets_app.command("ls")
def presets_ls() -> None:
    """List the presets."""
    from leadline.presets import preset, preset_names

    for name in preset_names():
        print(f"{name:22} {preset(name).description}")


@presets_app.command("show")
def presets_show(name: str) -> None:
    """Print a preset as JSON."""
    from leadline.presets import preset

    print(preset(name).model_dump_json(indent=1))


@presets_app.command("cp")
def presets_cp(name: str, file: Path) -> None:
    """Copy a preset to a JSON file, to change it and give it to `leadline run`."""
    from leadline.errors import LeadlineError
    from leadline.presets import preset

    content = preset(name).model_dump_json(indent=1)
    if file.exists():
        raise LeadlineError(f"{file} exists already: choose another name, or remove it first")
    file.write_text(content + "\n", encoding="utf-8")
    print(file)


def run_sweep(
    recipe: "Recipe", blocks: Sequence[int], seeds: Sequence[int], out: Path, overrides: list[str] | None = None
) -> None:
    """Depths x training seeds, then one report over all; says so when there was nothing left to do."""
    from leadline.experiment import members, sweep

    recipes = members(recipe, blocks, seeds)
    with console() as progress:
        found = sweep(recipes, out, overrides=overrides or [], progress=progress)
    finish(found, out / f"{recipe.name}-report.html")


def finish(runs: "Sequence[Run]", page: Path) -> None:
    """Write the report, print the answer and, last, the page's path."""
    import json

    from leadline.report import build

    build(runs, page)
    for finding in json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["headlines"]:
        print(finding["headline"])
    print(page)


def find_recipe(name: str, overrides: list[str] | None) -> "Recipe":
    """A preset by name, or a recipe from a JSON file, with the overrides applied."""
    import json

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


def console() -> "ConsoleProgress":
    """Progress on stderr; warnings as one line."""
    from leadline.progress import ConsoleProgress
    from leadline.runs import is_main_process

    def show(message: Warning | str, *_: object) -> None:
        sys.stderr.write(f"leadline: warning: {message}\n")

    warnings.showwarning = show  # type: ignore[assignment]
    return ConsoleProgress(quiet=not is_main_process())


def main(argv: Sequence[str] | None = None, application: Callable[..., object] = app) -> None:
    """Entry point: bad input is printed without a traceback, with exit code 2; Ctrl-C says how to go on."""
    from leadline.errors import LeadlineError

    try:
        application(args=list(argv) if argv is not None else None, standalone_mode=True)
    except LeadlineError as error:
        sys.stderr.write(f"leadline: error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("\nleadline: stopped; the same command goes on from here\n")
        sys.exit(130)
