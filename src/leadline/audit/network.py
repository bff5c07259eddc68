"""The labeler's network: a small convolutional classifier for images of 8 px and more, and its training."""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn import functional

from leadline.errors import LeadlineError
from leadline.records import ImageSet, scaled
from leadline.rng import generator_for

LARGEST_BATCH, SMALLEST_BATCH, STEPS_PER_EPOCH = 128, 16, 20
"""Small sets get smaller batches, so that an epoch of theirs has about twenty steps too."""
PEAK_LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2
WARMUP_SHARE = 0.1
NUM_FEATURES = 64


class Network(nn.Module):
    """Blocks of 3×3 convolution, pooling, batch norm and ReLU: width 16 at 16 px, 32 at 8, 64 at 4 and below.

    The first convolution strides until the image is 16 px or less, so that large images cost as much as small ones;
    the features are the mean over the last 2×2 positions.
    """

    def __init__(self, channels: int, size: int, num_classes: int) -> None:
        super().__init__()
        stride = 2 ** max(0, math.ceil(math.log2(size / 16)))
        side = math.ceil(size / stride)
        width = 16 if side > 8 else 32
        layers = _block(channels, width, 2 * stride + 1, stride, pool=side > 2)
        while side > 2:
            following = min(2 * width, NUM_FEATURES)
            side = math.ceil(side / 2)
            layers += _block(width, following, 3, 1, pool=side > 2)
            width = following
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Float[torch.Tensor, "n c h w"]) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits [n, classes], features [n, d]): the features are what the last, linear layer sees."""
        features = self.body(images).mean((2, 3))
        return self.head(features), features


def build(channels: int, size: int, num_classes: int) -> Network:
    """A network without values, made without drawing from the global generator."""
    with torch.device("meta"):
        network = Network(channels, size, num_classes)
    return network.to_empty(device="cpu")


def train(
    images: ImageSet,
    rows: Int[np.ndarray, " n"],
    *,
    epochs: int,
    seed: int,
    index: int,
    device: torch.device,
    after_epoch: Callable[[], None],
) -> Network:
    """A network trained with AdamW, a warm-up and a cosine; the loss gives every class the same total weight.

    images with labels, of which those at `rows` are learned, each shifted by up to an eighth of its size in every
    epoch; they are read batch by batch, so that they may be a memory map. What it draws depends on (seed, index)
    alone.
    """
    if images.labels is None:
        raise LeadlineError(f"{images.name}: a labeler is trained on images with labels")
    num_classes, labels = len(images.classes), torch.from_numpy(images.labels[rows])
    generator = generator_for(seed, "labeler", index)
    network = build(images.shape[0], max(images.shape[1:]), num_classes)
    _initialize(network, generator)
    network.to(device).train()
    counts = torch.bincount(labels, minlength=num_classes)
    weights = (len(labels) / (counts.clamp(min=1) * (counts > 0).sum())).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    batch_size = min(LARGEST_BATCH, max(SMALLEST_BATCH, len(rows) // STEPS_PER_EPOCH))
    steps_per_epoch = math.ceil(len(rows) / batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate(epochs * steps_per_epoch))
    for _ in range(epochs):
        order = torch.randperm(len(rows), generator=generator)
        for chosen in order.chunk(steps_per_epoch):
            batch = torch.from_numpy(scaled(images.pixels[rows[chosen.numpy()]]))
            batch = shifted(batch, max(1, max(images.shape[1:]) // 8), generator)
            logits, _ = network(batch.to(device))
            target = labels[chosen].to(device)
            loss = (weights[target] * functional.cross_entropy(logits, target, reduction="none")).mean()
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        after_epoch()
    return network.eval()


def shifted(
    images: Float[torch.Tensor, "n c h w"], reach: int, generator: torch.Generator
) -> Float[torch.Tensor, "n c h w"]:
    """Each image moved by its own number of pixels, -reach to reach in both directions; its edge is repeated."""
    n, _, height, width = images.shape
    down, right = torch.randint(-reach, reach + 1, (2, n, 1), generator=generator)
    rows = (torch.arange(height) + down).clamp(0, height - 1)
    columns = (torch.arange(width) + right).clamp(0, width - 1)
    return images[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _block(inputs: int, outputs: int, kernel: int, stride: int, *, pool: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    # Pooled first, a quarter of the values is left to normalise: a third less time on a CPU.
    return [convolution, *([nn.MaxPool2d(2, ceil_mode=True)] if pool else []), nn.BatchNorm2d(outputs), nn.ReLU()]


def _initialize(network: Network, generator: torch.Generator) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01, generator=generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def _rate(num_steps: int) -> Callable[[int], float]:
    warmup = max(1, round(WARMUP_SHARE * num_steps))

    def rate(step: int) -> float:
        return min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / num_steps)))

    return rate
