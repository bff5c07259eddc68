"""What a run is made of: frozen, keyword-only specs, validated when built, with a fingerprint."""

import hashlib
import json
import math
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from leadline.errors import LeadlineError, did_you_mean
from leadline.schedules import parse as parse_schedule

RUNTIME: dict[str, Any] = {"runtime": True}
"""Marks a field that changes how a run goes but not what comes out: it is no part of the fingerprint."""
NEUTRAL: dict[str, Any] = {"neutral": True}
"""Marks a field whose default changes nothing: at its default it is no part of the fingerprint, so that runs from
before the field was there keep their names."""


def parse_shares(value: object) -> object:
    """`"6:0.9,9:0.1"` or a mapping -> (("6", 0.9), ("9", 0.1)). Other values are left to the validation."""
    if isinstance(value, str):
        parts = [part.rpartition(":") for part in value.split(",") if part.strip()]
        if any(not name or not share for name, _, share in parts):
            raise ValueError(f"shares are written class:share,class:share (6:0.9,9:0.1), not {value!r}")
        return tuple((name.strip(), share) for name, _, share in parts)
    return tuple(value.items()) if isinstance(value, dict) else value


def parse_names(value: object) -> object:
    """`"6,9"`, `6` or a list -> ("6", "9")."""
    if isinstance(value, str | int):
        return tuple(part.strip() for part in str(value).split(",") if part.strip())
    return tuple(str(part) for part in value) if isinstance(value, list | tuple) else value


def parse_numbers(value: object) -> object:
    """`"1,2,5"` or `5` -> (1, 2, 5), as far as the parts are whole numbers; the rest is left to the validation."""
    if isinstance(value, str | int):
        return tuple(part.strip() for part in str(value).split(",") if part.strip())
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(parse_names)]
Numbers = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(parse_numbers)]
Shares = Annotated[tuple[tuple[str, float], ...], BeforeValidator(parse_shares)]


class Spec(BaseModel):
    """Base of all specs: frozen; an unknown field is an error with the nearest known names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)

    def __init__(self, **fields: Any) -> None:
        unknown = sorted(set(fields) - set(type(self).model_fields))
        if unknown:
            hint = did_you_mean(unknown[0], type(self).model_fields)
            raise LeadlineError(f"{type(self).__name__} has no field {unknown[0]!r}: {hint}")
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise LeadlineError(explain(type(self).__name__, error)) from None


def explain(owner: str, error: ValidationError) -> str:
    """pydantic's findings as one line each: field, what was given, what was expected."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        given = "" if item["type"] == "value_error" and not where else f" (given: {item['input']!r})"
        lines.append(f"{owner}{'.' + where if where else ''}: {item['msg'].removeprefix('Value error, ')}{given}")
    return "\n".join(lines)


class DataSpec(Spec):
    """Which images, in which shares, and what is kept apart."""

    dataset: str = "digits"
    """Name in the registry of data sets: digits, mnist, celeba, imagefolder, folder, huggingface, parquet."""
    path: str | None = None
    """Folder or file of the data set; for huggingface the name on the hub or a local folder."""
    download: bool = False
    """Whether the data set may be fetched from the network when it is not there."""
    split: str | None = None
    """mnist: train (default), test or all. huggingface, celeba from the hub: the split's name (default train)."""
    image_column: str | None = None
    """Column with the images (parquet, huggingface, celeba); default: the only column that holds images."""
    groups: str | None = None
    """Column with the classes, an attribute (Male) or a product of attributes (Blond_Hair*Male)."""
    classes: Names | None = None
    """The classes that the model is trained on; default: those in `shares`, else all."""
    shares: Shares | None = None
    """Exact shares of the classes in the training split, 6:0.9,9:0.1; default: as they come."""
    num_images: int | None = Field(default=None, ge=1)
    """Size of the training split; default: as many as the shares and the other splits leave."""
    held_out: int = Field(default=0, ge=0)
    """Number of held-out real images in the same shares, the baseline of every memorization figure."""
    labeler: int | None = Field(default=0, ge=0)
    """Number of images, of all classes as evenly as can be, for the labeler; None: all that are left."""
    duplicates: int = Field(default=0, ge=0)
    """How many training images are planted again, each `duplicate_copies` times, on top of `num_images`."""
    duplicate_copies: int = Field(default=1, ge=1)
    """How many extra copies of each of the `duplicates`."""
    image_size: int | None = Field(default=None, ge=4)
    """Height and width in px of the images; default: the data set's own, if all its images have one size."""
    channels: Literal[1, 3] | None = None
    """1 (grey) or 3 (RGB); default: the data set's own."""
    fit: Literal["resize", "pad", "crop"] = "resize"
    """resize: to image_size, aspect ratio given up. pad: black border to a square, resized only if larger.
    crop: centre square, then resize."""
    captions: str = Field(default="", json_schema_extra=NEUTRAL)
    """Name in the registry of captions: digits (a handwritten six), celeba (from the attributes); empty: none."""
    max_unreadable_share: float = Field(default=0.01, ge=0, le=1)
    """Files that cannot be decoded are listed and left out; above this share of them loading stops."""
    seed: int = Field(default=0, ge=0)
    """Seed of the choice of images and of the splits."""

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> "DataSpec":
        if self.shares is not None:
            names = [name for name, _ in self.shares]
            total = math.fsum(share for _, share in self.shares)
            if len(set(names)) < len(names):
                raise ValueError(f"shares name a class twice: {', '.join(names)}")
            if any(share <= 0 for _, share in self.shares) or abs(total - 1) > 1e-6:
                raise ValueError(f"shares must be above 0 and sum to 1, but they sum to {total:g}")
            if self.classes is not None and set(self.classes) != set(names):
                raise ValueError(f"classes {', '.join(self.classes)} are not those in shares {', '.join(names)}")
        return self


