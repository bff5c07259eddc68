"""Weights of networks from files: found or fetched when asked, read without running anything in them, hashed."""

import hashlib
import json
import pickle
import sys
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from leadline.errors import LeadlineError
from leadline.files import file_digest

Network = TypeVar("Network", bound=nn.Module)

COUNTER = "num_batches_tracked"
"""Batch normalisation's count of training steps: older files lack it, and nothing reads it outside training."""
SHOWN = 3
"""Names listed of each kind that does not fit."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A file of weights that its authors offer. sha256: the first digits of its hash, "" where none are published."""

    file: str
    url: str
    sha256: str = ""

    @property
    def cached(self) -> Path:
        """Where torch keeps it once it was fetched (the folder moves with TORCH_HOME)."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.file


def find_weights(encoder: str, published: Published, path: Path | None, *, download: bool) -> Path:
    """The file with an encoder's weights: `path`, or torch's cache, or fetched into it when `download` says so.

    Without `download` no connection is ever opened. Raises LeadlineError where there is no such file, where a cached
    or fetched one is not what its name says, and where fetching fails.
    """
    if path is not None:
        if not path.is_file():
            kind = "a folder, not a file of weights" if path.is_dir() else "not there"
            raise LeadlineError(f"--encoder {encoder}:{path}: {path} is {kind}; expected a .safetensors or .pth file")
        return path
    cached = published.cached
    if not cached.is_file():
        if not download:
            raise LeadlineError(
                f"the weights of the encoder {encoder!r} are not on this machine: looked for {cached}. Give a file "
                f"(--encoder {encoder}:FILE), put {published.url} there, or let it be fetched (--download)"
            )
        _fetch(encoder, published)
    elif not is_published(cached, published):
        raise LeadlineError(
            f"{cached} is not the file that its name says: its SHA-256 does not begin with {published.sha256}. Remove "
            f"it and fetch it again (--download), or give another file (--encoder {encoder}:FILE)"
        )
    return cached


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Name -> tensor, of a .safetensors file or of what `torch.save(module.state_dict(), path)` wrote.

    Nothing in the file is run: a pickle may hold tensors and plain containers, or it is refused. Raises LeadlineError.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise LeadlineError(f"{path} cannot be read as safetensors: {error}") from None
    if is_torchscript(path):
        raise LeadlineError(
            f"{path} is a TorchScript file, a program with weights: expected the weights alone, saved by "
            "torch.save(module.state_dict(), ...) or as .safetensors"
        )
    try:
        with warnings.catch_warnings():
            # Said of files that then are refused or read all the same.
            warnings.simplefilter("ignore", UserWarning)
            # Mapped files are read as far as they are used; only the newer of torch's two formats can be.
            state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise LeadlineError(
            f"{path} is no plain file of weights: it is damaged, or reading it would run code that it brings along. "
            f"Nothing of it was run. Save the state dict alone, best as .safetensors ({_first_line(error)})"
        ) from None
    except Exception as error:  # a damaged file fails in as many ways as there are parsers behind torch.load
        raise LeadlineError(f"{path} cannot be read as weights: {_first_line(error) or type(error).__name__}") from None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise LeadlineError(f"{path} holds {type(state).__name__}, expected a state dict: names and tensors alone")
    return state


def is_published(path: Path, published: Published) -> bool:
    """Whether a file is, byte for byte, the one that the authors offer, as far as they published its hash."""
    return not published.sha256 or file_digest(path).startswith(published.sha256)


def fill(network: Network, weights: Mapping[str, torch.Tensor], *, file: str, what: str) -> Network:
    """The network, built on the meta device, with `weights` as float32 of its own, frozen and in evaluation mode.

    what: the architecture, for the message. Raises LeadlineError naming what is missing, too much, of another shape
    or not a finite number.
    """
    wanted = network.state_dict()
    counters = {name: torch.zeros((), dtype=torch.long) for name in wanted if name.endswith(COUNTER)}
    given = {name: value for name, value in weights.items() if not name.endswith(COUNTER)}
    shared = [name for name in wanted if name in given]
    faults = {
        "lacks": [name for name in wanted if name not in given and name not in counters],
        "also holds": [name for name in given if name not in wanted],
        "has in another shape": [name for name in shared if given[name].shape != wanted[name].shape],
        "has not as plain floating-point numbers": [
            name for name in shared if not given[name].is_floating_point() or given[name].layout != torch.strided
        ],
    }
    if not any(faults.values()):
        # A copy: a mapped file may be changed or removed while the audit runs.
        given = {name: value.to(torch.float32, copy=True) for name, value in given.items()}
        faults["has not finite"] = [name for name, value in given.items() if not value.isfinite().all()]
    if any(faults.values()):
        said = "; ".join(f"{verb} {_listed(names)}" for verb, names in faults.items() if names)
        raise LeadlineError(f"{file} does not fit {what}: it {said}. Give the weights of that network")
    network.load_state_dict({**given, **counters}, assign=True)
    return network.requires_grad_(False).eval()


def fingerprint_of(options: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """16 digits of the SHA-256 of all options, and of the names, shapes and bytes of all tensors, in any order."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu()
        digest.update(f"/{name}/{value.dtype}/{tuple(value.shape)}/".encode())
        digest.update(np.ascontiguousarray(value.numpy()).data)
    return digest.hexdigest()[:16]


def file_fingerprint(options: Mapping[str, Any], path: Path) -> str:
    """16 digits of the SHA-256 of all options and of a whole file, for what is more than its tensors."""
    text = json.dumps(options, sort_keys=True) + file_digest(path)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip that holds a program's constants."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _fetch(encoder: str, published: Published) -> None:
    try:
        published.cached.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            published.url, str(published.cached), published.sha256 or None, progress=sys.stderr.isatty()
        )
    # RuntimeError: the hash is another one.
    except (OSError, RuntimeError) as error:
        raise LeadlineError(
            f"the weights of the encoder {encoder!r} could not be fetched from {published.url} to {published.cached}: "
            f"{_first_line(error) or type(error).__name__}. Fetch them by hand and give the file "
            f"(--encoder {encoder}:FILE)"
        ) from None


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")
