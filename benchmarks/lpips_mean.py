"""Mean LPIPS over all pairs: Leadline's one pass per image against the lpips package on every pair, same network.

Both are given the same images and module. Over N images the package has N(N-1)/2 pairs to compare, which would take
hours: it is timed on the 2,016 pairs of the first 64 images, and the time of a pair is scaled. Leadline is timed over
all N, interval included. The two take turns, a part of the pairs at each, and the ratio is the median over turns: a
drift of the machine's speed touches both. The package's mean over those pairs is compared with Leadline's over the
same 64 images. The trunk's weights are random (pnet_rand), the heads LPIPS's own: neither the time nor whether the
results are equal depends on what the weights are.

Images: the first of CelebA at 64x64 where LEADLINE_DATA names a folder with it, else smooth random fields.

    python benchmarks/lpips_mean.py [--images 1000] [--turns 3] [--compared 64] [--batch 32] [--nets alex vgg]
"""

import argparse
import itertools
import os
import platform
import time
import warnings
from pathlib import Path
from statistics import median

import lpips
import numpy as np
import torch

from leadline.audit.diversity import mean_pairwise_lpips
from leadline.data.loading import load
from leadline.fitting import device_name
from leadline.recipe import DataSpec

SIZE = 64


def images_of(n: int) -> tuple[torch.Tensor, str]:
    """float [n, 3, 64, 64] in [-1, 1], and what they are."""
    folder = os.environ.get("LEADLINE_DATA")
    if folder and (Path(folder) / "celeba10k").is_dir():
        spec = DataSpec(dataset="celeba", num_images=n, image_size=SIZE, fit="crop", labeler=0)
        return torch.from_numpy(load(spec).train.images()), "CelebA"
    noise = torch.randn(n, 3, SIZE // 8, SIZE // 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, SIZE, mode="bicubic").tanh(), "smooth random fields"


def network(net: str, device: torch.device) -> lpips.LPIPS:
    with warnings.catch_warnings():  # torchvision's, of an argument that lpips still passes
        warnings.simplefilter("ignore")
        return lpips.LPIPS(net=net, pnet_rand=True, verbose=False).to(device)


@torch.inference_mode()
def of_pairs(model: lpips.LPIPS, images: torch.Tensor, pairs: np.ndarray, batch: int) -> list[float]:
    """The package's distances of pairs [p, 2], `batch` at a time."""
    batches = (images[part].unbind(1) for part in torch.from_numpy(pairs).split(batch))
    return [distance for first, second in batches for distance in model(first, second).flatten().tolist()]


def compare(net: str, images: torch.Tensor, options: argparse.Namespace) -> str:
    """One row of the table."""
    n = len(images)
    model = network(net, images.device)
    mean_pairwise_lpips(images[: options.batch], model, batch_size=options.batch)  # the first call is slower
    pairs = np.array(list(itertools.combinations(range(options.compared), 2)))
    distances: list[float] = []
    times: list[tuple[float, float]] = []
    for part in np.array_split(np.random.default_rng(0).permutation(pairs), options.turns):
        start = time.perf_counter()
        mean_pairwise_lpips(images, model, batch_size=options.batch)
        middle = time.perf_counter()
        distances += of_pairs(model, images, part, options.batch)
        times.append((middle - start, (time.perf_counter() - middle) / len(part)))
    ours = mean_pairwise_lpips(images[: options.compared], model, batch_size=options.batch).value
    whole, pair = (median(column) for column in zip(*times, strict=True))
    ratio = median(theirs * n * (n - 1) / 2 / ours for ours, theirs in times)
    return (
        f"| {net} | {n:,} | {whole:.1f} | {pair * 1e3:.2f} | {pair * n * (n - 1) / 2:,.0f} | {ratio:,.0f} "
        f"| {ratio / (n - 1):.2f} | {abs(ours / np.mean(distances) - 1):.1e} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("--images", 1000), ("--turns", 3), ("--compared", 64), ("--batch", 32)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--nets", nargs="+", default=["alex", "vgg"], choices=["alex", "vgg", "squeeze"])
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, kind = images_of(options.images)
    images = images.to(device)
    print(
        f"{device_name(device)}, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"{kind} at {SIZE}x{SIZE}, batches of {options.batch}, median of {options.turns} turns, random trunks\n"
    )
    print(
        "| network | images | Leadline, all pairs, s | package, ms per pair | package, all pairs (scaled), s | ratio "
        f"| ratio / (N-1) | relative difference at {options.compared} |\n|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    for net in options.nets:
        print(compare(net, images, options), flush=True)


if __name__ == "__main__":
    main()
