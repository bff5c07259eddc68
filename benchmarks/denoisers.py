"""The multi-delta denoiser against the bare matrix products of its sizes, and against the usual three lines of torch.

D(x; sigma) needs two products: of the queries with the images, and of the weights with the images. Its rate counts both
(4 q n d operations), also at the noise levels where it can do without the second. All contenders take turns in one run,
and ratios are taken within a round, so that a busy moment hits all alike.

    python benchmarks/denoisers.py [--images 60000] [--values 1024] [--queries 256] [--rounds 7]

Targets: at least 0.5 of the rate of the bare products at every noise level, and at 4 N images on a disk at most 1.5
times the memory of N; the exit code is 1 where one is missed. A level marked * needs one product alone, its rate is
above what two would have. Beside the rate the largest error of the
nearest image's weight, of both, against direct differences in float64.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import torch

from leadline.theory.exact import MultiDeltaDenoiser
from leadline.theory.exact.streams import LOGIT_ERROR, _Points, _product_error

SIGMAS = (0.002, 0.116, 0.469, 1.501, 4.06, 80.0)
TILES = (2048, 8192, 10**9)
"""Images per product: the bare products are granted the best of these."""
FACTORS = 40
CHECKED = 8
TARGET = 0.5
MOST_MEMORY = 1.5
"""Of 4 N images, in that of N."""


def images_like_photographs(n: int, d: int) -> torch.Tensor:
    """Images in [-1, 1] that vary along a few directions, as real ones do; the first half has near-duplicates."""
    stream = torch.Generator().manual_seed(0)
    factors = torch.randn(FACTORS, d, generator=stream) * torch.linspace(0.3, 0.02, FACTORS)[:, None]
    data = (torch.randn(n, FACTORS, generator=stream) @ factors - 0.3).clamp_(-1, 1)
    half = n // 2
    data[half : 2 * half] = data[:half] + 1e-4
    return data


def products(x: torch.Tensor, data: torch.Tensor, tile: int) -> Callable[[], None]:
    """Queries times images and weights times images, `tile` images at a time, and nothing else."""
    tile = min(tile, len(data))
    room, total = torch.empty(len(x), tile), torch.zeros_like(x)

    def run() -> None:
        total.zero_()
        for part in data.split(tile):
            weights = torch.mm(x, part.T, out=room if len(part) == tile else room.new_empty(len(x), len(part)))
            total.addmm_(weights, part)

    return run


def weights_in_one(x: torch.Tensor, data: torch.Tensor, sigma: float) -> torch.Tensor:
    """P2 Eq. 4's weights as they are usually written: all distances at once, by the expanded square."""
    squared = torch.cdist(x, data, compute_mode="use_mm_for_euclid_dist").square()
    return torch.softmax(-squared / (2 * sigma**2), dim=1)


def largest_weights(x: torch.Tensor, data: torch.Tensor, sigma: float) -> torch.Tensor:
    """Of the nearest image of each query, by direct differences in float64."""
    largest = []
    for query in x.double():
        squared = torch.cat([(part.double() - query).square_().sum(1) for part in data.split(2048)])
        largest.append(torch.softmax(-squared / (2 * sigma**2), dim=0).max())
    return torch.stack(largest)


