"""The command line: parse, call one verb, print the path. Nothing heavy is imported before it is needed."""

import errno
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leadline.cli.audit import EXAMPLE as AUDIT_EXAMPLE
from leadline.cli.audit import audit
from leadline.cli.console import console, finish, spread
from leadline.cli.flips import EXAMPLE as FLIPS_EXAMPLE
from leadline.cli.flips import flips
from leadline.cli.label import EXAMPLE as LABEL_EXAMPLE
from leadline.cli.label import label
from leadline.cli.plan import EXAMPLE as PLAN_EXAMPLE
from leadline.cli.plan import plan
from leadline.cli.steer import EXAMPLE as STEER_EXAMPLE
from leadline.cli.steer import steer
from leadline.cli.steer_sweep import EXAMPLE, steer_sweep
from leadline.cli.theory import theory_app
from leadline.cli.watch import EXAMPLE as WATCH_EXAMPLE
from leadline.cli.watch import watch
from leadline.options import (
    EXIT_CODES,
    RUNS,
    AllowTorchscript,
    Compare,
    Download,
    Encoders,
    FailIf,
    Out,
    RecipeName,
    Set,
    audit_changes,
    check_overrides,
    find_recipe,
    numbers,
)

if TYPE_CHECKING:
    from leadline.gate import Condition
    from leadline.recipe import Recipe
    from leadline.stages import Permitted

REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EEXIST, errno.ENOTDIR}
"""What the system says when a file may not be read or written, which the person can change."""
INTERRUPTED = 130
STOPPED = "\nleadline: stopped; the same command goes on from here\n"

app = typer.Typer(
    name="leadline",
    help="Measures where a diffusion model stands between memorizing its training data and amplifying its bias.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
presets_app = typer.Typer(help="Recipes that come with leadline.", no_args_is_help=True)
app.add_typer(presets_app, name="presets")
app.add_typer(theory_app, name="theory")


@app.command()
def demo(out: Out = RUNS) -> None:
    """Compare a shallow and a deep model, from data to report.

    Sixes and nines of scikit-learn's digits at 90/10; about 5 minutes on 2 cores, no network. It can be interrupted:
    started again, it goes on where it was.
    """
    from leadline.presets import preset

    run_sweep(preset("digits69"), [2, 4], [0], out)


@app.command(epilog=EXIT_CODES)
def run(
    recipe: RecipeName,
    overrides: Set = None,
    encoders: Encoders = None,
    download: Download = False,
    allow_torchscript: AllowTorchscript = False,
    fail_if: FailIf = None,
    compare: Compare = None,
    out: Out = RUNS,
) -> None:
    """Train, sample, audit and report one recipe.

    Started again, it goes on where it was, or says that it is complete.
    """
    changes = audit_changes(overrides, encoders=encoders)
    wanted = find_recipe(recipe, changes)
    from leadline.experiment import run as run_recipe
    from leadline.judging import read_conditions, read_earlier

    conditions, last = read_conditions(fail_if, wanted.audit), read_earlier(compare)
    with console() as progress:
        networks: Permitted = {"download": download, "allow_torchscript": allow_torchscript}
        found = run_recipe(wanted, out, overrides=changes, progress=progress, **networks)
    finish([found], found.report_file, conditions, last)


@app.command(epilog=EXIT_CODES)
def sweep(
    recipe: RecipeName,
    blocks: Annotated[str, typer.Option(help="Depths, separated by commas.")] = "2,3,4",
    seeds: Annotated[str, typer.Option(help="Training seeds, separated by commas: several runs per depth.")] = "0",
    overrides: Set = None,
    encoders: Encoders = None,
    download: Download = False,
    allow_torchscript: AllowTorchscript = False,
    fail_if: FailIf = None,
    out: Out = RUNS,
) -> None:
    """Run a recipe at several depths and training seeds.

    One report over all, depth on the x axis.
    """
    changes = audit_changes(overrides, encoders=encoders)
    wanted = find_recipe(recipe, changes)
    from leadline.judging import read_conditions

    conditions = read_conditions(fail_if, wanted.audit)
    networks: Permitted = {"download": download, "allow_torchscript": allow_torchscript}
    run_sweep(wanted, numbers("--blocks", blocks), numbers("--seeds", seeds), out, changes, conditions, networks)


@app.command()
def train(recipe: RecipeName, overrides: Set = None, out: Out = RUNS) -> None:
    """Train a recipe's model, and no more.

    Prints the model folder, which diffusers.DiffusionPipeline.from_pretrained opens. On several GPUs:
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

    From a run they are drawn as its own, from a pipeline by the defaults, but for what is given by --set:
    sample.num_images=1000, sample.seed=0, sample.sampler=ddim, sample.steps=50 and so on.
    """
    from leadline.experiment import sample_model

    check_overrides(overrides, "sample")
    with console() as progress:
        sample_model(source, out, overrides or (), progress)
    print(out)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of them, side by side in one page.")],
    out: Annotated[Path, typer.Option(help="The page to write; the JSON lies beside it.")] = Path("report.html"),
) -> None:
    """Write one page over several runs."""
    from leadline.runs import Run, open_runs

    finish([run for folder in runs for run in open_runs(folder) or [Run.open(folder)]], out)


app.command(epilog=f"{AUDIT_EXAMPLE}\n\n{EXIT_CODES}")(audit)
app.command(epilog=f"{LABEL_EXAMPLE}\n\n{EXIT_CODES}")(label)
app.command(epilog=f"{FLIPS_EXAMPLE}\n\n{EXIT_CODES}")(flips)
app.command(epilog=f"{PLAN_EXAMPLE}\n\n{EXIT_CODES}")(plan)
app.command(epilog=f"{STEER_EXAMPLE}\n\n{EXIT_CODES}")(steer)
app.command("steer-sweep", epilog=f"{EXAMPLE}\n\n{EXIT_CODES}")(steer_sweep)
app.command(epilog=f"{WATCH_EXAMPLE}\n\n{EXIT_CODES}")(watch)


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
    recipe: "Recipe",
    blocks: Sequence[int],
    seeds: Sequence[int],
    out: Path,
    overrides: Sequence[str] = (),
    conditions: "Sequence[Condition]" = (),
    networks: "Permitted | None" = None,
) -> None:
    """Depths x training seeds, then one report over all; says so when there was nothing left to do."""
    from leadline.experiment import members, sweep

    recipes = members(recipe, blocks, seeds)
    with console() as progress:
        found = sweep(recipes, out, overrides=overrides, progress=progress, **(networks or {}))
    finish(found, out / f"{recipe.name}-report.html", conditions)


def main(argv: Sequence[str] | None = None, application: Callable[..., object] = app) -> None:
    """Entry point: bad input is printed without a traceback, with exit code 2; Ctrl-C says how to go on."""
    from leadline.errors import LeadlineError

    try:
        application(args=spread(sys.argv[1:] if argv is None else argv), standalone_mode=True)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer turns Ctrl-C into this code, and says nothing
            sys.stderr.write(STOPPED)
        raise
    except LeadlineError as error:
        sys.stderr.write(f"leadline: error: {error}\n")
        sys.exit(2)
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        sys.stderr.write(
            f"leadline: error: {error.filename or 'a file'}: {error.strerror}: see the permissions and the room there, "
            "or choose another place (--out); what was complete is kept\n"
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write(STOPPED)
        sys.exit(INTERRUPTED)
