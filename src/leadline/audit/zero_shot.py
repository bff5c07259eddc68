"""CLIP as a labeler: an image has the class whose prompts it is most similar to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch.nn import functional

from leadline.audit.encoders.network import batch_size_for, exact_arithmetic, rgb
from leadline.audit.encoders.transformer import CLIP, Preparation, prepare, read_preparation
from leadline.audit.encoders.weights import fingerprint_of
from leadline.audit.judged import AttributeLabeler, tried
from leadline.errors import LeadlineError
from leadline.hub import hub_folder

VERSION = 1
"""Raised when what is made of CLIP's embeddings changes, so that no older outputs are taken from the cache."""
FILES = (
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)
"""CLIP's on the hub: network, preparation of the images, tokenizer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ZeroShotLabeler(AttributeLabeler):
    """Radford et al. (2021), section 3.1: p(class | image) = softmax over classes of s · cos(image, class).

    s: CLIP's own scale, exp(logit_scale). texts [classes, d]: the mean of a class's prompts' embeddings, each brought
    to length 1, brought to length 1 again. model: transformers' CLIPModel.
    """

    model: Any
    texts: Float[torch.Tensor, "classes d"]
    prompts: dict[str, tuple[str, ...]]
    preparation: Preparation
    source: str
    doubt = "its probability, CLIP's own and not calibrated,"

    @property
    def description(self) -> str:
        """Network, prompts and how images reach it, in one sentence."""
        said = "; ".join(f"{name}: {', '.join(map(repr, texts))}" for name, texts in self.prompts.items())
        return f"CLIP of {self.source} by prompts ({said}), which reads RGB images, {self.preparation.describe()}"

    @property
    def batch_size(self) -> int:
        """Images per call: fewer where CLIP reads large ones."""
        return batch_size_for(*self.preparation.crop)

    @property
    def outputs(self) -> Mapping[str, int]:
        """`features`: CLIP's image embedding; `probabilities`: one per class."""
        return {"features": self.texts.shape[1], "probabilities": len(self.classes)}

    def details(self) -> dict[str, Any]:
        """Network and prompts in words."""
        return {"labeler": self.description}

    def encode(self, images: Float[np.ndarray, "n c h w"]) -> dict[str, np.ndarray]:
        """float images in [-1, 1] -> features [n, d] of length 1 and probabilities [n, classes]."""
        self._check(images)
        batch = rgb(images, self.name, self.shape, self.texts.device)
        with exact_arithmetic():
            seen = self.model.vision_model(pixel_values=prepare(batch, self.preparation))
            features = functional.normalize(self.model.visual_projection(seen.pooler_output), dim=1)
            probabilities = (self.model.logit_scale.exp() * features @ self.texts.T).softmax(1)
        return {"features": features.cpu().numpy(), "probabilities": probabilities.cpu().numpy()}


def zero_shot_labeler(
    prompts: Sequence[str],
    folder: Path | None,
    *,
    shape: tuple[int, int, int],
    confidence: float,
    device: torch.device,
    download: bool = False,
) -> ZeroShotLabeler:
    """CLIP by prompts, CLASS=TEXT each, several of a class averaged.

    folder: weights as safetensors, configuration and tokenizer as `save_pretrained` writes them; None:
    openai/clip-vit-large-patch14 out of the local cache of the hub, fetched only with `download`. No code of the
    folder is run. confidence: the least probability that counts as sure. Raises LeadlineError.
    """
    asked = parse_prompts(prompts)
    model, tokenizer, source = _open(folder, download)
    size = model.config.vision_config.image_size
    usual = replace(CLIP.default, shorter=size, crop=(size, size))
    preparation = usual if folder is None else read_preparation(folder, usual)
    model = model.float().to(device).eval()
    with exact_arithmetic():
        texts = torch.stack([_embedding(model, tokenizer, list(of_class)) for of_class in asked.values()])
    return tried(
        ZeroShotLabeler(
            classes=tuple(asked),
            shape=shape,
            confidence=confidence,
            fingerprint=fingerprint_of(
                {"version": VERSION, "prompts": list(asked.items()), "preparation": preparation.describe()},
                {**model.state_dict(), "texts": texts},
            ),
            model=model,
            texts=texts,
            prompts=asked,
            preparation=preparation,
            source=source,
        )
    )


def parse_prompts(prompts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """CLASS=TEXT, ... -> class -> its texts, classes in the order of their first text. Raises LeadlineError."""
    found: dict[str, list[str]] = {}
    for prompt in prompts:
        name, _, text = (part.strip() for part in prompt.partition("="))
        if not name or not text:
            raise LeadlineError(f"--prompt takes CLASS=TEXT (male=a photo of a man), not {prompt!r}")
        found.setdefault(name, []).append(text)
    if len(found) < 2:
        raise LeadlineError(
            f"a labeler by prompts needs two classes or more, not {len(found)}: --prompt 'male=a photo of a man' "
            "--prompt 'female=a photo of a woman'"
        )
    return {name: tuple(texts) for name, texts in found.items()}


def _open(folder: Path | None, download: bool) -> tuple[Any, Any, str]:
    """transformers' CLIPModel and tokenizer, whole, and where they come from."""
    try:
        from transformers import CLIPModel, CLIPTokenizer
        from transformers.utils import logging
    except ImportError:
        raise LeadlineError(
            "a labeler by prompts needs the package transformers: pip install 'leadline[text]'"
        ) from None
    if folder is not None and not (folder / "config.json").is_file():
        raise LeadlineError(
            f"--labeler-model clip:{folder}: there is no folder with a config.json, as CLIPModel.save_pretrained and "
            "CLIPTokenizer.save_pretrained write it"
        )
    ways = "give a folder that CLIPModel.save_pretrained and CLIPTokenizer.save_pretrained wrote (clip:FOLDER)"
    source = folder or hub_folder(CLIP.repository, FILES, ways=ways, download=download)
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model, report = CLIPModel.from_pretrained(
            source,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            # Said here, as a folder's configuration may name code on the hub instead.
            attn_implementation="sdpa",
        )
        tokenizer = CLIPTokenizer.from_pretrained(source, local_files_only=True)
    # OSError: no such files; the others: files that are damaged or of another model.
    except (OSError, ValueError, TypeError, RuntimeError, KeyError, SafetensorError) as error:
        raise LeadlineError(
            f"CLIP cannot be opened from {source} (safetensors and a tokenizer are read, never a pickle): {error}"
        ) from error
    finally:
        if bar:
            logging.enable_progress_bar()
    absent = [*report["missing_keys"], *(str(entry) for entry in report["mismatched_keys"])]
    if absent:
        raise LeadlineError(
            f"{source} does not hold all of CLIP: {len(absent)} values are missing, such as {absent[0]}"
        )
    return model, tokenizer, folder.name if folder is not None else CLIP.repository


def _embedding(model: Any, tokenizer: Any, texts: list[str]) -> Float[torch.Tensor, " d"]:
    """The mean of the texts' embeddings of length 1, brought to length 1."""
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    longest, room = tokens["input_ids"].shape[1], model.config.text_config.max_position_embeddings
    if longest > room:
        raise LeadlineError(f"a prompt has {longest} tokens and CLIP reads {room}: shorten {max(texts, key=len)!r}")
    seen = model.text_model(**tokens.to(model.device)).pooler_output
    each = functional.normalize(model.text_projection(seen), dim=1)
    return functional.normalize(each.mean(0), dim=0)
