"""Do samplers bend class shares? An exact denoiser over 180 sixes and 20 nines, whose true share of nines is 10 %.

    python benchmarks/sampler_shares.py [--images 6000]

The denoiser is the multi-delta one (P2 Eq. 4), so nothing is learned and whatever differs from 10 % is the sampler's.
Each image is of the class of its nearest training image. Prints the share with its exact 95 % interval.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from sklearn.datasets import load_digits

from leadline.audit.intervals import clopper_pearson
from leadline.recipe import SampleSpec
from leadline.sampling import sample
from leadline.theory.exact import MultiDeltaDenoiser

SETTINGS = [(name, steps) for name in ("ddim", "euler", "heun", "ancestral") for steps in (25, 50, 250)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=6000)
    number = parser.parse_args().images
    digits = load_digits()
    chosen = np.concatenate([np.flatnonzero(digits.target == 6)[:180], np.flatnonzero(digits.target == 9)[:20]])
    images = torch.from_numpy(digits.images[chosen]).float().unsqueeze(1) / 8 - 1
    nines = torch.from_numpy(digits.target[chosen] == 9)
    denoiser = MultiDeltaDenoiser(images)
    warnings.simplefilter("ignore")
    print(f"{number:,} images a row; the true share of nines is 10.00 %")
    print("| sampler | steps | nines | 95 % interval | off by | s |")
    print("|---|---|---|---|---|---|")
    for name, steps in SETTINGS:
        start, count = time.perf_counter(), 0
        for first in range(0, number, 1000):
            indices = range(first, min(first + 1000, number))
            drawn = sample(denoiser, 0, indices, SampleSpec(sampler=name, steps=steps))
            count += int(nines[torch.cdist(drawn.flatten(1), images.flatten(1)).argmin(1)].sum())
        low, high = clopper_pearson(count, number)
        share = count / number
        print(
            f"| {name} | {steps} | {share:.2%} | {low:.2%} to {high:.2%} | {100 * (share - 0.1):+.2f} points "
            f"| {time.perf_counter() - start:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
