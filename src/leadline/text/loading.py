"""A text-to-image pipeline of diffusers from a folder or the hub: safetensors alone, no code, no network unasked."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import SafetensorError

from leadline.errors import LeadlineError
from leadline.files import file_digest
from leadline.hub import fetch, hub_folder
from leadline.text.parts import INDEX, Part, absent_files, check_files, needed, read_json, shards

TEXT_EXTRA = "text-to-image pipelines need the package transformers: pip install 'leadline[text]'"
WAYS = "give the path of its folder"
VOCABULARY_PADDING = 128
"""Embeddings beyond a tokenizer's last word stay below this: they are padded to a multiple of 64 or 128."""
BROKEN = (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, ImportError, SafetensorError)
"""What the libraries raise over a folder that is damaged or not what it says."""


_DIFFUSERS_WEIGHTS = "diffusion_pytorch_model"
_VAE = Part(library="diffusers", classes=("AutoencoderKL", "AutoencoderTiny"), weights=_DIFFUSERS_WEIGHTS)
_UNET = Part(library="diffusers", classes=("UNet2DConditionModel",), weights=_DIFFUSERS_WEIGHTS)
_TEXT = Part(library="transformers", classes=("CLIPTextModel",), weights="model")
_TEXT_PROJECTED = Part(library="transformers", classes=("CLIPTextModelWithProjection",), weights="model")
_TOKENIZER = Part(
    library="transformers",
    classes=("CLIPTokenizer", "CLIPTokenizerFast"),
    config="tokenizer_config.json",
    vocabularies=(("tokenizer.json",), ("vocab.json", "merges.txt")),
)
_SCHEDULER = Part(library="diffusers", classes=(), config="scheduler_config.json")
_SD = {"vae": _VAE, "text_encoder": _TEXT, "tokenizer": _TOKENIZER, "unet": _UNET, "scheduler": _SCHEDULER}
_SDXL = {**_SD, "text_encoder_2": _TEXT_PROJECTED, "tokenizer_2": _TOKENIZER}
PIPELINES: dict[str, tuple[str, dict[str, Part]]] = {
    "StableDiffusionPipeline": ("StableDiffusionPipeline", _SD),
    "StableDiffusionImg2ImgPipeline": ("StableDiffusionPipeline", _SD),
    "StableDiffusionXLPipeline": ("StableDiffusionXLPipeline", _SDXL),
    "StableDiffusionXLImg2ImgPipeline": ("StableDiffusionXLPipeline", _SDXL),
}
"""What a folder may call itself -> the pipeline that it is opened as, and its parts."""
LEFT_OUT: dict[str, dict[str, Any]] = {
    "StableDiffusionPipeline": {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    "StableDiffusionXLPipeline": {"add_watermarker": False},
}
"""A model is measured by what it draws: the checker that blackens images and the watermark are left out."""
NOT_NEEDED = {"safety_checker", "feature_extractor", "image_encoder"}
UNCONDITIONAL = {"DDPMPipeline", "DDIMPipeline", "PNDMPipeline", "ScoreSdeVePipeline", "KarrasVePipeline"}


def load_text_pipeline(
    source: str, *, device: torch.device | str = "cpu", download: bool = False, dtype: torch.dtype | None = None
) -> Any:
    """The StableDiffusionPipeline or StableDiffusionXLPipeline in a folder, or of a hub name "organisation/name".

    dtype: default float32, whatever the files are in. Reads safetensors alone and runs no code of the folder; without
    `download` no connection is opened, and what is on this machine already is never fetched again. The safety checker
    and the watermark are left out: they change images after the model has drawn them. Raises LeadlineError.
    """
    folder = pipeline_folder(source, download=download)
    name, parts, index = read_index(folder)
    components: dict[str, Any] = {}
    with quiet():
        for part, wanted in parts.items():
            components[part] = _load(folder / part, wanted, index[part][1])
        _check_words(folder, components)
        try:
            options = {key: index[key] for key in ("force_zeros_for_empty_prompt",) if isinstance(index.get(key), bool)}
            pipe = getattr(diffusers, name)(**components, **LEFT_OUT[name], **options)
        except BROKEN as error:
            raise LeadlineError(f"{folder} cannot be put together as a {name}: {_said(error)}") from None
        return pipe.to(device=torch.device(device), dtype=dtype or torch.float32)


def load_scheduler(source: str, *, download: bool = False) -> Any:
    """The scheduler of such a pipeline alone, its networks unread. Raises LeadlineError as `load_text_pipeline`."""
    folder = pipeline_folder(source, download=download)
    index = read_index(folder)[2]
    with quiet():
        return _load(folder / "scheduler", _SCHEDULER, index["scheduler"][1])


def pipeline_folder(source: str, *, download: bool = False) -> Path:
    """The folder of a pipeline: `source` itself, or the hub's cache of it, filled when `download` says so."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise LeadlineError(
            f"{source} is a file, expected a pipeline folder: diffusers' StableDiffusionPipeline.from_single_file(FILE)"
            ".save_pretrained(FOLDER) makes one"
        )
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source, flags=re.ASCII):
        raise LeadlineError(
            f"{source} is not there: expected a folder with {INDEX}, or a hub name such as organisation/name"
        )
    cached, parts, absent = _in_cache(source, download=download)
    # Twice at most: the first time may bring a newer index, of other parts.
    for _ in range(2):
        if not (absent and download):
            break
        fetch(source, partial(needed, parts=parts), ways=WAYS)
        cached, parts, absent = _in_cache(source, download=download)
    if absent:
        raise LeadlineError(
            f"{source} is not whole on this machine: {cached} lacks {', '.join(absent)}. Either {WAYS}, or have it "
            "fetched (--download)"
        )
    return cached


def _in_cache(source: str, *, download: bool) -> tuple[Path, dict[str, Part], list[str]]:
    """The folder of the hub's cache that stands for a name now, the parts that it should have, and what it lacks."""
    cached = hub_folder(source, [INDEX], ways=WAYS, download=download)
    parts = read_index(cached)[1]
    return cached, parts, absent_files(cached, parts)


def pipeline_fingerprint(folder: Path) -> str:
    """16 digits of the SHA-256 of every file that loading reads: two folders with the same one draw the same images.

    Raises LeadlineError as `load_text_pipeline` does of files.
    """
    _, parts, _ = read_index(folder)
    read = [INDEX]
    for part, wanted in parts.items():
        file = check_files(folder / part, wanted)[1]
        names = {path.name for path in (folder / part).iterdir() if path.suffix in (".json", ".txt")}
        read += [f"{part}/{name}" for name in names.union(shards(folder / part / file) if file else ())]
    digest = hashlib.sha256()
    for name in sorted(read):
        digest.update(f"{name}/{file_digest(folder / name)}/".encode())
    return digest.hexdigest()[:16]


def read_index(folder: Path) -> tuple[str, dict[str, Part], dict[str, Any]]:
    """Class of the pipeline, its parts, and model_index.json. Raises LeadlineError on what is not on the list."""
    path = folder / INDEX
    index = read_json(path, f"{folder} is no diffusers pipeline folder: it has no {INDEX}")
    kind = index.get("_class_name")
    if isinstance(kind, list):
        raise LeadlineError(f"{path} names code of its own ({kind!r}), which is not run: use a plain pipeline")
    if not isinstance(kind, str) or kind not in PIPELINES:
        raise LeadlineError(f"{folder} is a {kind}: {_other_kind(kind, index)}")
    name, parts = PIPELINES[kind]
    listed = {key: value for key, value in index.items() if isinstance(value, list) and not key.startswith("_")}
    surplus = sorted(set(listed) - set(parts) - NOT_NEEDED)
    if surplus:
        raise LeadlineError(f"{path} lists {surplus[0]!r}, which is no part of a {kind}: remove it, or mend the file")
    for part, wanted in parts.items():
        _check_part(path, part, wanted, listed.get(part))
    return name, parts, index


def _check_part(path: Path, part: str, wanted: Part, given: Any) -> None:
    expected = f"{wanted.library}'s {' or '.join(wanted.classes) or 'schedulers'}"
    if not (isinstance(given, list) and len(given) == 2 and all(isinstance(word, str) for word in given)):
        raise LeadlineError(f"{path}: {part} is {given!r}, expected {expected}: text-to-image needs it")
    library, name = given
    fits = name in wanted.classes if wanted.classes else _scheduler(name) is not None
    if library != wanted.library or not fits:
        raise LeadlineError(f"{path}: {part} is {library}.{name}, expected {expected}; nothing else is loaded")


def _scheduler(name: str) -> Any:
    """diffusers' scheduler of that name, or None."""
    if not re.fullmatch(r"[A-Za-z0-9]+Scheduler", name):
        return None
    found = getattr(diffusers, name, None)
    return found if isinstance(found, type) and issubclass(found, diffusers.SchedulerMixin) else None


def _other_kind(kind: object, index: Mapping[str, Any]) -> str:
    """What to do with a pipeline that is not on the list."""
    if kind in UNCONDITIONAL:
        return "an unconditional pipeline, which takes no prompts; `leadline sample` draws from it"
    if "transformer" in index:
        return "a transformer has no mid-block that could be bypassed; a Stable Diffusion 1, 2 or XL pipeline has one"
    return f"expected one of {', '.join(PIPELINES)}"


def _load(folder: Path, spec: Part, name: str) -> Any:
    """One part of a pipeline. Raises LeadlineError naming its folder where it cannot be read whole."""
    variant, file = check_files(folder, spec)
    found = _class(spec.library, name)
    options: dict[str, Any] = {"local_files_only": True}
    if spec.weights:
        options |= {"use_safetensors": True, "output_loading_info": True, "variant": variant or None}
    if spec.weights and spec.library == "transformers":
        # Said here, as a folder's configuration may name code on the hub instead.
        options |= {"attn_implementation": "sdpa"}
    try:
        loaded = found.from_pretrained(folder, **options)
    except BROKEN as error:
        raise LeadlineError(f"{folder} cannot be read as {name}: {_said(error)}") from None
    if not spec.weights:
        return loaded
    network, told = loaded
    absent = sorted(str(key) for key in told["missing_keys"])
    if absent:
        raise LeadlineError(f"{folder / file} lacks {len(absent)} of the weights of {name}, such as {absent[0]}")
    return network.requires_grad_(False).eval()


def _check_words(folder: Path, components: Mapping[str, Any]) -> None:
    """Raise LeadlineError where a tokenizer and its text encoder know different numbers of words."""
    for encoder in (part for part in components if part.startswith("text_encoder")):
        tokenizer = encoder.replace("text_encoder", "tokenizer")
        words, known = len(components[tokenizer]), int(components[encoder].config.vocab_size)
        if not words <= known < words + VOCABULARY_PADDING:
            raise LeadlineError(
                f"{folder}: {tokenizer} has {words} words and {encoder} knows {known}: they do not belong together"
            )


def _class(library: str, name: str) -> Any:
    return getattr(diffusers if library == "diffusers" else _transformers(), name)


def _said(error: BaseException) -> str:
    return str(error)[:300] or type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no log of diffusers and transformers: what matters of it is said by who calls them."""
    with ExitStack() as after:
        for library in (diffusers, _transformers()):
            logging = library.utils.logging
            after.callback(logging.set_verbosity, logging.get_verbosity())
            if logging.is_progress_bar_enabled():
                after.callback(logging.enable_progress_bar)
            logging.set_verbosity_error()
            logging.disable_progress_bar()
        yield


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise LeadlineError(TEXT_EXTRA) from None
    return transformers
