"""Labelers that are given instead of trained: a module with its weights, a torchvision network in a file, CLIP."""

import json
import secrets
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch.nn import functional
from torchvision import models

from leadline.audit.encoders.network import batch_size_for, exact_arithmetic
from leadline.audit.encoders.weights import fill, fingerprint_of
from leadline.audit.features import encode
from leadline.audit.judged import AnyLabeler, AttributeLabeler, tried
from leadline.audit.zero_shot import zero_shot_labeler
from leadline.errors import LeadlineError, did_you_mean
from leadline.recipe import AuditSpec
from leadline.records import ImageSet

VERSION = 1
"""Raised when what is made of a module's logits changes, so that no older probabilities are taken from the cache."""
FLAG = "--labeler-model"
HOW_TO_SAVE = (
    "write it with safetensors.torch.save_file(module.state_dict(), FILE, "
    'metadata={"classes": json.dumps(["female", "male"])})'
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ModuleLabeler(AttributeLabeler):
    """Any classifier as a labeler: module(images) -> logits [n, classes], or [n] or [n, 1] where there are two.

    mean, std: of images in [0, 1], one or three values (grey images are given three equal channels then); None: the
    module is given images in [-1, 1]. size: height and width that images are brought to (bilinear, antialiased), the
    aspect ratio given up; None: as they come. source: where the module comes from, in words.
    """

    module: torch.nn.Module
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    size: int | None
    device: torch.device
    source: str
    doubt = "its probability, as it gives it and not calibrated,"

    @property
    def batch_size(self) -> int:
        """Images per call: fewer where they are large."""
        return batch_size_for(*((self.size, self.size) if self.size else self.shape[1:]))

    @property
    def description(self) -> str:
        """The module and how images reach it, in one sentence."""
        channels, height, width = self.shape
        resized = self.size is not None and (height, width) != (self.size, self.size)
        read = "images in [-1, 1]"
        if self.mean is not None and self.std is not None:
            read = f"images in [0, 1] minus {_listed(self.mean)} over {_listed(self.std)}"
            read = f"RGB {read}" if len(self.mean) == 3 and channels == 1 else read
        how = f"resized from {width}×{height} to {self.size}×{self.size} px (bilinear, antialiased)" if resized else ""
        return f"{self.source}, which reads {read}, {how or f'{width}×{height} px'}"

    @property
    def outputs(self) -> Mapping[str, int]:
        """`probabilities` alone: what its features would be is not known."""
        return {"probabilities": len(self.classes)}

    def details(self) -> dict[str, Any]:
        """The module in words."""
        return {"labeler": self.description}

    def encode(self, images: Float[np.ndarray, "n c h w"]) -> dict[str, np.ndarray]:
        """float images in [-1, 1] -> probabilities [n, classes]. Raises LeadlineError on logits that are no numbers."""
        self._check(images)
        batch = torch.from_numpy(np.array(images, dtype=np.float32)).to(self.device)
        with exact_arithmetic():
            probabilities = self._probabilities(self.module(self._prepared(batch)), len(images))
        return {"probabilities": probabilities.cpu().numpy()}

    def _prepared(self, batch: Float[torch.Tensor, "n c h w"]) -> Float[torch.Tensor, "n k a b"]:
        if self.size is not None and batch.shape[2:] != (self.size, self.size):
            batch = functional.interpolate(batch, (self.size, self.size), mode="bilinear", antialias=True)
        if self.mean is None or self.std is None:
            return batch
        mean, std = (torch.tensor(v, device=batch.device).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return ((batch + 1) / 2 - mean) / std

    def _probabilities(self, given: Any, n: int) -> Float[torch.Tensor, "n classes"]:
        classes = len(self.classes)
        logits = getattr(given, "logits", given)
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        if shape in ((n,), (n, 1)) and classes == 2:
            one = logits.reshape(n, 1).float()
            probabilities = torch.cat([-one, one], 1).sigmoid()
        elif shape == (n, classes):
            probabilities = logits.float().softmax(1)
        else:
            raise LeadlineError(
                f"the given labeler made {shape} of {n} images; logits ({n}, {classes}) are expected, one for each of "
                f"its classes {', '.join(self.classes)}" + (f", or ({n},)" if classes == 2 else "")
            )
        if not probabilities.isfinite().all():
            raise LeadlineError("the given labeler's logits are not all finite: see what it makes of these images")
        return probabilities


def given_labeler(
    spec: AuditSpec, *, shape: tuple[int, int, int], device: torch.device, download: bool
) -> AttributeLabeler | None:
    """The labeler that `spec.labeler_model` and `spec.prompts` describe, not yet judged; None where they are empty.

    ARCHITECTURE:FILE.safetensors is one of torchvision's classifiers (see `labeler_from_file`), clip[:FOLDER] is CLIP
    by prompts, and so are prompts alone. download: whether CLIP may be fetched. Raises LeadlineError.
    """
    if not spec.labeler_model and not spec.prompts:
        return None
    kind, _, path = (spec.labeler_model or "clip").partition(":")
    place = Path(path).expanduser()
    if kind == "clip":
        return zero_shot_labeler(
            spec.prompts,
            place if path else None,
            shape=shape,
            confidence=spec.confidence,
            device=device,
            download=download,
        )
    if spec.prompts:
        raise LeadlineError(
            f"--prompt is for {FLAG} clip; {kind!r} has the classes of its file: leave out one of the two"
        )
    known = models.list_models(module=models)
    if kind not in known:
        raise LeadlineError(
            f"{FLAG} {spec.labeler_model!r}: unknown architecture {kind!r}: {did_you_mean(kind, [*known, 'clip'])}"
        )
    if not path:
        raise LeadlineError(f"{FLAG} {kind!r} names no weights: write {kind}:FILE.safetensors")
    return labeler_from_file(kind, place, shape=shape, confidence=spec.confidence, device=device)


def labeler_from_file(
    architecture: str, file: Path, *, shape: tuple[int, int, int], confidence: float, device: torch.device
) -> ModuleLabeler:
    """One of torchvision's classifiers with the weights in a safetensors file, whose metadata names the classes.

    metadata: `classes`, a JSON list of two or more names in the order of the logits; and, as JSON where they differ
    from those of torchvision's own weights, `mean` and `std` (three numbers each, of images in [0, 1]) and `size` (px).
    save_file(module.state_dict(), FILE, metadata={"classes": json.dumps(["female", "male"])}) writes it. For two
    classes the last layer may have one output, the log-odds of the second.
    """
    tensors, metadata = read_weights(file)
    classes = _json_of(file, metadata, "classes", [])
    if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)) or len(classes) < 2:
        raise LeadlineError(
            f"{file}: the metadata names no classes (a JSON list of two names or more under 'classes'): {HOW_TO_SAVE}"
        )
    usual = models.get_model_weights(architecture).DEFAULT.transforms()
    mean, std = (_numbers(file, metadata, name, getattr(usual, name)) for name in ("mean", "std"))
    size = _json_of(file, metadata, "size", usual.crop_size[0])
    if not isinstance(size, int):
        raise LeadlineError(f"{file}: 'size' in the metadata is the height and width in px that it reads, not {size!r}")
    return module_labeler(
        _network(architecture, len(classes), tensors),
        classes=classes,
        shape=shape,
        weights=tensors,
        mean=mean,
        std=std,
        size=size,
        confidence=confidence,
        device=device,
        source=f"torchvision's {architecture} with the weights {file.name}",
        version=f"torchvision's {architecture}",
    )