class ModelSpec(Spec):
    """Which member of the depth family."""

    blocks: int = Field(default=2, ge=2, le=6)
    """Number of down blocks, the papers' depth: the image is halved blocks - 1 times."""
    wide: bool = False
    """The papers' "2 (large)"."""
    match: Names = ()
    """Matched controls: parameters, width, attention (the last also together with one of the others);
    empty: the papers' own models."""
    channels: Numbers | None = Field(default=None, json_schema_extra=NEUTRAL)
    """Channels of each down block, 8,16, in place of the papers': multiples of 8, as many as blocks."""

    @property
    def words(self) -> str:
        """`4 blocks`, `2 blocks (large)`, `3 blocks, width matched`."""
        text = f"{self.blocks} blocks" + (" (large)" if self.wide else "")
        text += f" of {', '.join(map(str, self.channels))} channels" if self.channels else ""
        return text + (f", {' and '.join(self.match)} matched" if self.match else "")

    @model_validator(mode="after")
    def _channels_fit_the_blocks(self) -> "ModelSpec":
        if self.channels is None:
            return self
        if self.wide or self.match:
            raise ValueError("wide and match choose the channels themselves: leave them out, or leave out channels")
        if len(self.channels) != self.blocks or any(number % 8 for number in self.channels):
            raise ValueError(
                f"channels must be {self.blocks} multiples of 8, one per block (--set model.channels, model.blocks), "
                f"not {', '.join(map(str, self.channels))}"
            )
        return self


