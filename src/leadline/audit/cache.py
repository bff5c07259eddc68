"""What networks made of images, kept on disk under the hash of all that decides it."""

import hashlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from leadline.audit.pairs import PairDistances
from leadline.files import atomic_file
from leadline.records import ImageSet

PAIRS_VERSION = 2
"""Raised when the distances over all pairs are made in another way."""


@runtime_checkable
class Keyed(Protocol):
    """A network: its name, and a hash of its weights and every option."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def outputs(self) -> Mapping[str, int]: ...


class FeatureCache:
    """Features by the content of the images, the network and its options; without a folder nothing is kept or found.

    A cache that cannot be written costs a warning, not the audit.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def content(self, images: ImageSet, rows: slice) -> str:
        """Hash of some images' pixels; what they are labelled does not matter to a network."""
        if self.folder is None:
            return ""
        digest = hashlib.sha256(repr(images.shape).encode())
        for start in range(rows.start, rows.stop, 1024):
            digest.update(np.ascontiguousarray(images.pixels[start : min(start + 1024, rows.stop)]).tobytes())
        return digest.hexdigest()

    def outputs(self, content: str, encoder: Keyed, n: int) -> dict[str, np.ndarray] | None:
        """All outputs of an encoder; None where one is not there or not whole."""
        found = {}
        for name, dimension in encoder.outputs.items():
            file = self._file(content, encoder, name, ".npy")
            try:
                array = np.load(file, mmap_mode="r", allow_pickle=False) if file is not None else None
            except (OSError, ValueError, EOFError):
                return None
            if array is None or array.shape != (n, dimension) or array.dtype != np.float32:
                return None
            found[name] = array
        return found

    def keep_outputs(self, content: str, encoder: Keyed, outputs: Mapping[str, np.ndarray]) -> None:
        """Keep what an encoder made of these images."""
        for name, array in outputs.items():
            self._write(self._file(content, encoder, name, ".npy"), lambda file, array=array: _save(file, array))  # type: ignore[misc]

    def pairs(self, content: str, encoder: Keyed, grouping: str) -> PairDistances | None:
        """An encoder's distances over all pairs, or None."""
        file = self._file(content, encoder, f"pairs/{PAIRS_VERSION}/{grouping}", ".safetensors")
        try:
            return None if file is None else PairDistances.from_arrays(load_file(file))
        except (OSError, ValueError, KeyError, SafetensorError):
            return None

    def keep_pairs(self, content: str, encoder: Keyed, grouping: str, found: PairDistances) -> None:
        """Keep an encoder's distances over all pairs."""
        file = self._file(content, encoder, f"pairs/{PAIRS_VERSION}/{grouping}", ".safetensors")
        # safetensors writes an array's memory as it lies, whatever its order.
        arrays = {name: np.asarray(array, order="C") for name, array in found.to_arrays().items()}
        self._write(file, lambda temporary: save_file(arrays, temporary))

    def _file(self, content: str, encoder: Keyed, name: str, suffix: str) -> Path | None:
        key = hashlib.sha256(f"{content}/{encoder.name}/{encoder.fingerprint}/{name}".encode()).hexdigest()[:32]
        return None if self.folder is None else self.folder / f"features-{key}{suffix}"

    def _write(self, file: Path | None, write: Callable[[Path], None]) -> None:
        if file is None:
            return
        try:
            with atomic_file(file) as temporary:
                write(temporary)
        except (OSError, SafetensorError) as error:
            warnings.warn(
                f"the cache {self.folder} could not be written ({error}): the audit goes on, "
                "but the next one computes these features again",
                RuntimeWarning,
                stacklevel=3,
            )


def _save(file: Path, array: np.ndarray) -> None:
    with file.open("wb") as handle:
        np.save(handle, array, allow_pickle=False)