def one_product(denoiser: MultiDeltaDenoiser, x: torch.Tensor, sigma: float) -> bool:
    """Whether every query is answered by the images that carry its weight, without the product of the weights."""
    wide, tau = x.double(), torch.full((len(x),), 2 * sigma**2, dtype=torch.float64)
    points = _Points(wide, wide - denoiser.reference.center, tau)
    return not (_product_error(denoiser.reference, points) <= LOGIT_ERROR * tau).any()


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def at_level(sigma: float, data: torch.Tensor, denoiser: MultiDeltaDenoiser, queries: int, rounds: int) -> bool:
    """Prints the row of one noise level; whether the target is met."""
    stream = torch.Generator().manual_seed(1)
    clean = data[torch.randint(len(data) // 2, (queries,), generator=stream)]
    x = clean + sigma * torch.randn(clean.shape, generator=stream)
    as_images = x.reshape(queries, *denoiser.shape)
    bare = [products(x, data, tile) for tile in TILES]
    contenders: list[Callable[[], object]] = [
        lambda: denoiser(as_images, sigma),
        lambda: weights_in_one(x, data, sigma) @ data,
        *bare,
    ]
    for contender in contenders:  # warm-up
        contender()
    times = np.array([[seconds(contender) for contender in contenders] for _ in range(rounds)])
    ratios = times[:, 2:].min(1) / times[:, 0]
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    rate = 4 * queries * data.numel() / median(times[:, 0].tolist()) / 1e9
    exact = largest_weights(x[:CHECKED], data, sigma)
    own = denoiser.neighbors(as_images[:CHECKED], sigma).weights[:, 0]
    theirs = weights_in_one(x[:CHECKED], data, sigma).amax(1)
    wrong, theirs_wrong = (float((found - exact).abs().max()) for found in (own, theirs))
    mark = "*" if one_product(denoiser, x, sigma) else ""
    print(
        f"| {sigma:g}{mark} | {middle:.2f} ({low:.2f} to {high:.2f}) | {rate:.0f} "
        f"| {median((times[:, 1] / times[:, 0]).tolist()):.2f} | {wrong:.1e} | {theirs_wrong:.1e} |"
    )
    return bool(middle >= TARGET)


def memory(images: int, queries: int, shape: tuple[int, int, int]) -> float:
    """MiB that the denoiser takes beyond the queries, built and called, of `images` images of bytes on a disk."""
    with tempfile.TemporaryDirectory() as folder:
        data = np.memmap(Path(folder) / "images", dtype=np.uint8, mode="w+", shape=(images, *shape))
        data[:: max(1, images // 100)] = 200
        data.flush()
        x = torch.randn(queries, *shape, generator=torch.Generator().manual_seed(2))
        before = peak = anonymous_bytes()
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.005):
                peak = max(peak, anonymous_bytes())

        watcher = threading.Thread(target=watch)
        watcher.start()
        denoiser = MultiDeltaDenoiser(data)
        for sigma in SIGMAS:
            denoiser(x, sigma)
        done.set()
        watcher.join()
    return (peak - before) / 2**20


def alone(work: Callable[..., float], *arguments: object) -> float:
    """work(*arguments) in a process of its own: no memory there is left over from work before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def anonymous_bytes() -> int:
    """Memory of this process that is no page of a file (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--values", type=int, default=1024, help="per image")
    parser.add_argument("--queries", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    shape = (1, 1, options.values)
    data = images_like_photographs(options.images, options.values)
    denoiser = MultiDeltaDenoiser(data.reshape(-1, *shape))
    print(
        f"{options.queries} queries, {options.images:,} × {options.values:,} float32, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, {options.rounds} rounds"
    )
    print("rate of the denoiser in the bare products' (median, quartiles); time of three lines of torch in its own")
    print("| sigma | rate / products | GFLOP/s | three lines, time | weight's error | three lines' |")
    print("|---|---|---|---|---|---|")
    met = [at_level(sigma, data, denoiser, options.queries, options.rounds) for sigma in SIGMAS]
    print(f"target >= {TARGET:g} at every level: {'met' if all(met) else 'MISSED'}")
    del data, denoiser
    few, many = (alone(memory, n, options.queries, shape) for n in (options.images, 4 * options.images))
    small = many <= MOST_MEMORY * few
    print(
        f"memory at N and 4 N images on a disk: {few:.0f} and {many:.0f} MiB, ratio {many / few:.2f}, target <= "
        f"{MOST_MEMORY:g}: {'met' if small else 'MISSED'}"
    )
    sys.exit(0 if all(met) and small else 1)


if __name__ == "__main__":
    main()
