"""A manifold as a union of balls around images: what precision, recall, density and coverage are counted from."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from leadline.audit.neighbors import nearest_neighbors, within_radii
from leadline.errors import LeadlineError


@dataclass(frozen=True)
class Neighborhoods:
    """A ball around each image that reaches to its k-th nearest other; an image at the radius itself is outside.

    features: [n, d], arrays or memory maps. radii: float64 [n], 0 where k others or more are equal to the image.
    """

    features: Float[np.ndarray, "n d"]
    radii: Float[np.ndarray, " n"]
    device: torch.device

    def number_holding(self, points: Float[np.ndarray, "m d"]) -> Int[np.ndarray, " m"]:
        """Kynkäänniemi et al. (2019), eq. 1, counted as in Naeem et al. (2020): the balls that each point lies in.

        With the balls around real images and generated points, the share above 0 is the precision, the mean over k
        the density; with the balls around generated images and real points, the share above 0 is the recall.
        """
        return within_radii(points, self.features, self.radii, device=self.device)

    def holding_any(self, points: Float[np.ndarray, "m d"]) -> Bool[np.ndarray, " n"]:
        """Naeem et al. (2020), coverage: the balls that a point lies in, here around real images."""
        distances, _ = nearest_neighbors(self.features, points, 1, device=self.device)
        inside: Bool[np.ndarray, " n"] = distances[:, 0] < self.radii
        return inside


def neighborhoods(features: Float[np.ndarray, "n d"], k: int, *, device: str | torch.device = "cpu") -> Neighborhoods:
    """Kynkäänniemi et al. (2019), section 3: each image's distance to the k-th nearest other image of its set.

    features: [n, d], arrays or memory maps, n of k + 1 or more, or LeadlineError is raised.
    """
    if len(features) < k + 1:
        raise LeadlineError(
            f"the {k} nearest others of each image need {k + 1} images or more, there are {len(features)}: "
            "give more, or lower --set audit.nearest_k"
        )
    # The image itself is at distance 0 exactly, so the k-th of the others is the (k + 1)-th of all, ties or not.
    distances, _ = nearest_neighbors(features, features, k + 1, device=device)
    return Neighborhoods(features=features, radii=distances[:, k], device=torch.device(device))
