"""DINOv2 and CLIP's image half from a Hugging Face folder, with the preparation that the folder asks for."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import nn

from leadline.audit.encoders.network import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    RGB,
    VectorEncoder,
    batch_size_for,
    channel_constants,
    dimension_of,
    resize,
    resized_size,
)
from leadline.audit.encoders.registry import ENCODERS, Request
from leadline.audit.encoders.weights import fingerprint_of
from leadline.errors import LeadlineError
from leadline.hub import hub_folder

CONFIG, PREPROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
FILES = (CONFIG, PREPROCESSOR, WEIGHTS)
RESAMPLING = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the two ways that torch has too."""
SIZES = {384: "small", 768: "base", 1024: "large", 1280: "huge", 1536: "giant"}
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What a network reads: images with `shorter` px on the shorter side, their middle of `crop`, normalised.

    shorter None: brought to `crop` straight, the proportions given up. mode: bilinear or bicubic.
    """

    shorter: int | None
    crop: tuple[int, int]
    mode: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def describe(self) -> str:
        """In words, for the audit's settings."""
        middle = f"{self.crop[0]}×{self.crop[1]} px"
        cut = middle if self.shorter is None else f"{self.shorter} px on the shorter side, of that the middle {middle}"
        mean, std = (", ".join(str(value) for value in values) for values in (self.mean, self.std))
        return f"{self.mode} with antialiasing to {cut}; mean {mean}, standard deviation {std}"


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of network. model: transformers' class; types: its names in config.json; output: its field that is used.

    repository: what is looked up on the Hugging Face hub without a folder. default: where the folder does not say;
    one_size: whether the network reads images of its configuration's size alone, and the default is that.
    """

    title: str
    model: str
    types: tuple[str, ...]
    output: str
    repository: str
    default: Preparation
    one_size: bool


DINOV2 = Family(
    title="DINOv2",
    model="Dinov2Model",
    types=("dinov2",),
    output="pooler_output",
    repository="facebook/dinov2-large",
    default=Preparation(shorter=256, crop=(224, 224), mode="bicubic", mean=IMAGENET_MEAN, std=IMAGENET_STD),
    one_size=False,
)
CLIP = Family(
    title="CLIP",
    model="CLIPVisionModelWithProjection",
    types=("clip", "clip_vision_model"),
    output="image_embeds",
    repository="openai/clip-vit-large-patch14",
    default=Preparation(
        shorter=224,
        crop=(224, 224),
        mode="bicubic",
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    ),
    one_size=True,
)


def _transformer(request: Request, family: Family) -> VectorEncoder:
    """Oquab et al. (2024), DINOv2's class token; Radford et al. (2021), CLIP's image embedding, not normalised.

    Both want the extra `[text]`. The folder holds config.json, model.safetensors and preprocessor_config.json; without
    one, the authors' ViT-L/14 is looked for in Hugging Face's cache.
    """
    folder = _folder(request, family)
    config = _read_json(folder / CONFIG)
    if config.get("model_type") not in family.types:
        raise LeadlineError(
            f"{folder} holds a model of type {config.get('model_type')!r}, expected {' or '.join(family.types)} "
            f"(--encoder {request.name}:FOLDER)"
        )
    network = _load(folder, family)
    usual = family.default
    if family.one_size:
        side = network.config.image_size
        usual = replace(usual, shorter=side, crop=(side, side))
    preparation = read_preparation(folder, usual)
    name = _name(family, network.config)
    fingerprint = fingerprint_of(
        {"architecture": name, "preparation": asdict(preparation), "config": config, "version": VERSION},
        network.state_dict(),
    )
    network = network.to(request.device)
    vectors = partial(_vectors, network, family.output, preparation)
    source = family.repository if request.path is None else folder.name
    said = "" if (folder / PREPROCESSOR).is_file() else f" (the default: the folder has no {PREPROCESSOR})"
    return VectorEncoder(
        name=name,
        fingerprint=fingerprint,
        description=f"{family.title} from {source}; {preparation.describe()}{said}; {family.output}.",
        batch_size=batch_size_for(*preparation.crop),
        outputs={"features": dimension_of(str(folder), vectors, request.shape, request.device)},
        shape=request.shape,
        device=request.device,
        vectors=vectors,
    )


ENCODERS.register("dinov2")(partial(_transformer, family=DINOV2))
ENCODERS.register("clip")(partial(_transformer, family=CLIP))


def prepare(images: RGB, preparation: Preparation) -> RGB:
    """RGB images in [-1, 1] -> resized, cut to the middle and normalised; values that resizing put outside are held."""
    height, width = preparation.crop
    values = (images + 1) / 2
    wanted = (
        preparation.crop
        if preparation.shorter is None
        else resized_size(values.shape[2], values.shape[3], preparation.shorter)
    )
    values = resize(values, wanted, preparation.mode, antialias=True).clamp(0, 1)
    top, left = (wanted[0] - height) // 2, (wanted[1] - width) // 2
    middle = values[:, :, top : top + height, left : left + width]
    mean, std = (channel_constants(constants, images.device) for constants in (preparation.mean, preparation.std))
    return (middle - mean) / std


def read_preparation(folder: Path, default: Preparation) -> Preparation:
    """What the folder's preprocessor_config.json asks for; `default` where there is none. Raises LeadlineError."""
    path = folder / PREPROCESSOR
    if not path.is_file():
        return default
    words = _read_json(path)
    try:
        size: Any = words["size"]
        straight = isinstance(size, dict) and "shortest_edge" not in size
        shorter = None if straight else int(size["shortest_edge"]) if isinstance(size, dict) else int(size)
        crop: Any = size if straight else words.get("crop_size", shorter)
        height, width = (crop["height"], crop["width"]) if isinstance(crop, dict) else (crop, crop)
        mean, std = (tuple(float(value) for value in words[key]) for key in ("image_mean", "image_std"))
        found = Preparation(
            shorter=shorter, crop=(int(height), int(width)), mode=RESAMPLING[words["resample"]], mean=mean, std=std
        )
        skipped = [key for key in ("do_resize", "do_rescale", "do_normalize") if not words.get(key, True)]
        if skipped or not (straight or words.get("do_center_crop", True)):
            raise ValueError(f"{', '.join(skipped) or 'do_center_crop'} is off, which is not supported")
        if not (len(mean) == len(std) == 3 and min(found.crop) > 0 and min(std) > 0):
            raise ValueError("expected three means, three standard deviations above 0 and a size in px")
        if shorter is not None and max(found.crop) > shorter:
            raise ValueError(f"the middle, {found.crop}, does not fit into {shorter} px")
    except (KeyError, TypeError, ValueError) as error:
        raise LeadlineError(f"{path} does not say how images are prepared: {type(error).__name__}: {error}") from None
    return found


