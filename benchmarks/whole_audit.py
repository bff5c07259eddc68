"""What does an audit cost beside its networks? A whole audit against its bare decodes and forward passes.

    python benchmarks/whole_audit.py [--images 10000] [--encoder squeezenet:FILE] [--encoder lpips-vgg:FILE] …

Faces of CelebA at 64×64 ($LEADLINE_DATA; where it is not set, random images) lie in folders of JPEG files: half of
them samples, four tenths training, one tenth held out. The bare cost is decoding every file to 64×64 with Pillow and
one forward pass of every network over every image that the audit shows it, in the same batches, timed over a fifth of
the images and scaled. Prints both, and the ratio, of one run.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import leadline
from leadline.audit.encoders import load_encoder
from leadline.audit.features import Encoder, TappedEncoder
from leadline.data import load, load_images
from leadline.progress import ConsoleProgress
from leadline.recipe import AuditSpec, DataSpec

SIZE = 64
PARTS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--encoder", action="append", required=True, metavar="NAME:WEIGHTS")
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parts = written(Path(folder), arguments.images)
        print(f"{arguments.images:,} images of {SIZE}×{SIZE}, {torch.get_num_threads()} threads")
        print("| networks | decode, s | forward passes, s | whole audit, s | ratio |\n|---|---|---|---|---|")
        cpu = torch.device("cpu")
        encoders = [load_encoder(text, shape=(3, SIZE, SIZE), device=cpu) for text in arguments.encoder]
        for _ in range(arguments.repeats):
            decode = timed(lambda: [decoded(file) for files in parts.values() for file in files.iterdir()])
            forward = PARTS * timed(lambda: passes(encoders, arguments.images // PARTS))
            whole = timed(lambda: audit(parts, arguments.encoder))
            names = ", ".join(text.partition(":")[0] for text in arguments.encoder)
            print(f"| {names} | {decode:.1f} | {forward:.1f} | {whole:.1f} | {whole / (decode + forward):.3f} |")


def written(folder: Path, number: int) -> dict[str, Path]:
    """JPEG files in three folders."""
    try:
        faces = load(DataSpec(dataset="celeba", image_size=None, num_images=number)).train.pixels
    except leadline.LeadlineError:
        faces = np.random.default_rng(0).integers(0, 256, (number, 3, 109, 89), dtype=np.uint8)
    ends = {"samples": number // 2, "training": number * 9 // 10, "held_out": number}
    start, parts = 0, {}
    for name, stop in ends.items():
        parts[name] = folder / name
        parts[name].mkdir()
        for index in range(start, stop):
            Image.fromarray(faces[index].transpose(1, 2, 0)).save(parts[name] / f"{index:05d}.jpg", quality=90)
        start = stop
    return parts


def decoded(file: Path) -> np.ndarray:
    """A file at the audit's size, by Pillow alone."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def passes(encoders: list[Encoder], number: int) -> None:
    """Every network over the images that the audit shows it, in its own batches, and nothing kept.

    LPIPS is told of samples and training images alone, nine tenths of all.
    """
    images = torch.rand(256, 3, SIZE, SIZE).mul(2).sub(1).numpy()
    for encoder in encoders:
        batch = images[: encoder.batch_size]
        shown = number if encoder.outputs else number * 9 // 10
        for _ in range(-(-shown // len(batch))):
            if isinstance(encoder, TappedEncoder):
                encoder.encode_with_taps(batch)
            else:
                encoder.encode(batch)


def audit(parts: dict[str, Path], encoders: list[str]) -> None:
    """The audit, from the folders to the last number, nothing cached."""
    with ConsoleProgress() as progress:
        training = load(DataSpec(dataset="folder", path=str(parts["training"]), image_size=SIZE), progress)
        samples, held_out = (load_images(str(parts[name]), training.train) for name in ("samples", "held_out"))
        spec = AuditSpec(metrics=("memorization", "diversity", "fidelity"), encoders=tuple(encoders))
        leadline.measure(samples, training, held_out=held_out, spec=spec, progress=progress)


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
