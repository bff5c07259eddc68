"""Jacobians of denoisers and of a U-Net's down blocks: products, norms and, for small images, the whole matrix."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from leadline.errors import LeadlineError, NotMeasurable
from leadline.models.denoiser import Denoiser
from leadline.models.pretrained import differentiable
from leadline.rng import generator_for
from leadline.theory.lanczos import extremes

Map = Callable[[Float[Tensor, "n ..."]], Float[Tensor, "n ..."]]
"""A map that takes each of n images by itself, as a network in evaluation mode does."""
CHUNK = 64
"""Columns of a whole Jacobian per pass: bounds the memory, changes no number beyond rounding."""


@dataclass(frozen=True)
class Linearised:
    """A map at n points: its value there, and the products with its Jacobian J of each point.

    push: v, shaped as the points, -> J v; pull: u, shaped as the value, -> Jᵀ u.
    """

    value: Float[Tensor, "n ..."]
    push: Callable[[Float[Tensor, "n ..."]], Float[Tensor, "n ..."]]
    pull: Callable[[Float[Tensor, "n ..."]], Float[Tensor, "n ..."]]


@dataclass(frozen=True, kw_only=True)
class SpectralNorms:
    """‖J‖₂ at n points, from below. residual: ‖JᵀJ v − s² v‖ / s² of the vector found; converged: whether it is within
    the tolerance (a start that misses the first singular vector by chance cannot be told from it)."""

    values: Float[np.ndarray, " n"]
    residual: Float[np.ndarray, " n"]
    converged: Bool[np.ndarray, " n"]
    steps: int


@dataclass(frozen=True, kw_only=True)
class FrobeniusNorms:
    """‖J‖_F at n points, estimated, with the standard error of the estimate over its probes."""

    values: Float[np.ndarray, " n"]
    errors: Float[np.ndarray, " n"]


def linearised(mapping: Map, x: Float[Tensor, "n ..."]) -> Linearised:
    """The mapping at x with its Jacobian's products, by reverse mode alone where it is differentiable twice.

    Jᵀ u is a backward pass. As a function of u it is linear with the Jacobian J, so that J v is a backward pass through
    that backward pass: for these networks a third of the cost of forward mode, since both graphs are built once and
    serve all products. A map with a first derivative alone (an exact denoiser) is pushed through by forward mode.
    Raises NotMeasurable where the mapping is not differentiable.
    """
    graph = _Graph(lambda image: (mapping(image),), x)
    forward = False

    def push(v: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        nonlocal forward
        if not forward:
            try:
                return graph.push(v)[0]
            except (LeadlineError, RuntimeError):
                forward = True
        return _forward(mapping, x, v)

    return Linearised(graph.outputs[0].detach(), push, lambda u: graph.pull((u,)))


class _Graph:
    """The outputs of a mapping at x and their backward pass, both recorded."""

    def __init__(self, mapping: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor) -> None:
        with torch.enable_grad():
            self.x = x.detach().clone().requires_grad_()
            with differentiable():
                self.outputs = mapping(self.x)
            if not all(output.requires_grad for output in self.outputs):
                raise NotMeasurable(
                    "the map has no gradient: what it gives does not depend on x by torch operations that record one "
                    "(is it under no_grad?)"
                )
            self.cotangents = [torch.zeros_like(output).requires_grad_() for output in self.outputs]
            (self.pulled,) = torch.autograd.grad(self.outputs, self.x, self.cotangents, create_graph=True)

    def push(self, v: Tensor, *, batched: bool = False) -> tuple[Tensor, ...]:
        """J v of each output; batched: of many v at once, stacked in front."""
        return torch.autograd.grad(
            self.pulled, self.cotangents, v.to(self.pulled), retain_graph=True, is_grads_batched=batched
        )

    def pull(self, u: tuple[Tensor, ...], *, batched: bool = False) -> Tensor:
        """The sum of Jᵀ u over the outputs; batched as in `push`."""
        given = [part.to(output) for part, output in zip(u, self.outputs, strict=True)]
        (found,) = torch.autograd.grad(self.outputs, self.x, given, retain_graph=True, is_grads_batched=batched)
        return found


def _forward(mapping: Map, x: Tensor, v: Tensor) -> Tensor:
    """J v by forward mode."""
    with warnings.catch_warnings(), differentiable(), torch.no_grad():
        # torch itself calls what it has deprecated when forward mode is first used.
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
        pushed: Tensor = torch.func.jvp(mapping, (x.detach(),), (v.to(x),))[1]
    return pushed


def random_directions(
    x: Float[Tensor, "n ..."], seed: int, purpose: str, draw: int = 0, *, first: int = 0, signs: bool = False
) -> Float[Tensor, "n ..."]:
    """Standard normal vectors (signs: of ±1, Rademacher) shaped as x, row i from the stream (seed, purpose-draw, i).

    first: the number of the first row, for a batch out of many.
    """
    streams = [generator_for(seed, f"{purpose}-{draw}", first + i) for i in range(len(x))]
    if signs:
        rows = [torch.randint(0, 2, x.shape[1:], generator=s) * 2 - 1 for s in streams]
    else:
        rows = [torch.randn(x.shape[1:], generator=s, dtype=torch.float64) for s in streams]
    return torch.stack(rows).to(x)


def spectral_norms(
    mapping: Linearised,
    x: Float[Tensor, "n ..."],
    *,
    seed: int = 0,
    first: int = 0,
    tolerance: float | int = 1e-2,
    max_steps: int = 80,
) -> SpectralNorms:
    """P1, Lemma 1: ‖∂z/∂x‖₂ at each x, the largest singular value, by products with JᵀJ (a push and a pull each).

    The steps are power iteration's, and the value is the best in the space they span (Lanczos): from below, so a lower
    bound, never under power iteration's own. Seeded starts; tolerance: of the relative residual.
    """
    start = random_directions(x, seed, "spectral norm", first=first)
    found = extremes(
        lambda v: mapping.pull(mapping.push(v)), start, tolerance=tolerance, max_steps=max_steps, both_ends=False
    )
    squares = np.maximum(found.highest, 0)
    return SpectralNorms(
        values=np.sqrt(squares),
        residual=found.residual / np.maximum(squares, np.finfo(np.float64).tiny),
        converged=found.converged,
        steps=found.steps,
    )


def frobenius_norms(
    mapping: Linearised, x: Float[Tensor, "n ..."], *, seed: int = 0, first: int = 0, num_probes: int = 8
) -> FrobeniusNorms:
    """‖J‖_F at each x by Hutchinson (1990): E ‖J v‖² = ‖J‖_F² over probes v of ±1, alike for every map of x.

    num_probes: 2 or more; the standard error is that of the mean square over the probes, brought to the root.
    """
    if num_probes < 2:
        raise LeadlineError(f"a standard error needs 2 probes or more, not {num_probes}")
    squares = np.stack([squared_lengths(mapping.push(probe)) for probe in probes(x, seed, num_probes, first)])
    mean = squares.mean(0)
    error = squares.std(0, ddof=1) / np.sqrt(num_probes)
    values = np.sqrt(mean)
    return FrobeniusNorms(values=values, errors=error / np.maximum(2 * values, np.finfo(np.float64).tiny))


def probes(x: Float[Tensor, "n ..."], seed: int, num_probes: int, first: int = 0) -> Iterator[Float[Tensor, "n ..."]]:
    """Hutchinson's probes: vectors of ±1, seeded."""
    for draw in range(num_probes):
        yield random_directions(x, seed, "probe", draw, first=first, signs=True)


