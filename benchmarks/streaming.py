"""How much memory do large inputs take? Peak anonymous memory beyond the start, in one process per case.

    python benchmarks/streaming.py [--rows 200000] [--files 100000]

neighbours: 10 nearest of 64 queries in 200,000 × 12,288 uint8 of noise in a memory map (2.4 GB), three of them
planted. folder: 100,000 JPEG files of 64×64 (links to 500 pictures) audited for memorization against 2,000 others.
Anonymous memory (RssAnon) is what a process holds itself; pages of mapped files, which the system may drop at any
time, are not in it. Linux only.
"""

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

DIMENSION = 3 * 64 * 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--files", type=int, default=100_000)
    arguments = parser.parse_args()
    print("| case | input, MB | peak beyond the start, MB | s |\n|---|---|---|---|")
    for case, number in ((neighbours, arguments.rows), (folder, arguments.files)):
        with tempfile.TemporaryDirectory() as place, multiprocessing.get_context("spawn").Pool(1) as pool:
            peak, seconds = pool.apply(measured, (case, Path(place), number))
        size = number * DIMENSION / 1e6
        print(f"| {case.__name__}, {number:,} | {size:,.0f} | {peak / 1e6:,.0f} | {seconds:.0f} |", flush=True)


def measured(case: Callable[[Path, int], Callable[[], object]], place: Path, number: int) -> tuple[int, float]:
    """Peak of RssAnon above its value at the start, and seconds, of the work that `case` prepares."""
    work = case(place, number)
    start, peak, done = resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], resident() - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    work()
    done.set()
    watcher.join()
    return peak[0], time.perf_counter() - began


def resident() -> int:
    """Bytes of anonymous memory of this process."""
    lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def neighbours(place: Path, number: int) -> Callable[[], object]:
    from leadline.audit.neighbors import nearest_neighbors

    generator = np.random.default_rng(0)
    vectors = np.memmap(place / "reference", dtype=np.uint8, mode="w+", shape=(number, DIMENSION))
    for start in range(0, number, 2000):
        vectors[start : start + 2000] = generator.integers(
            0, 256, (min(2000, number - start), DIMENSION), dtype=np.uint8
        )
    planted = [0, number // 2, number - 1]
    vectors[planted] = queries = generator.integers(0, 256, (3, DIMENSION), dtype=np.uint8)
    asked = np.concatenate([queries, generator.integers(0, 256, (61, DIMENSION), dtype=np.uint8)])

    def work() -> None:
        _, indices = nearest_neighbors(asked, vectors, 10)
        if indices[:3, 0].tolist() != planted:
            raise AssertionError("the planted vectors were not found")

    return work


def folder(place: Path, number: int) -> Callable[[], object]:
    import leadline
    from leadline.data import load_images
    from leadline.recipe import AuditSpec

    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (500, 64, 64, 3), dtype=np.uint8)
    (place / "pictures").mkdir()
    (place / "samples").mkdir()
    files = [place / "pictures" / f"{index}.jpg" for index in range(len(pictures))]
    for file, pixels in zip(files, pictures, strict=True):
        Image.fromarray(pixels).save(file, quality=90)
    for index in range(number):
        os.link(files[index % len(files)], place / "samples" / f"{index:06d}.jpg")
    training = generator.integers(0, 256, (2000, 3, 64, 64), dtype=np.uint8)
    spec = AuditSpec(metrics=("memorization",))

    def work() -> None:
        samples = load_images(str(place / "samples"))
        leadline.measure(samples, training, spec=spec)

    return work


if __name__ == "__main__":
    main()