def _folder(request: Request, family: Family) -> Path:
    """The folder given, or the one in the hub's cache, fetched into it when asked."""
    if request.path is not None:
        absent = [name for name in (CONFIG, WEIGHTS) if not (request.path / name).is_file()]
        if absent:
            raise LeadlineError(
                f"--encoder {request.name}:{request.path}: expected a folder with {CONFIG} and {WEIGHTS}, as "
                f"save_pretrained writes it; there is no {' and no '.join(absent)} (pickled weights are not read)"
            )
        return request.path
    ways = f"give a folder with {', '.join(FILES)} (--encoder {request.name}:FOLDER)"
    return hub_folder(family.repository, FILES, ways=ways, download=request.download)


def _load(folder: Path, family: Family) -> Any:
    """transformers' network with the folder's safetensors, float32, frozen. Raises LeadlineError where some lack."""
    try:
        import transformers
    except ImportError:
        raise LeadlineError(f"{family.title} needs the package transformers: pip install 'leadline[text]'") from None
    try:
        with _quiet(transformers.utils.logging):
            network, said = getattr(transformers, family.model).from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                # Said here, as a folder's configuration may name code on the hub instead.
                attn_implementation="sdpa",
            )
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
        raise LeadlineError(f"{folder} cannot be read as {family.title}: {str(error)[:300]}") from None
    absent = sorted(str(name) for name in said["missing_keys"])
    if absent:
        raise LeadlineError(f"{folder / WEIGHTS} lacks {len(absent)} of {family.title}'s weights, such as {absent[0]}")
    return network.float().requires_grad_(False).eval()


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """No progress bars and no reports from transformers; what is missing is said in an error instead."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _vectors(network: nn.Module, output: str, preparation: Preparation, images: RGB) -> Float[torch.Tensor, "n d"]:
    found: torch.Tensor = getattr(network(pixel_values=prepare(images, preparation)), output)
    return found


def _name(family: Family, config: Any) -> str:
    """Such as dinov2-large-patch14: two sizes of a network are two feature spaces."""
    size = SIZES.get(config.hidden_size, f"{config.hidden_size}d")
    return f"{family.title.lower()}-{size}-patch{config.patch_size}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LeadlineError(f"{path} cannot be read: {error}") from None
    if not isinstance(words, dict):
        raise LeadlineError(f"{path} holds {type(words).__name__}, expected an object")
    return words
