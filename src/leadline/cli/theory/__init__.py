"""`leadline theory …`: closed-form denoisers, linearity, smoothness, energy landscapes."""

import typer

theory_app = typer.Typer(
    help="Energy landscapes and exact denoisers, beside trained ones.", no_args_is_help=True, rich_markup_mode=None
)