class TextSpec(Spec):
    """A small text-to-image model: autoencoder, text encoder, and a U-Net on the autoencoder's latents."""

    pipeline: str = ""
    """A Stable Diffusion pipeline that is given instead of trained: a folder, or a name on the hub."""
    tokens: int = Field(default=16, ge=4)
    """Longest text in tokens, the two at its ends included; a word of the captions is one token."""
    text_width: int = Field(default=64, ge=32, multiple_of=32)
    """Width of the text encoder, and of what the U-Net attends to."""
    text_layers: int = Field(default=2, ge=1)
    """Transformer layers of the text encoder."""
    latent_channels: int = Field(default=4, ge=1)
    """Channels of the latents."""
    autoencoder_channels: Numbers = Field(default=(16, 32, 64), min_length=1)
    """Channels of the autoencoder at each size; from one to the next the image is halved."""
    autoencoder_steps: int = Field(default=1000, ge=1)
    """Optimizer steps of the autoencoder, which is trained first; its batches are train.batch_size too."""
    autoencoder_learning_rate: float = Field(default=2e-3, gt=0)
    """Peak of the learning rate of the autoencoder."""
    kl_weight: float = Field(default=1e-3, ge=0)
    """Weight of the latents' divergence from a standard normal (mean per value) beside the absolute error per value."""
    unet_channels: Numbers = Field(default=(64, 128), min_length=2)
    """Channels of each down block; all but the last attend to the text, as the mid-block does."""
    unet_layers: int = Field(default=1, ge=1)
    """Residual blocks in each down block."""
    caption_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of images that are shown without caption: what classifier-free guidance starts from."""

    @model_validator(mode="after")
    def _channels_can_be_grouped(self) -> "TextSpec":
        for name, channels, unit in (("autoencoder", self.autoencoder_channels, 8), ("unet", self.unet_channels, 32)):
            if any(number % unit for number in channels):
                raise ValueError(
                    f"{name}_channels must be multiples of {unit} (--set text.{name}_channels), not "
                    f"{', '.join(str(number) for number in channels)}"
                )
        return self


EDM_FIELDS = ("sigma_data", "noise_mean", "noise_std")
"""Fields of TrainSpec that the objective edm alone has."""


class TrainSpec(Spec):
    """How it is trained: AdamW, warm-up and cosine, clipping, EMA."""

    steps: int = Field(default=2000, ge=1)
    """Number of optimizer steps."""
    batch_size: int = Field(default=64, ge=1)
    """Images per step, over all processes together."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak of AdamW's learning rate."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """AdamW's decoupled weight decay."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps of linear warm-up; from there a cosine to 0."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the weights' moving average, warmed up as (1 + step) / (10 + step); 0: none."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the device has it, else fp32."""
    flip: bool = False
    """Whether images are mirrored left-right at random (never for digits)."""
    objective: Literal["epsilon", "edm"] = Field(default="epsilon", json_schema_extra=NEUTRAL)
    """epsilon: the noise is predicted, on DDPM's 1,000 levels. edm: the denoiser's preconditioned network is
    (2206.00364), noise levels from .002 to 80."""
    sigma_data: float = Field(default=0.5, gt=0, json_schema_extra=NEUTRAL)
    """edm: the spread of the images that the network is scaled for."""
    noise_mean: float = Field(default=-1.2, json_schema_extra=NEUTRAL)
    """edm: mean of ln sigma of the noise that the network is trained on."""
    noise_std: float = Field(default=1.2, gt=0, json_schema_extra=NEUTRAL)
    """edm: standard deviation of ln sigma."""
    snapshots: Numbers = Field(default=(), json_schema_extra=NEUTRAL)
    """Steps, 500,1000, after which the averaged weights are kept as well."""
    watch_every: int = Field(default=0, ge=0, json_schema_extra=RUNTIME)
    """Steps between looks at the shares, copies and losses of a fixed bank of images; 0: none."""
    watch_images: int = Field(default=256, ge=2, json_schema_extra=RUNTIME)
    """Images of that bank."""
    watch_steps: int = Field(default=25, ge=1, le=1000, json_schema_extra=RUNTIME)
    """Sampler steps of that bank, by ddim."""
    seed: int = Field(default=0, ge=0)
    """Seed of initial weights, data order and noise: the unit of replication."""
    checkpoint_every: int = Field(default=500, ge=1, json_schema_extra=RUNTIME)
    """Steps between checkpoints."""
    log_every: int = Field(default=50, ge=1, json_schema_extra=RUNTIME)
    """Steps between lines of the training curve."""
    tensorboard: bool = Field(default=False, json_schema_extra=RUNTIME)
    """Also write the curve for TensorBoard (extra `track`)."""

    @model_validator(mode="after")
    def _nothing_is_left_unused(self) -> "TrainSpec":
        of_edm = [name for name in EDM_FIELDS if getattr(self, name) != type(self).model_fields[name].default]
        if self.objective != "edm" and of_edm:
            raise ValueError(f"{', '.join(of_edm)} is of the objective edm: --set train.objective=edm, or leave it out")
        if list(self.snapshots) != sorted(set(self.snapshots)) or max(self.snapshots, default=0) > self.steps:
            raise ValueError(
                f"snapshots must be rising steps, up to the last, {self.steps} (--set train.snapshots, train.steps), "
                f"not {', '.join(map(str, self.snapshots))}"
            )
        return self


class SteerSpec(Spec):
    """How the U-Net's mid-block is bypassed while images are drawn."""

    strength: float = Field(default=0.0, ge=0, le=1)
    """Strength of the bypass; with a schedule, the factor of its strengths."""
    schedule: str = ""
    """Strength over the noise level: "ramp(0, 0.6) & window(sigma_max=5, sigma_min=0.5)"; empty: constant."""
    mode: Literal["blend", "elements", "channels", "attenuate"] = "blend"
    """What takes the place of the mid-block's output: see leadline.steering."""
    branch: Literal["both", "conditional", "unconditional"] = "both"
    """Which half of classifier-free guidance is bypassed (text-to-image models)."""
    seed: int = Field(default=0, ge=0)
    """Seed of the choice of elements or channels."""

    @model_validator(mode="after")
    def _schedule_is_understood(self) -> "SteerSpec":
        if self.schedule:
            parse_schedule(self.schedule)
        return self

    @property
    def kind(self) -> str:
        """All but the strength in words: constant, blend; window(1, sigma_max=5, sigma_min=0.5), channels."""
        branch = "" if self.branch == "both" else f", {self.branch} branch"
        return f"{re.sub(r'(?<=[0-9])[.]0(?![0-9])', '', self.schedule) or 'constant'}, {self.mode}{branch}"

    @property
    def words(self) -> str:
        """`bypass 0.5 (constant, blend)`; empty where there is none."""
        return f"bypass {self.strength:g} ({self.kind})" if self.strength else ""


