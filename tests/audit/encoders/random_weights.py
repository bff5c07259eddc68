"""Random weights and random images, for the tests of the encoders."""

import numpy as np
import torch
from torch import nn

from leadline.rng import generator_for


def randomise(network: nn.Module, index: int = 0) -> nn.Module:
    """Random weights under which a deep network's activations neither die out nor explode."""
    generator = generator_for(0, "random weights", index)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                fan_in = module.weight[0].numel()
                module.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.uniform_(-0.1, 0.1, generator=generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.6, 1.0, generator=generator)
                module.bias.uniform_(-0.2, 0.2, generator=generator)
                module.running_mean.uniform_(-0.2, 0.2, generator=generator)
                module.running_var.uniform_(0.8, 1.2, generator=generator)
    return network.eval()


def random_images(n: int, channels: int, height: int, width: int) -> np.ndarray:
    """Images in [-1, 1] as they come out of 8-bit pixels; smooth, so that resizing keeps something of them."""
    coarse = np.random.default_rng(7).integers(0, 256, (n, channels, 4, 4)).astype(np.float32)
    wide = nn.functional.interpolate(torch.from_numpy(coarse), (height, width), mode="bilinear").numpy()
    return np.rint(wide).astype(np.float32) / np.float32(127.5) - np.float32(1)
