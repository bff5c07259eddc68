"""What is not finite is not measured: a NaN would go through every mean unseen."""

from torch import Tensor

from leadline.errors import NotMeasurable


def finite(values: Tensor, what: str) -> Tensor:
    """The values themselves. Raises NotMeasurable, naming `what`, where one is NaN or infinite."""
    if not values.isfinite().all():
        raise NotMeasurable(f"{what} is not finite")
    return values
