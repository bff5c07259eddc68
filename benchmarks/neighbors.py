"""Exact nearest neighbours against faiss, the bare matrix product and scikit-learn; and from a memory map.

    OMP_NUM_THREADS=2 python benchmarks/neighbors.py [--reference 100000] [--queries 1000] [--dimension 2048] [--runs 5]
    OMP_NUM_THREADS=1 python benchmarks/neighbors.py --memory-map

The first: k = 10 in random normal vectors with planted duplicates. Every round runs each contender once, one after the
other, so that whatever else the machine does hits all alike; ratios are medians of the rounds' own ratios. faiss is
timed without and with the copy of the vectors into its index. The second: 8 queries, k = 10, in 200,000 × 12,288
bytes of a sparse file, and the most memory held beyond the file's own pages.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from leadline.audit.neighbors import nearest_neighbors

K = 10
MAP_SHAPE = (200_000, 3, 64, 64)
TILES = (1000, 4000, 8192, 100_000)
CHECKED = 50
"""Queries compared with scikit-learn in float64; ties are compared by distance."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("reference", 100_000), ("queries", 1000), ("dimension", 2048), ("runs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--memory-map", action="store_true")
    arguments = parser.parse_args()
    if arguments.memory_map:
        from_memory_map()
    else:
        speed(arguments.reference, arguments.queries, arguments.dimension, arguments.runs)


def speed(n: int, q: int, dimension: int, runs: int) -> None:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    generator = np.random.default_rng(0)
    reference = generator.standard_normal((n, dimension), dtype=np.float32)
    queries = generator.standard_normal((q, dimension), dtype=np.float32)
    reference[n // 2 : n // 2 + 20] = reference[0]
    queries[:10], queries[10:20] = reference[:10], reference[n // 2]
    index = faiss.IndexFlatL2(dimension)
    index.add(reference)

    def faiss_with_add() -> None:
        fresh = faiss.IndexFlatL2(dimension)
        fresh.add(reference)
        fresh.search(queries, K)

    def in_float32() -> None:
        with patch("leadline.audit.vectors.has_fast_bfloat16", return_value=False):
            nearest_neighbors(queries, reference, K)

    contenders: dict[str, Callable[[], object]] = {
        "leadline": lambda: nearest_neighbors(queries, reference, K),
        "leadline, float32 selection": in_float32,
        "faiss search": lambda: index.search(queries, K),
        "faiss add and search": faiss_with_add,
        **{f"product, tiles of {tile:,}": product(queries, reference, tile) for tile in TILES if tile <= n},
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, contender in contenders.items():  # in turn, so that a busy moment hits all alike
            start = time.perf_counter()
            contender()
            seconds[name].append(time.perf_counter() - start)
    for name in [name for name in seconds if name.startswith("product")]:
        print(f"{name}: {median(seconds[name]):.2f} s")
    seconds["product"] = [min(row) for row in zip(*(v for k, v in seconds.items() if "tiles" in k), strict=True)]
    work = 2 * n * q * dimension / 1e9
    print(f"{q:,} queries in {n:,} × {dimension}, k = {K}, {torch.get_num_threads()} threads, {runs} rounds")
    print("| | median s | GFLOP/s | time, in leadline's |\n|---|---|---|---|")
    for name in ("leadline", "leadline, float32 selection", "faiss search", "faiss add and search", "product"):
        ratio = median(other / own for other, own in zip(seconds[name], seconds["leadline"], strict=True))
        print(f"| {name} | {median(seconds[name]):.2f} | {work / median(seconds[name]):.0f} | {ratio:.2f} |")
    compare_with_scikit_learn(queries[:CHECKED], reference)


def product(queries: np.ndarray, reference: np.ndarray, tile: int) -> Callable[[], None]:
    """The matrix product of all queries with all vectors, `tile` vectors at a time, into one buffer."""
    first, second = torch.from_numpy(queries), torch.from_numpy(reference)
    room = torch.empty(len(first), tile)

    def run() -> None:
        for part in second.split(tile):
            torch.mm(first, part.T, out=room if len(part) == tile else room.new_empty(len(first), len(part)))

    return run


def compare_with_scikit_learn(queries: np.ndarray, reference: np.ndarray) -> None:
    """Stops with a message where an index differs and is no tie."""
    values, found = nearest_neighbors(queries, reference, K)
    theirs = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(reference)
    differing = 0
    for start in range(0, len(queries), 10):
        indices = theirs.kneighbors(queries[start : start + 10], return_distance=False)
        for row, expected in enumerate(indices, start):
            strange = np.flatnonzero(found[row] != expected)
            wide = reference[expected[strange]].astype(np.float64) - queries[row]
            differing += int((np.linalg.norm(wide, axis=1) != values[row, strange]).sum())
    print(f"scikit-learn (brute), {len(queries)} queries: {differing} indices differ, ties aside")
    sys.exit(1 if differing else 0)


def from_memory_map() -> None:
    """Planted rows in a sparse file are found; prints seconds and the peak of memory that is no file page."""
    with tempfile.TemporaryDirectory() as folder:
        reference = np.memmap(Path(folder) / "reference", dtype=np.uint8, mode="w+", shape=MAP_SHAPE)
        generator = np.random.default_rng(0)
        planted = generator.integers(20, 236, (8, 1, *MAP_SHAPE[1:]))
        near = planted + generator.integers(-9, 10, (8, 2 * K, *MAP_SHAPE[1:]))
        near[:, 0] = planted[:, 0]
        places = np.linspace(0, len(reference) - 1, 16 * K).astype(int).reshape(8, -1)
        reference[places] = near
        queries = planted[:, 0].astype(np.uint8)
        reference.flush()
        before, peak, done = anonymous_bytes(), 0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.01):
                peak = max(peak, anonymous_bytes())

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        distances, indices = nearest_neighbors(queries, reference, K)
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    found = (indices[:, 0] == places[:, 0]).all() and not distances[:, 0].any()
    found &= all(np.isin(row, own).all() for row, own in zip(indices, places, strict=True))
    print(
        f"{len(queries)} queries in {MAP_SHAPE[0]:,} × {np.prod(MAP_SHAPE[1:]):,} bytes, "
        f"{torch.get_num_threads()} threads: {seconds:.0f} s, {(peak - before) / 2**20:.0f} MiB beyond the map, "
        f"planted rows {'found' if found else 'NOT FOUND'}"
    )
    sys.exit(0 if found else 1)


def anonymous_bytes() -> int:
    """Memory of this process that is no page of a file (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    main()
