"""Random weights, random images and a cut-off network, for the tests of the encoders."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
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


@contextmanager
def no_network() -> Iterator[list[str]]:
    """Every attempt to reach another machine is noted and fails."""
    attempts: list[str] = []

    def refuse(name: str) -> Callable[..., None]:
        def attempt(*args: object, **kwargs: object) -> None:
            attempts.append(name)
            raise OSError(f"{name}: the network is cut off")

        return attempt

    with pytest.MonkeyPatch.context() as patch:
        for name in ("getaddrinfo", "create_connection"):
            patch.setattr(socket, name, refuse(name))
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, refuse(name))
        yield attempts
