"""One training step of Leadline against the loop of diffusers' train_unconditional.py, same model, batch and device.

The peer's loop is written out here from that script's calls (Accelerate, add_noise, mse_loss, clip_grad_norm_, AdamW,
a cosine schedule, EMAModel with its default options, a DataLoader), without its logging, so that both pay for training
alone. The two take turns in one run, block by block, and the ratio is the median over pairs of blocks: a drift of the
machine's speed touches both.

    python benchmarks/training_step.py [--blocks 2] [--size 16] [--batch 64] [--pairs 15] [--steps 4]
"""

import argparse
import itertools
import platform
import time
from collections.abc import Iterator

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from leadline.fitting import device_name, learning_rate, prefetch
from leadline.models.unet import depth_unet
from leadline.recipe import ModelSpec, TrainSpec
from leadline.records import ImageSet
from leadline.training import make_batch, make_trainer


def images_of(size: int) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (2048, 1, size, size), dtype=np.uint8)
    return ImageSet(name="noise", pixels=pixels)


def ours(blocks: int, images: ImageSet, batch: int) -> Iterator[None]:
    """Leadline's step, its batches and its reading of the loss included."""
    spec = TrainSpec(steps=100_000, batch_size=batch, precision="fp32")
    trainer = make_trainer(ModelSpec(blocks=blocks), spec, images)
    trainer.model.train()
    every = 1 if trainer.accelerator.device.type == "cpu" else 20
    for step, made in enumerate(prefetch(lambda s: make_batch(images, spec, s), 0, spec.steps)):
        trainer.step(made, learning_rate(spec, step))
        if step % every == 0:
            float(torch.stack(trainer.pending).sum())
            trainer.pending.clear()
        yield


def theirs(blocks: int, images: ImageSet, batch: int) -> Iterator[None]:
    """The loop of train_unconditional.py (diffusers), ema and clipping on, one loss read per step as it does."""
    accelerator = Accelerator(mixed_precision="no")
    torch.manual_seed(0)
    model = depth_unet(blocks, 1, images.shape[1])
    ema = EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    ema.to(accelerator.device)
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    data = TensorDataset(torch.from_numpy(images.images()))
    loader = DataLoader(data, batch_size=batch, shuffle=True)
    rates = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=100_000)
    model, optimizer, loader, rates = accelerator.prepare(model, optimizer, loader, rates)
    model.train()
    for (clean,) in itertools.chain.from_iterable(loader for _ in itertools.count()):
        noise = torch.randn(clean.shape, device=clean.device)
        timesteps = torch.randint(0, 1000, (len(clean),), device=clean.device).long()
        noisy = scheduler.add_noise(clean, noise, timesteps)
        with accelerator.accumulate(model):
            loss = mse_loss(model(noisy, timesteps).sample.float(), noise.float())
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            rates.step()
            optimizer.zero_grad()
        ema.step(model.parameters())
        loss.detach().item()
        yield


def seconds(loop: Iterator[None], steps: int) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        next(loop)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("--blocks", 2), ("--size", 16), ("--batch", 64), ("--pairs", 15), ("--steps", 4)):
        parser.add_argument(name, type=int, default=default)
    options = parser.parse_args()
    images = images_of(options.size)
    loops = {
        "leadline": ours(options.blocks, images, options.batch),
        "diffusers loop": theirs(options.blocks, images, options.batch),
    }
    times: dict[str, list[float]] = {name: [] for name in loops}
    for loop in loops.values():
        seconds(loop, 3)
    for pair in range(options.pairs):
        for name in sorted(loops, reverse=bool(pair % 2)):
            times[name].append(seconds(loops[name], options.steps))
    ratios = np.array(times["leadline"]) / np.array(times["diffusers loop"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{device_name(device)}, {platform.machine()}, torch {torch.__version__}")
    print(f"{options.blocks} blocks, {options.size}x{options.size}, batch {options.batch}, {options.pairs} pairs")
    for name, values in times.items():
        print(f"{name:15} median {np.median(values) * 1e3:8.1f} ms a step (fastest {min(values) * 1e3:.1f})")
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    print(
        f"ratio leadline / diffusers loop: median {middle:.3f} (quartiles {low:.3f} to {high:.3f}); below 1 is faster"
    )


if __name__ == "__main__":
    main()