class SampleSpec(Spec):
    """Which images are drawn from the model, and how."""

    num_images: int = Field(default=1000, ge=1)
    """Number of images."""
    seed: int = Field(default=0, ge=0)
    """Image i of a seed starts from noise that depends on (seed, i) alone."""
    sampler: str = "ddim"
    """Name in the registry of samplers: ddim (eta = 0), ancestral, euler, heun."""
    steps: int = Field(default=50, ge=1)
    """Number of sampler steps."""
    clip_x0: bool = True
    """Whether the denoiser's estimate of the clean image is held within [-1, 1]; latents, of text-to-image models,
    never are."""
    batch_size: int = Field(default=100, ge=1, json_schema_extra=RUNTIME)
    """Images per call of the model."""
    shard_size: int = Field(default=500, ge=1, json_schema_extra=RUNTIME)
    """Images per Parquet file; a finished file is never drawn again."""
    steer: SteerSpec = Field(default=SteerSpec(), json_schema_extra=NEUTRAL)
    """Bypass of the mid-block."""
    guidance: float | None = Field(default=None, ge=0, json_schema_extra=NEUTRAL)
    """Scale of classifier-free guidance of a text-to-image model, up to 1: none; None: 7.5."""
    init_strength: float | None = Field(default=None, gt=0, le=1, json_schema_extra=NEUTRAL)
    """Image-to-image: each image starts from a held-out image of its own, noised to this share of the steps."""


class AuditSpec(Spec):
    """What is measured."""

    metrics: Names = Field(default=("bias", "memorization", "diversity", "fidelity"), min_length=1)
    """Names in the registry of metrics."""
    encoders: Names = Field(default=("labeler",), min_length=1)
    """Networks whose features are compared: labeler, or an encoder with its weights, NAME[:PATH]."""
    ks: Numbers = Field(default=(1, 2, 5, 10), min_length=1)
    """Numbers of nearest neighbours."""
    level: float = Field(default=0.95, gt=0, lt=1)
    """Coverage of the intervals."""
    stopping: Literal["fixed", "anytime"] = Field(default="fixed", json_schema_extra=NEUTRAL)
    """anytime: the shares' intervals hold at every look together, for images whose number hung on what they showed."""
    confidence: float = Field(default=0.9, ge=0, lt=1)
    """An image whose most likely class has less calibrated probability than this is unclassified."""
    num_panels: int = Field(default=8, ge=0)
    """Rows of each panel of nearest neighbours."""
    labeler_epochs: int = Field(default=30, ge=1)
    """Passes over the labeler's images."""
    labeler_model: str = ""
    """A labeler that is given instead of trained: ARCHITECTURE:FILE.safetensors, or clip[:FOLDER] with prompts."""
    prompts: tuple[str, ...] = ()
    """CLASS=TEXT for a labeler by prompts; several texts of a class are averaged."""
    flips: bool = False
    """Whether images are also compared mirrored with the training images; the nearer counts."""
    duplicate_rms: float = Field(default=2.0, ge=0)
    """Root mean square per value of 0–255 up to which two training images count as one picture."""
    copy_ratio: float = Field(default=1 / 3, gt=0, le=1)
    """An image is a copy where its nearest training image is nearer than this times the first distinct other."""
    carlini_alpha: float = Field(default=0.5, gt=0)
    """An image is a copy where it is nearer than this times its mean distance to the neighbours."""
    carlini_neighbors: int = Field(default=50, ge=2)
    """Neighbours of that mean."""
    false_positive_rate: float = Field(default=0.01, gt=0, lt=1)
    """Share of new real images that the calibrated threshold may call copies."""
    nearest_k: int = Field(default=5, ge=1)
    """Neighbours that span the manifold of precision, recall, density and coverage."""
    seed: int = Field(default=0, ge=0)
    """Seed of the labeler's training and of every random choice of the audit."""


