"""`leadline theory …`: closed-form denoisers, linearity, smoothness, energy landscapes."""

import typer

from leadline.cli.theory import abstraction, bias_variance, denoisers, experiments, landscape, linearity, smoothness

theory_app = typer.Typer(
    help="Energy landscapes and exact denoisers, beside trained ones.", no_args_is_help=True, rich_markup_mode=None
)
theory_app.command("abstraction", epilog=abstraction.EXAMPLE)(abstraction.abstraction)
theory_app.command("denoisers", epilog=denoisers.EXAMPLE)(denoisers.denoisers)
theory_app.command("linearity", epilog=linearity.EXAMPLE)(linearity.linearity)
theory_app.command("bias-variance", epilog=bias_variance.EXAMPLE)(bias_variance.bias_variance)
theory_app.command("landscape", epilog=landscape.EXAMPLE)(landscape.landscape)
theory_app.command("ls")(experiments.theory_ls)
theory_app.command("run", epilog=experiments.EXAMPLE)(experiments.theory_run)
theory_app.command("smoothness", epilog=smoothness.EXAMPLE)(smoothness.smoothness)