def squared_lengths(vectors: Float[Tensor, "n ..."]) -> Float[np.ndarray, " n"]:
    """float64 squared length of each row."""
    found: np.ndarray = vectors.flatten(1).to(torch.float64).square().sum(1).cpu().numpy()
    return found


def whole_jacobians(
    mapping: Callable[[Float[Tensor, "1 ..."]], tuple[Float[Tensor, "1 ..."], ...]], x: Float[Tensor, "1 ..."]
) -> tuple[Float[Tensor, "_ d"], ...]:
    """The Jacobians [m, d] of all outputs of a mapping at one point, in d pushes that serve every output.

    A single output of no more than d values is done by its m pulls, which are cheaper.
    """
    graph = _Graph(mapping, x)
    if len(graph.outputs) == 1 and graph.outputs[0].numel() <= x.numel():
        rows = [graph.pull((chunk,), batched=True) for chunk in _units(graph.outputs[0])]
        return (torch.cat(rows).flatten(1),)
    parts = [graph.push(chunk, batched=True) for chunk in _units(x)]
    return tuple(torch.cat(columns).flatten(1).T for columns in zip(*parts, strict=True))


def _units(like: Tensor) -> tuple[Tensor, ...]:
    """The unit vectors, shaped as `like`, in chunks."""
    whole = torch.eye(like.numel(), dtype=like.dtype, device=like.device).reshape(-1, *like.shape)
    return torch.split(whole, CHUNK)


class _Reached(Exception):
    """Ends a forward pass whose rest nobody needs."""


def down_blocks(denoiser: Denoiser) -> list[nn.Module]:
    """The down blocks of the denoiser's U-Net. Raises NotMeasurable where it has none."""
    blocks = getattr(getattr(denoiser, "unet", None), "down_blocks", None)
    if blocks is None or not len(blocks):
        raise NotMeasurable(
            f"a {type(denoiser).__name__} has no U-Net with down blocks: no encoder that Lemma 1 could speak of"
        )
    return list(blocks)


def encoded(
    denoiser: Denoiser, x: Float[Tensor, "n c h w"], sigma: float | int, levels: int | None = None
) -> tuple[Float[Tensor, "n _ _ _"], ...]:
    """P1, Lemma 1: z^(1) … z^(levels), the hidden states after each down block, as a function of the noisy image x.

    Our reading: z^(a) is what block a hands to the next one (after its downsampler, where it has one), and x is the
    image as D(x; sigma) takes it: the input scaling and the time step of D are inside the map. The up path is not
    run. levels: all blocks by default. The network is left as it was, hooks and all.
    """
    blocks = down_blocks(denoiser)
    chosen = blocks[: len(blocks) if levels is None else levels]
    if not chosen:
        raise LeadlineError(f"the level of abstraction is 1 to {len(blocks)}, not {levels}")
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)
        if len(found) == len(chosen):
            raise _Reached

    handles = [block.register_forward_hook(keep) for block in chosen]
    try:
        denoiser(x, sigma)
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return tuple(found)


def encoder(denoiser: Denoiser, sigma: float | int, level: int) -> Map:
    """x -> z^(level), see `encoded`."""
    return lambda x: encoded(denoiser, x, sigma, level)[-1]