class Recipe(Spec):
    """One experiment, whole: data, model, training, samples, audit."""

    name: str = Field(default="custom", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the preset; the run folder begins with it."""
    description: str = Field(default="", json_schema_extra=RUNTIME)
    """One sentence: what it shows, and its cost."""
    data: DataSpec = DataSpec()
    """Which images."""
    model: ModelSpec = ModelSpec()
    """Which member of the depth family."""
    train: TrainSpec = TrainSpec()
    """How it is trained."""
    sample: SampleSpec = SampleSpec()
    """Which images are drawn."""
    text: TextSpec | None = None
    """The text-to-image model that takes the place of `model`; None: an unconditional one."""
    audit: AuditSpec = AuditSpec()
    """What is measured."""

    def fingerprint(self) -> str:
        """8 hex digits of what decides the samples: data, model, training (but its seed) and sampling."""
        return fingerprint(*self._trained(), self.sample, leave_out={"train.seed"})

    def training_fingerprint(self) -> str:
        """8 hex digits of what decides the trained weights, the training seed included."""
        return fingerprint(*self._trained())

    def _trained(self) -> tuple[Spec, ...]:
        return (self.data, self.model, self.train, *([self.text] if self.text is not None else []))

    def folder_name(self) -> str:
        """`<preset>-<fingerprint8>-s<training seed>`."""
        return f"{self.name}-{self.fingerprint()}-s{self.train.seed}"


def fingerprint(*specs: Spec, leave_out: set[str] = frozenset()) -> str:  # type: ignore[assignment]
    """8 hex digits of the specs' fields that decide the outcome. `leave_out` holds names such as `train.seed`."""
    content = {}
    for spec in specs:
        owner = type(spec).__name__.removesuffix("Spec").lower()
        for name, info in type(spec).model_fields.items():
            extra = info.json_schema_extra
            marks = extra if isinstance(extra, dict) else {}
            value = getattr(spec, name)
            neutral = marks.get("neutral") and value == info.default
            if not (marks.get("runtime") or neutral or f"{owner}.{name}" in leave_out):
                content[f"{owner}.{name}"] = value.model_dump(mode="json") if isinstance(value, Spec) else value
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def with_overrides(recipe: Recipe, overrides: list[str]) -> Recipe:
    """The recipe with `--set a.b=c` applied. Raises LeadlineError on an unknown name or a bad value."""
    content = recipe.model_dump(mode="json")
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise LeadlineError(f"--set takes name=value (train.steps=4000), not {override!r}")
        owner = content
        spec: type[BaseModel] = Recipe
        *parents, last = key.split(".")
        for parent in parents:
            _known(spec, parent, key)
            part = _part(spec.model_fields[parent].annotation)
            if part is None:
                raise LeadlineError(f"--set {override}: {parent!r} has no fields of its own")
            if owner[parent] is None:
                raise LeadlineError(
                    f"--set {override}: this recipe has no {parent!r}; take one that has (mnist-text, celeba-text), "
                    f"or give --set {parent}={{}} before it, which takes the defaults"
                )
            spec, owner = part, owner[parent]
        _known(spec, last, key)
        owner[last] = _value(text)
    return recipe_from_json(content)


def _part(annotation: Any) -> type[BaseModel] | None:
    """The spec that a field holds, if it holds one (or None)."""
    held = [kind for kind in get_args(annotation) or (annotation,) if isinstance(kind, type)]
    return next((kind for kind in held if issubclass(kind, BaseModel)), None)


def _known(spec: type[BaseModel], name: str, key: str) -> None:
    if name not in spec.model_fields:
        raise LeadlineError(
            f"--set {key}: {spec.__name__} has no field {name!r}: {did_you_mean(name, spec.model_fields)}"
        )


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"None": None, "True": True, "False": False}.get(text, text)


def recipe_from_json(content: dict[str, Any]) -> Recipe:
    """A Recipe from its JSON form. Raises LeadlineError, with the field's name, on anything that does not fit."""
    content = dict(content)
    parts: dict[str, type[Spec]] = {
        "data": DataSpec,
        "model": ModelSpec,
        "train": TrainSpec,
        "sample": SampleSpec,
        "audit": AuditSpec,
    }
    if content.get("text") is not None:
        parts["text"] = TextSpec
    for name, spec in parts.items():
        if name in content:
            if not isinstance(content[name], dict):
                raise LeadlineError(f"recipe: {name} must be an object with the fields of {spec.__name__}")
            content[name] = spec(**content[name])
    return Recipe(**content)
