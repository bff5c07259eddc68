"""Samples of a text-to-image model as a run draws them: prompts with the training data's own distribution."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from leadline.data.loading import identical
from leadline.errors import LeadlineError
from leadline.progress import ProgressCallback, silent
from leadline.recipe import SampleSpec
from leadline.records import ImageSet
from leadline.rng import numpy_generator_for
from leadline.sampling import draw_shards
from leadline.steering import steered
from leadline.text.generating import GUIDANCE, check_sampling, cut_prompts, generate, own_size, prepared

PROMPT, PROMPTED, INIT = "prompt", "prompted", "init"
"""Columns of the shards beside image, index and seed: the text, the class that it asks for, the held-out image that
was started from."""


@dataclass(frozen=True, kw_only=True)
class Requests:
    """What is asked of the model, image by image.

    prompts: the texts. prompted: the class that each asks for, by name; None where the texts do not tell classes.
    init: which of the held-out images `starts` each begins with; None: noise.
    """

    prompts: tuple[str, ...]
    prompted: tuple[str, ...] | None = None
    init: tuple[int, ...] | None = None
    starts: ImageSet | None = None

    def columns(self) -> dict[str, tuple[str, ...] | tuple[int, ...]]:
        """Those columns that there are, one value per image."""
        found = {PROMPT: self.prompts, PROMPTED: self.prompted, INIT: self.init}
        return {name: values for name, values in found.items() if values is not None}

    def fingerprint(self) -> str:
        """16 hex digits of all texts, classes and starts."""
        told = json.dumps([self.columns(), None if self.starts is None else self.starts.fingerprint()])
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def requests_for(spec: SampleSpec, training: ImageSet, held_out: ImageSet | None) -> Requests:
    """The prompt of each image of a spec, and with `init_strength` the held-out image that it starts from.

    From noise: the caption of a training image, drawn with (seed, index), so that the prompts have the training data's
    distribution and the samples can be compared with it. From an image: a held-out image of its own and that image's
    caption, so that nearness to the start can be measured; held-out images that are training images to the byte are
    passed over. A class is asked for where captions tell it: where no caption is one of images of two classes. Raises
    LeadlineError where captions or held-out images are missing.
    """
    if spec.init_strength is None:
        of, source = _drawn(spec, len(training)), training
    else:
        source = _with_starts(spec, held_out)
        of = _starts(spec, source, training)
    if not source.captions:
        raise LeadlineError(
            f"{source.name!r} has no captions to prompt a text-to-image model with: name their kind "
            "(--set data.captions=digits or celeba)"
        )
    named = _classes_told([training] if source is training else [training, source])
    return Requests(
        prompts=tuple(source.captions[i] for i in of),
        prompted=None if named is None else tuple(named[source.captions[i]] for i in of),
        init=None if spec.init_strength is None else tuple(int(i) for i in of),
        starts=None if spec.init_strength is None else source,
    )


def _classes_told(sets: Sequence[ImageSet]) -> dict[str, str] | None:
    """Caption -> class by its name; None where there are no classes, or captions that do not tell them apart."""
    named: dict[str, str] = {}
    for images in sets:
        if images.labels is None:
            return None
        for caption, label in zip(images.captions, images.labels, strict=True):
            if named.setdefault(caption, images.classes[label]) != images.classes[label]:
                return None
    return named


def _drawn(spec: SampleSpec, number: int) -> Int[np.ndarray, " n"]:
    """A training image for each index, of (seed, index) alone: more images of a seed keep the first ones' prompts."""
    draws = (numpy_generator_for(spec.seed, "prompt", i).integers(number) for i in range(spec.num_images))
    return np.fromiter(draws, dtype=np.int64)


def _with_starts(spec: SampleSpec, held_out: ImageSet | None) -> ImageSet:
    if held_out is None:
        raise LeadlineError(
            f"sample.init_strength={spec.init_strength:g} starts from held-out images, and there are none: "
            f"--set data.held_out={spec.num_images}"
        )
    return held_out


def _starts(spec: SampleSpec, held_out: ImageSet, training: ImageSet) -> Int[np.ndarray, " n"]:
    """A held-out image for each index, none twice: images that share a start would not be independent."""
    unseen = np.flatnonzero(~identical(held_out, training))
    if len(unseen) < spec.num_images:
        raise LeadlineError(
            f"each of {spec.num_images:,} images starts from a held-out image of its own, and there are "
            f"{len(unseen):,} that are no training images: --set data.held_out= more, or sample.num_images= fewer"
        )
    chosen: np.ndarray = numpy_generator_for(spec.seed, "start").permutation(unseen)[: spec.num_images]
    return chosen


def draw_text(
    pipe: Any,
    spec: SampleSpec,
    requests: Requests,
    folder: Path,
    *,
    given: str = "",
    progress: ProgressCallback = silent,
) -> None:
    """Draw the spec's images from a text-to-image pipeline into `folder`, as `leadline.sampling.draw` does.

    pipe: as of `prepared`, on its device. Columns: image, index, seed, prompt, and where there are any, prompted and
    init. given: fingerprint of a pipeline that is not the run's own, whose files may change; empty: it is. Raises
    LeadlineError as `check_sampling` does, when the starts are not of the pipeline's size, and when there are images of
    other requests or of another given pipeline.
    """
    check_sampling(spec, pipe.scheduler)
    if len(requests.prompts) != spec.num_images:
        raise LeadlineError(f"{spec.num_images} images, but {len(requests.prompts)} prompts: one each is expected")
    side = own_size(pipe)
    if requests.starts is not None and requests.starts.shape[1:] != (side, side):
        height, width = requests.starts.shape[1:]
        raise LeadlineError(
            f"the pipeline draws {side}×{side} px, the images to start from have {height}×{width}: "
            f"--set data.image_size={side}"
        )
    for prompt, (tokens, limit) in cut_prompts(pipe, requests.prompts).items():
        # Its class may stand at its end.
        raise LeadlineError(
            f"the prompt {prompt!r} is {tokens} tokens long, its beginning and end included, and the pipeline's "
            f"text encoder reads {limit}: give shorter captions (--set data.captions=), or another pipeline"
        )
    ready = prepared(pipe, sampler=spec.sampler, image_to_image=requests.starts is not None)

    def make(indices: range) -> torch.Tensor:
        with steered(ready, spec.steer):
            return generate(
                ready,
                requests.prompts[indices[0] : indices[-1] + 1],
                seed=spec.seed,
                indices=indices,
                steps=spec.steps,
                guidance=GUIDANCE if spec.guidance is None else spec.guidance,
                init=_pixels(requests, indices),
                init_strength=spec.init_strength,
            )

    settings: dict[str, Any] = {"shape": [3, side, side], "requests": requests.fingerprint()}
    if given:
        settings["pipeline"] = given
    draw_shards(make, spec, folder, settings=settings, columns=requests.columns(), progress=progress)


def _pixels(requests: Requests, indices: range) -> torch.Tensor | None:
    """The images in [-1, 1] that those of `indices` start from."""
    if requests.starts is None or requests.init is None:
        return None
    chosen = list(requests.init[indices[0] : indices[-1] + 1])
    return torch.from_numpy(requests.starts.take(chosen).images())
