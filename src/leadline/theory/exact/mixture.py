"""The mixture denoiser: a Gaussian per class in known shares, so that what an audit of shares must find is known."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from leadline.arrays import gather
from leadline.errors import LeadlineError
from leadline.models.denoiser import Sigma
from leadline.rng import generator_for
from leadline.theory.exact.closed_form import ClosedFormDenoiser, Images
from leadline.theory.exact.gaussian import GaussianDenoiser
from leadline.theory.exact.vectors import as_tensor

SHARE_TOLERANCE = 1e-6


class MixtureDenoiser(ClosedFormDenoiser):
    """D(x; sigma) = sum over classes k of r_k(x) D_k(x; sigma), D_k the Gaussian denoiser (P2 Eq. 7) of class k.

    r_k(x) is the probability of class k given x at noise level sigma, for clean images whose classes have the known
    shares: the exact denoiser of a mixture of Gaussians.
    classes: one GaussianDenoiser per class, of one image size and on one device. shares: above 0, with sum 1.
    """

    def __init__(self, classes: Sequence[GaussianDenoiser], shares: Sequence[float]) -> None:
        if len(classes) == 0 or len({(one.shape, one.device) for one in classes}) != 1:
            raise LeadlineError("a mixture needs at least one class, and all of one image size and on one device")
        if len(shares) != len(classes) or not min(shares) > 0 or not abs(sum(shares) - 1) <= SHARE_TOLERANCE:
            raise LeadlineError(f"shares must be {len(classes)} numbers above 0 with sum 1, not {list(shares)}")
        super().__init__(classes[0].shape, classes[0].device)
        self.classes = tuple(classes)
        self.shares = torch.tensor(shares, dtype=torch.float64, device=self.device)

    @classmethod
    def from_images(
        cls,
        images: Images,
        labels: Int[Tensor, " _n"] | Int[np.ndarray, " _n"],
        shares: Sequence[float] | None = None,
        device: torch.device | str = "cpu",
    ) -> "MixtureDenoiser":
        """A Gaussian per class of labelled images, labels 0 to K - 1; shares: default those of the labels."""
        numbers = as_tensor(labels).cpu()
        counts = torch.bincount(numbers) if numbers.numel() and numbers.min() >= 0 else numbers.new_zeros(1)
        if len(numbers) != len(images) or not counts.all():
            raise LeadlineError(
                f"labels must be one number per image ({len(images)}), from 0 on and none without images, "
                f"not {len(numbers)} with counts {counts.tolist()}"
            )
        members = [torch.nonzero(numbers == k).flatten() for k in range(len(counts))]
        given = (counts / len(numbers)).tolist() if shares is None else shares
        return cls([GaussianDenoiser(_taken(images, chosen), device) for chosen in members], given)

    def __call__(self, x: Float[Tensor, "n c h w"], sigma: Sigma) -> Float[Tensor, "n c h w"]:
        weights = self.posterior(x, sigma).to(x.dtype).T[:, :, None, None, None]
        estimates = torch.stack([one(x, sigma) for one in self.classes])
        return (weights * estimates).sum(0)

    def posterior(self, x: Float[Tensor, "n c h w"], sigma: Sigma) -> Float[Tensor, "n k"]:
        """Probability of each class given x at sigma, float64 [n, k]."""
        return self._joint(x, sigma).softmax(1)

    def log_density(self, x: Float[Tensor, "n c h w"], sigma: Sigma) -> Float[Tensor, " n"]:
        """log p(x; sigma), float64 [n]; its gradient is the score."""
        return self._joint(x, sigma).logsumexp(1)

    def sample(self, num: int, seed: int) -> tuple[Float[Tensor, "num c h w"], Int[Tensor, " num"]]:
        """`num` clean images, float32, and their classes; image i from the stream (seed, i)."""
        images, labels = [], []
        for i in range(num):
            stream = generator_for(seed, "mixture", i)
            label = int(torch.multinomial(self.shares.cpu(), 1, generator=stream))
            one = self.classes[label]
            images.append(one.drawn(torch.randn(1, len(one.eigenvalues), generator=stream)))
            labels.append(label)
        return torch.cat(images), torch.tensor(labels)

    def _joint(self, x: Float[Tensor, "n c h w"], sigma: Sigma) -> Float[Tensor, "n k"]:
        """Log of share times density of each class."""
        return torch.stack([one.log_density(x, sigma) for one in self.classes], 1) + self.shares.log()


def _taken(images: Images, chosen: Int[Tensor, " m"]) -> Images:
    """Some of the images; of an array on a disk in a temporary file where they would be large."""
    return gather(images, chosen.numpy()) if isinstance(images, np.ndarray) else images[chosen.to(images.device)]
