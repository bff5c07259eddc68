"""Soft k-NN over any number of vectors in bounded memory: one streaming log-sum-exp, right at every temperature."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from leadline.errors import LeadlineError
from leadline.theory.exact.streams import answer, spread_along
from leadline.theory.exact.vectors import Reference, Vectors, as_tensor


@dataclass(frozen=True)
class SoftNeighbors:
    """Soft k-NN of queries [q, d], weights w_i = softmax_i(-|Q - x_i|^2 / tau).

    mean [q, d]: sum of w_i x_i, in the queries' type. log_sum_exp [q]: log of sum of exp(-|Q - x_i|^2 / tau).
    effective_k [q]: exp of the weights' entropy, from 1 to n. indices [q, k] and weights [q, k]: the nearest vectors,
    nearest first. class_weights [q, C]: soft votes, or None without labels. All but mean and indices are float64.
    """

    mean: Float[Tensor, "q d"]
    log_sum_exp: Float[Tensor, " q"]
    effective_k: Float[Tensor, " q"]
    indices: Int[Tensor, "q k"]
    weights: Float[Tensor, "q k"]
    class_weights: Float[Tensor, "q C"] | None


def soft_neighbors(
    queries: Float[Tensor, "q d"] | Float[np.ndarray, "q d"],
    data: Vectors | Reference,
    tau: float | int | Float[Tensor, " _q"] | Float[Tensor, ""],
    *,
    num_nearest: int = 1,
    labels: Int[Tensor, " _n"] | Int[np.ndarray, " _n"] | None = None,
    num_classes: int | None = None,
    tile: int | None = None,
    device: str | torch.device | None = None,
) -> SoftNeighbors:
    """P1 Eq. 2: the softmax(-|Q - x_i|^2 / tau)-weighted mean and votes; P2 Eq. 4 at tau = 2 sigma^2.

    queries [q, d]; data [n, ...]: array, memory map or tensor of floats or uint8 pixels (read as pixels / 127.5 - 1),
    read `tile` rows at a time, so the memory does not depend on n; or a `Reference`, which holds all but the queries
    and tau and spares preparing them again. tau: above 0, one number or [q]. num_nearest: columns of `indices` and
    `weights`, 0 to n. labels, num_classes: class of each x_i, for the votes. device: default that of a data tensor,
    else the CPU.

    mean and log_sum_exp can be differentiated by the queries, once, forwards and backwards (autograd, torch.func).
    Queries in float64 are answered in float64, all others in float32 where its rounding does not matter. Raises
    LeadlineError on shapes that do not fit and values out of range.
    """
    if isinstance(data, Reference):
        if any(given is not None for given in (labels, num_classes, tile, device)):
            raise LeadlineError("labels, num_classes, tile and device belong to the Reference: give them to that")
        reference = data
    else:
        reference = Reference(data, labels=labels, num_classes=num_classes, tile=tile, device=device)
    points = as_tensor(queries).to(reference.device)
    if points.shape[1] != reference.dimension:
        raise LeadlineError(f"queries have {points.shape[1]} values each and the data {reference.dimension}")
    if not 0 <= num_nearest <= reference.count:
        raise LeadlineError(f"num_nearest must be from 0 to the {reference.count} vectors there are, not {num_nearest}")
    temperatures = torch.as_tensor(tau, dtype=torch.float64, device=points.device).reshape(-1)
    if len(temperatures) not in (1, len(points)):
        raise LeadlineError(f"tau must be one number or one per query ({len(points)}), not {len(temperatures)}")
    if temperatures.requires_grad:
        raise LeadlineError("soft_neighbors has no derivative by tau: give tau.detach()")
    if not (temperatures > 0).all():
        raise LeadlineError(f"tau must be above 0, not {float(temperatures.min()):g}")
    mean, log_sum_exp, effective_k, indices, weights, votes = _SoftMean.apply(
        points, temperatures.expand(len(points)), reference, num_nearest
    )
    return SoftNeighbors(mean, log_sum_exp, effective_k, indices, weights, votes if reference.num_classes else None)


class _SoftMean(torch.autograd.Function):
    """`answer`, with the derivatives of the soft mean, 2 / tau times the weights' covariance, and of log_sum_exp."""

    @staticmethod
    def forward(queries: Tensor, tau: Tensor, reference: Reference, k: int) -> tuple[Tensor, ...]:
        found = answer(reference, queries, tau, k)
        effective_k = found.entropy.exp()
        return found.mean.to(queries.dtype), found.log_sum_exp, effective_k, found.indices, found.weights, found.votes

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        queries, tau, ctx.reference, _ = inputs
        mean, log_sum_exp, *others = output
        ctx.mark_non_differentiable(*others)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(queries, tau, mean, log_sum_exp)
        ctx.save_for_forward(queries, tau, mean, log_sum_exp)

    @staticmethod
    def backward(ctx: Any, mean_change: Tensor | None, log_change: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        queries, tau, mean, log_sum_exp = ctx.saved_tensors
        parts = []
        if mean_change is not None:
            parts.append(_Spread.apply(queries, tau, mean, log_sum_exp, mean_change, ctx.reference))
        if log_change is not None:
            parts.append((mean - queries) * log_change.to(queries.dtype)[:, None])
        return _doubled(torch.stack(parts).sum(0), tau) if parts else None, None, None, None

    @staticmethod
    def jvp(ctx: Any, change: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        queries, tau, mean, log_sum_exp = ctx.saved_tensors
        along = _Spread.apply(queries, tau, mean, log_sum_exp, change, ctx.reference)
        pull = ((mean - queries).double() * change.double()).sum(1, keepdim=True)
        return _doubled(along, tau), _doubled(pull, tau)[:, 0], None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, Any]:
        return _over_rows(_SoftMean, info.batch_size, in_dims, inputs)


class _Spread(torch.autograd.Function):
    """`spread_along` in the queries' type: the covariance of the weights times vectors [q, d]."""

    @staticmethod
    def forward(
        queries: Tensor, tau: Tensor, mean: Tensor, log_sum_exp: Tensor, vectors: Tensor, reference: Reference
    ) -> Tensor:
        return spread_along(reference, queries, tau, mean, log_sum_exp, vectors).to(queries.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(_ctx: Any, *_: Any) -> Any:
        raise LeadlineError(NO_SECOND)

    @staticmethod
    def jvp(_ctx: Any, *_: Any) -> Any:
        raise LeadlineError(NO_SECOND)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, Any]:
        return _over_rows(_Spread, info.batch_size, in_dims, inputs)


NO_SECOND = "the soft mean has derivatives of first order only: differentiate it once, forwards or backwards"


def _doubled(values: Tensor, tau: Tensor) -> Tensor:
    """values [q, ...] times 2 / tau, in their own type."""
    return values * (2 / tau).to(values.dtype)[:, None]


def _over_rows(function: Any, batch: int, in_dims: tuple[Any, ...], inputs: tuple[Any, ...]) -> tuple[Any, Any]:
    """torch.vmap of a function whose rows are independent: a batch of b times q rows is b·q rows."""

    def merged(value: Any, dim: int | None) -> Any:
        if not isinstance(value, Tensor):
            return value
        whole = value.expand(batch, *value.shape) if dim is None else value.movedim(dim, 0)
        return whole.flatten(0, 1)

    output = function.apply(*(merged(value, dim) for value, dim in zip(inputs, in_dims, strict=True)))
    if isinstance(output, Tensor):
        return output.reshape(batch, len(output) // batch, *output.shape[1:]), 0
    return tuple(part.reshape(batch, len(part) // batch, *part.shape[1:]) for part in output), (0,) * len(output)