def module_labeler(
    module: torch.nn.Module,
    *,
    classes: Sequence[str],
    shape: tuple[int, int, int],
    weights: str | Path | Mapping[str, torch.Tensor] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | None = None,
    confidence: float = 0.9,
    device: torch.device | str = "cpu",
    source: str | None = None,
    version: str | None = None,
) -> ModuleLabeler:
    """Any classifier as a labeler; it is tried on two black images, so that what does not fit shows at once.

    module: float32 images -> logits [n, classes] (or an object with `logits`), or [n] or [n, 1] for two classes, the
    log-odds of the second. It is moved to `device` and set to eval. shape: (channels, height, width) of the images to
    label. weights: a safetensors file, or the state dict itself; None: those that the module has. mean, std, size,
    source: as in ModuleLabeler. confidence: the least probability that counts as sure. Raises LeadlineError.

    version: a name for what the module computes from its parameters and buffers, another one whenever that changes.
    With it the fingerprint is the same in every process, and what the module made of images is taken from the cache
    of an earlier audit. Without it every labeler has a fingerprint of its own: nothing can see whether `forward` is
    still the same, so no other labeler's outputs are taken for its own.
    """
    names = tuple(classes)
    if len(names) < 2 or len(set(names)) < len(names):
        raise LeadlineError(f"a labeler needs two classes or more, each named once, not {', '.join(names) or 'none'}")
    mean, std = _checked_scale(mean, std, shape[0])
    if size is not None and size < 1:
        raise LeadlineError(f"size is the height and width in px that the labeler reads, 1 or more, not {size}")
    words = source or f"the given {type(module).__name__}"
    if weights is not None:
        tensors = weights if isinstance(weights, Mapping) else read_weights(Path(weights))[0]
        fill(module, tensors, file="the labeler's file" if isinstance(weights, Mapping) else str(weights), what=words)
    where = torch.device(device)
    module.to(where).eval()
    options = {
        "version": VERSION,
        # An identity, not a draw: a generator with a seed would give it twice.
        "module": [type(module).__qualname__, repr(module), version or secrets.token_hex(16)],
        "classes": names,
        "scale": [mean, std],
        "size": size,
    }
    # Not the state dict, which leaves out some buffers. As float32, because NumPy has no bfloat16.
    values = chain(module.named_parameters(), module.named_buffers())
    tensors = {name: v.float() if v.is_floating_point() else v for name, v in values}
    return tried(
        ModuleLabeler(
            classes=names,
            shape=shape,
            confidence=confidence,
            fingerprint=fingerprint_of(options, tensors),
            module=module,
            mean=mean,
            std=std,
            size=size,
            device=where,
            source=words,
        )
    )


