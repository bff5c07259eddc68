"""Draw the guide's schedules over the steps that four samplers take of Stable Diffusion's noise levels.

.venv/bin/python docs/schedules.py docs/images/schedules.png
"""

import argparse
from pathlib import Path

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from matplotlib import pyplot

from leadline import bump, constant, plot_schedule, ramp, window

LEVELS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
"""Stable Diffusion's."""
SCHEDULES = [constant(0.25), ramp(0.0, 0.6) & window(sigma_max=5.0, sigma_min=0.5), bump(0.8)]
ROWS = (
    ("DDIM, 20 steps", DDIMScheduler(**LEVELS, steps_offset=1), 1.0),
    ("Euler on Karras' levels, 20 steps", EulerDiscreteScheduler(**LEVELS, use_karras_sigmas=True), 1.0),
    ("DPM-Solver++, 20 steps", DPMSolverMultistepScheduler(**LEVELS), 1.0),
    ("image-to-image with DDIM, the last half of 20 steps", DDIMScheduler(**LEVELS, steps_offset=1), 0.5),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    figure, rows = pyplot.subplots(len(ROWS), figsize=(8, 9.5), sharex=True, layout="constrained")
    for axes, (name, scheduler, init_strength) in zip(rows, ROWS, strict=True):
        plot_schedule(SCHEDULES, scheduler, 20, init_strength=init_strength, ax=axes)
        axes.set_title(name, loc="left", fontsize="medium")
        if axes is not rows[-1]:
            axes.get_legend().remove()
            axes.set_xlabel("")
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.picture, dpi=100)


if __name__ == "__main__":
    main()
