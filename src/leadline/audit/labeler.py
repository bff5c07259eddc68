"""The attribute classifier behind shares: trained apart from what is audited, calibrated, allowed to be unsure."""

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize_scalar

from leadline.audit.encoders.network import exact_arithmetic
from leadline.audit.encoders.weights import fingerprint_of
from leadline.audit.judged import AttributeLabeler
from leadline.audit.network import Network, build, train
from leadline.errors import LeadlineError
from leadline.files import atomic_folder
from leadline.progress import ProgressCallback, silent
from leadline.records import ImageSet, scaled
from leadline.rng import numpy_generator_for

NUM_FOLDS = 5
LARGE = 4000
"""From this many images on one network is trained on four fifths; below, five networks cross-fit."""
METHOD_VERSION = 1
"""Raised when training changes, so that no labeler of an older method is taken from the cache."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Labeler(AttributeLabeler):
    """Networks that vote on the class of an image, with what they made of images they had not seen.

    temperature: divides the logits. held_out_probabilities: the calibrated ones, by a network that was not trained on
    the image.
    """

    networks: tuple[Network, ...]
    temperature: float
    held_out_labels: Int[np.ndarray, " n"]
    held_out_probabilities: Float[np.ndarray, "n classes"]
    judged_on: str = "labelled images it has not seen"
    doubt = "its calibrated probability"
    batch_size = 64

    @property
    def description(self) -> str:
        """Network, what it was trained on and what it is given, in one sentence."""
        channels, height, width = self.shape
        counts = ", ".join(f"{name} {n:,}" for name, n in self.images_per_class.items())
        return (
            f"{len(self.networks)} small convolutional networks of our own, trained on labelled images ({counts}), "
            f"which read {'grey' if channels == 1 else 'RGB'} images of {width}×{height} px in [-1, 1]"
        )

    @property
    def cross_fitted(self) -> bool:
        """With several networks, each judged the images that it was not trained on."""
        return len(self.networks) > 1

    def details(self) -> dict[str, Any]:
        """How many networks vote, and their temperature."""
        return {"networks": len(self.networks), "temperature": self.temperature}

    @property
    def outputs(self) -> Mapping[str, int]:
        """`features`: of all networks side by side; `probabilities`: one per class."""
        return {"features": sum(n.head.in_features for n in self.networks), "probabilities": len(self.classes)}

    def encode(self, images: Float[np.ndarray, "n c h w"]) -> dict[str, np.ndarray]:
        """float images in [-1, 1] -> features [n, d] of length 1 and calibrated probabilities [n, classes].

        features: what each network's last layer sees, brought to length 1, all networks side by side, the whole to
        length 1 again: every network weighs the same, and the squared distance of two images is 2 - 2 cos.
        """
        self._check(images)
        device = next(self.networks[0].parameters()).device
        batch = torch.from_numpy(np.array(images, dtype=np.float32)).to(device)
        features, probabilities = [], []
        with exact_arithmetic(), one_thread():
            for network in self.networks:
                logits, seen = network(batch)
                features.append(torch.nn.functional.normalize(seen, dim=1))
                probabilities.append((logits / self.temperature).softmax(1))
            joined = torch.cat(features, 1) / len(features) ** 0.5
            mean = torch.stack(probabilities).mean(0)
        return {"features": joined.cpu().numpy(), "probabilities": mean.cpu().numpy()}

    def predict(
        self, images: Float[np.ndarray, "n c h w"], batch_size: int = 256
    ) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n classes"]]:
        """float images in [-1, 1] -> (labels, UNCLASSIFIED where unsure; calibrated probabilities)."""
        probabilities = self._in_batches("probabilities", images, batch_size)
        return self.decide(probabilities), probabilities

    def features(self, images: Float[np.ndarray, "n c h w"], batch_size: int = 256) -> Float[np.ndarray, "n d"]:
        """float images in [-1, 1] -> features of length 1, as `encode`."""
        return self._in_batches("features", images, batch_size)

    def _in_batches(self, output: str, images: Float[np.ndarray, "n c h w"], batch_size: int) -> np.ndarray:
        starts = range(0, len(images), batch_size)
        found = [self.encode(images[start : start + batch_size])[output] for start in starts]
        return np.concatenate([np.empty((0, self.outputs[output]), np.float32), *found])


def train_labeler(
    images: ImageSet,
    *,
    confidence: float,
    epochs: int,
    seed: int,
    cache: Path | None = None,
    device: torch.device | None = None,
    progress: ProgressCallback = silent,
) -> Labeler:
    """A labeler of the classes that `images` holds; labels must be there, of two classes or more.

    Below 4,000 images five networks cross-fit: each is judged on the fifth that it was not trained on, and their
    probabilities are averaged. From there on one network is trained on four fifths. The temperature is fitted on the
    images not trained on, all classes weighing the same, as they do in training: the labeler expects no class more
    than another, whatever the mixture of `images`.

    cache: folder in which it is kept under the hash of images and options. Raises LeadlineError on unfit images.
    """
    images = _only_known_classes(images)
    assert images.labels is not None  # noqa: S101 - just checked; for the type checker
    device = device or torch.device("cpu")
    folds = _folds(images.labels, seed)
    judged = range(NUM_FOLDS if len(images) < LARGE else 1)
    options = {"version": METHOD_VERSION, "epochs": epochs, "seed": seed, "networks": len(judged)}
    key = hashlib.sha256(json.dumps([images.fingerprint(), options]).encode()).hexdigest()[:32]
    folder = None if cache is None else cache / f"labeler-{key}"
    known = None if folder is None else load_labeler(folder, confidence, device)
    if known is not None:
        progress("labeler: taken from the cache", 0, 0, "")
        return known
    stage = f"labeler: training on {len(images):,} images of {len(images.classes)} classes"
    ended = count(1)
    progress(stage, 0, len(judged) * epochs, "epochs")

    def after_epoch() -> None:
        progress(stage, next(ended), len(judged) * epochs, "epochs")

    labels = torch.from_numpy(images.labels)

    def fit(index: int) -> Network:
        return train(
            images,
            np.flatnonzero(folds != index),
            epochs=epochs,
            seed=seed,
            index=index,
            device=device,
            after_epoch=after_epoch,
        )

    # Networks this small gain nothing from several threads each, and much from a core each. The number of threads is
    # partly global: it is set back here alone, after the workers, whose own settings end with them.
    workers = min(len(judged), os.cpu_count() or 1)
    with one_thread(), ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        networks = tuple(pool.map(fit, judged))
    logits = torch.empty(len(images), len(images.classes))
    with exact_arithmetic(), one_thread():
        for index, network in enumerate(networks):
            for chosen in torch.split(torch.from_numpy(np.flatnonzero(folds == index)), 1024):
                batch = torch.from_numpy(scaled(images.pixels[chosen.numpy()]))
                logits[chosen] = network(batch.to(device))[0].cpu()
    unseen = torch.from_numpy(np.flatnonzero(folds < len(judged)))
    temperature = fit_temperature(logits[unseen], labels[unseen])
    labeler = Labeler(
        classes=images.classes,
        shape=images.shape,
        networks=networks,
        temperature=temperature,
        confidence=confidence,
        held_out_labels=labels[unseen].numpy(),
        held_out_probabilities=(logits[unseen] / temperature).softmax(1).numpy(),
        images_per_class=images.counts(),
        fingerprint=_fingerprint(networks, temperature),
    )
    if folder is not None:
        try:
            save_labeler(labeler, folder)
        # safetensors has its own error for a disk that is full.
        except (OSError, SafetensorError) as error:
            warnings.warn(f"the labeler could not be kept for the next audit, this one goes on: {error}", stacklevel=2)
    return labeler


def fit_temperature(logits: Float[torch.Tensor, "n classes"], labels: Int[torch.Tensor, " n"]) -> float:
    """Guo et al. (2017), eq. 9: the T > 0 that minimises the mean -log softmax(logits / T)[label].

    Every class weighs the same. T lies in [1/20, 20]: on separable images the optimum would be 0.
    """
    weights = 1 / torch.bincount(labels, minlength=logits.shape[1]).double()[labels]
    wide = logits.double()

    def loss(log_temperature: float) -> float:
        log_probabilities = (wide * np.exp(-log_temperature)).log_softmax(1)
        return -float((weights * log_probabilities.gather(1, labels[:, None])[:, 0]).sum() / weights.sum())

    found = minimize_scalar(loss, bounds=(-np.log(20), np.log(20)), method="bounded")
    return float(np.exp(found.x))


def without_overlap(images: ImageSet, others: Mapping[str, ImageSet | None]) -> tuple[ImageSet, dict[str, int]]:
    """`images` without those that stand, byte for byte, in another set or earlier in this one; how many went, and why.

    A labeler trained on audited images would know their labels by heart, and repeats would flatter its accuracy.
    """
    owner = {image: name for name, other in others.items() if other is not None for image in image_hashes(other)}
    dropped = dict.fromkeys([*others, "repeats"], 0)
    kept = []
    for index, image in enumerate(image_hashes(images)):
        if image in owner:
            dropped[owner[image]] += 1
        else:
            owner[image] = "repeats"
            kept.append(index)
    return (images if len(kept) == len(images) else images.take(kept)), dropped


def save_labeler(labeler: Labeler, folder: Path) -> None:
    """Write weights and held-out results as safetensors, the rest as JSON."""
    tensors = {
        f"networks.{index}.{name}": value.contiguous()
        for index, network in enumerate(labeler.networks)
        for name, value in network.state_dict().items()
    }
    tensors["held_out_labels"] = torch.from_numpy(labeler.held_out_labels)
    tensors["held_out_probabilities"] = torch.from_numpy(labeler.held_out_probabilities)
    words = {
        "classes": labeler.classes,
        "shape": labeler.shape,
        "networks": len(labeler.networks),
        "temperature": labeler.temperature,
        "images_per_class": labeler.images_per_class,
        "fingerprint": labeler.fingerprint,
    }
    with atomic_folder(folder) as temporary:
        save_file(tensors, temporary / "labeler.safetensors")
        (temporary / "labeler.json").write_text(json.dumps(words), encoding="utf-8")


def load_labeler(folder: Path, confidence: float, device: torch.device) -> Labeler | None:
    """What `save_labeler` wrote, or None when it is not there or not whole."""
    try:
        words: dict[str, Any] = json.loads((folder / "labeler.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "labeler.safetensors")
        classes, shape = tuple(words["classes"]), tuple(words["shape"])
        networks = []
        for index in range(words["networks"]):
            prefix = f"networks.{index}."
            network = build(shape[0], max(shape[1:]), len(classes))
            network.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
            networks.append(network.to(device).eval())
        labeler = Labeler(
            classes=classes,
            shape=shape,
            networks=tuple(networks),
            temperature=words["temperature"],
            confidence=confidence,
            held_out_labels=tensors["held_out_labels"].numpy(),
            held_out_probabilities=tensors["held_out_probabilities"].numpy(),
            images_per_class=words["images_per_class"],
            fingerprint=words["fingerprint"],
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError):
        return None
    return labeler if _fingerprint(labeler.networks, labeler.temperature) == labeler.fingerprint else None


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch's CPU kernels on one thread: small layers only wait for each other on more, worst on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _only_known_classes(images: ImageSet) -> ImageSet:
    """`images` with the classes that have images, renumbered. Raises LeadlineError where there are fewer than two."""
    present = [name for name, n in images.counts().items() if n]
    if images.labels is None or len(present) < 2:
        raise LeadlineError(
            f"the labeler needs labelled images of two classes or more; {images.name!r} has {len(images)} images of "
            f"{', '.join(present) or 'no known class'} (--labeler DATA, --set data.labeler=N)"
        )
    position = {images.classes.index(name): place for place, name in enumerate(present)}
    labels = np.array([position[int(label)] for label in images.labels], dtype=np.int64)
    return ImageSet(name=images.name, pixels=images.pixels, labels=labels, classes=tuple(present), ids=images.ids)


def _folds(labels: Int[np.ndarray, " n"], seed: int) -> Int[np.ndarray, " n"]:
    """Fold 0 to 4 of each image; every class is spread evenly."""
    generator = numpy_generator_for(seed, "labeler folds")
    folds = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        folds[members] = np.arange(len(members)) % NUM_FOLDS
    return folds


def image_hashes(images: ImageSet) -> Iterator[bytes]:
    return (hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images.pixels)


def _fingerprint(networks: Sequence[Network], temperature: float) -> str:
    tensors = {
        f"{i}.{name}": value for i, network in enumerate(networks) for name, value in network.state_dict().items()
    }
    return fingerprint_of({"version": METHOD_VERSION, "temperature": temperature}, tensors)