def judge(
    given: AnyLabeler,
    *,
    labeler: ImageSet | None,
    held_out: ImageSet | None,
    training: ImageSet,
    cache: Path | None = None,
) -> AnyLabeler:
    """The labeler with what it makes of labelled images: of `labeler`, else `held_out`, else `training`.

    It may have been trained on them, which is said; images of classes that it does not know are left out. Raises
    LeadlineError when the training data has images of a class that it does not know.
    """
    wanted = [name for name, n in training.counts().items() if n]
    unknown = [name for name in wanted if name not in given.classes]
    if unknown:
        raise LeadlineError(
            f"the given labeler ({FLAG}) has the classes {', '.join(given.classes)}, the training data (--train, "
            f"--groups) {', '.join(wanted)}: {unknown[0]!r} is not among the labeler's; give both the same names (in "
            "the file's metadata, by --prompt CLASS=TEXT, or by the column that --groups names)"
        )
    sets: tuple[tuple[Literal["labeler", "held_out", "training"], str, ImageSet | None], ...] = (
        ("labeler", "labelled images given for the labeler", labeler),
        ("held_out", "labelled held-out images", held_out),
        ("training", "labelled training images", training),
    )
    for part, name, images in sets:
        if images is None or images.labels is None:
            continue
        numbers = np.array([_position(given.classes, own) for own in images.classes], dtype=np.int64)
        labels = numbers[images.labels]
        known = np.flatnonzero(labels >= 0)
        if not len(known):
            continue
        chosen = images if len(known) == len(images) else images.take(known)
        outputs, _ = encode(chosen, [given], cache=cache)
        left_out = len(images) - len(known)
        return replace(
            given,
            held_out_labels=labels[known],
            held_out_probabilities=np.asarray(outputs[given.name]["probabilities"]),
            judged_on=name,
            judged_part=part,
            caution=f"The images are {images.name}. What the labeler was trained on is not known: it may have seen "
            "them." + (f" {left_out:,} of classes that it does not know are left out." if left_out else ""),
            images_per_class={c: int((labels == i).sum()) for i, c in enumerate(given.classes)},
        )
    return given


def read_weights(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. Raises LeadlineError on anything else: a pickle is never opened."""
    try:
        with safe_open(file, framework="pt") as content:
            return {name: content.get_tensor(name) for name in content.keys()}, content.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise LeadlineError(
            f"the labeler's weights {file} cannot be read as safetensors ({error}); a pickle (.pt, .pth, .bin) can run "
            "code and is not opened: convert it with safetensors.torch.save_file where it comes from"
        ) from None


def _network(architecture: str, num_classes: int, tensors: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """An architecture of torchvision with one output for each class; for two, one in all, where that is the file's."""
    wanted = _build(architecture, num_classes)
    other = _build(architecture, 1) if num_classes == 2 and not _same_shapes(wanted, tensors) else wanted
    return other if _same_shapes(other, tensors) else wanted


def _build(architecture: str, num_outputs: int) -> torch.nn.Module:
    """The architecture with values that are replaced; the global generator stays as it was."""
    # Not on the meta device, where some of the builders read their own values.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Two of the builders announce that their random values, which are not used here, will change.
        warnings.simplefilter("ignore", FutureWarning)
        module: torch.nn.Module = models.get_model(architecture, weights=None, num_classes=num_outputs)
    return module


def _same_shapes(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> bool:
    return all(name in tensors and tensors[name].shape == value.shape for name, value in module.state_dict().items())


def _checked_scale(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """mean and std as tuples that images of so many channels can be scaled by. Raises LeadlineError."""
    if mean is None and std is None:
        return None, None
    found = tuple(mean or ()), tuple(std or ())
    if len(found[0]) not in {3, channels} or len(found[1]) != len(found[0]) or min(found[1]) <= 0:
        raise LeadlineError(
            f"mean and std go together, one number for each channel (3, or 1 for grey images), each std above 0; given "
            f"were {mean!r} and {std!r} for images of {channels} channels"
        )
    return found


def _json_of(file: Path, metadata: Mapping[str, str], name: str, default: Any) -> Any:
    if name not in metadata:
        return default
    try:
        return json.loads(metadata[name])
    except json.JSONDecodeError as error:
        raise LeadlineError(f"{file}: {name!r} in the metadata is not valid JSON ({error}): {HOW_TO_SAVE}") from None


def _numbers(file: Path, metadata: Mapping[str, str], name: str, default: Sequence[float]) -> tuple[float, ...]:
    found = _json_of(file, metadata, name, list(default))
    try:
        return tuple(float(value) for value in found)
    except (TypeError, ValueError):
        raise LeadlineError(
            f"{file}: {name!r} in the metadata is a JSON list of three numbers, of images in [0, 1], not {found!r}"
        ) from None


def _position(classes: Sequence[str], name: str) -> int:
    return classes.index(name) if name in classes else -1


def _listed(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
