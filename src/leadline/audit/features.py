"""Images to feature vectors: one pass over the pixels for all encoders, in batches, cached on disk when asked."""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from leadline.files import atomic_file
from leadline.records import ImageSet

IN_MEMORY_BYTES = 2**30


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns images into vectors. Its fingerprint covers weights and every option."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def outputs(self) -> Mapping[str, int]:
        """Name of each output -> its dimension."""
        ...

    def encode(self, images: Float[np.ndarray, "n c h w"]) -> dict[str, np.ndarray]:
        """float images in [-1, 1] -> name of each output -> float32 [n, d]."""
        ...


def encode(
    images: ImageSet, encoders: Sequence[Encoder], *, cache: Path | None = None, batch_size: int = 256
) -> dict[str, dict[str, np.ndarray]]:
    """All outputs of all encoders over an image set: encoder's name -> output's name -> float32 [n, d].

    The pixels are read once, in batches, so they may be a memory map; an output above 1 GiB is one too.
    cache: folder in which each output is kept as .npy under the hash of the images' content, the encoder's
    fingerprint and the output's name; an encoder whose outputs are all there does not run.
    """
    content = images.fingerprint() if cache is not None else ""
    found: dict[str, dict[str, np.ndarray]] = {}
    for encoder in encoders:
        files = _cache_files(cache, content, encoder)
        known = {name: _load(file, (len(images), encoder.outputs[name])) for name, file in files.items()}
        if known and all(array is not None for array in known.values()):
            found[encoder.name] = {name: array for name, array in known.items() if array is not None}
    missing = [encoder for encoder in encoders if encoder.name not in found]
    for encoder in missing:
        found[encoder.name] = {name: _room(len(images), d) for name, d in encoder.outputs.items()}
    for start in range(0, len(images) if missing else 0, batch_size):
        batch = images.images(start, start + batch_size)
        for encoder in missing:
            for name, values in encoder.encode(batch).items():
                found[encoder.name][name][start : start + len(batch)] = values
    for encoder in missing:
        for name, file in _cache_files(cache, content, encoder).items():
            with atomic_file(file) as temporary, temporary.open("wb") as handle:
                np.save(handle, found[encoder.name][name], allow_pickle=False)
    return found


def _cache_files(cache: Path | None, content: str, encoder: Encoder) -> dict[str, Path]:
    if cache is None:
        return {}
    keys = {name: f"{content}/{encoder.name}/{encoder.fingerprint}/{name}" for name in encoder.outputs}
    return {name: cache / f"features-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy" for name, key in keys.items()}


def _load(file: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """What an earlier audit left, or None when it is not there or not whole."""
    try:
        array: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape and array.dtype == np.float32 else None


def _room(n: int, dimension: int) -> np.ndarray:
    """An empty float32 [n, d]; a large one lives in a temporary file that goes when it is let go of."""
    if n * dimension * 4 <= IN_MEMORY_BYTES:
        return np.empty((n, dimension), dtype=np.float32)
    with tempfile.TemporaryFile(prefix="leadline-features-") as file:
        return np.memmap(file, dtype=np.float32, mode="w+", shape=(n, dimension))
