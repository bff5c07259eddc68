"""One function per experiment -> Recipe; a variant changes a few fields; each has a debug twin for a quick look."""

from collections.abc import Callable

from leadline.recipe import AuditSpec, DataSpec, ModelSpec, Recipe, SampleSpec, TextSpec, TrainSpec
from leadline.registry import Registry

PRESETS: Registry[Callable[[], Recipe]] = Registry("preset")

TEXT_METRICS = (*AuditSpec().metrics, "prompted")
"""What is measured of text-to-image models."""


@PRESETS.register("digits69")
def digits69() -> Recipe:
    """The demo's experiment: scikit-learn's 8×8 digits, no network, 126 sixes and 14 nines."""
    return Recipe(
        name="digits69",
        description="8×8 sixes and nines at 90/10, embedded data; about 2 minutes a model on 2 cores.",
        data=DataSpec(dataset="digits", shares=(("6", 0.9), ("9", 0.1)), num_images=140, held_out=30, labeler=None),
        model=ModelSpec(blocks=2),
        train=TrainSpec(steps=800, batch_size=32, learning_rate=2e-3),
        sample=SampleSpec(num_images=1000, sampler="ddim", steps=25),
        audit=AuditSpec(labeler_epochs=20),
    )


@PRESETS.register("mnist69")
def mnist69() -> Recipe:
    """2505.17560, Figure 4: MNIST sixes and nines at 90/10, padded to 32×32 (our reading of the size)."""
    return Recipe(
        name="mnist69",
        description="The papers' MNIST 6/9 at 90/10, 32×32; about 10 minutes a model on a GPU, hours on 2 cores.",
        data=DataSpec(
            dataset="mnist",
            split="all",
            shares=(("6", 0.9), ("9", 0.1)),
            num_images=5000,
            held_out=500,
            labeler=15000,
            image_size=32,
            fit="pad",
        ),
        model=ModelSpec(blocks=2),
        train=TrainSpec(steps=20000, batch_size=128, learning_rate=5e-4, warmup_steps=500),
        sample=SampleSpec(num_images=1000, sampler="ddim", steps=50),
        audit=AuditSpec(labeler_epochs=10),
    )


@PRESETS.register("celeba-gender")
def celeba_gender() -> Recipe:
    """2505.17560, Table 2: CelebA by the attribute Male, 64×64 (our reading of the size)."""
    return Recipe(
        name="celeba-gender",
        description="CelebA faces by the attribute Male, 64×64; wants a GPU for about half an hour a model.",
        data=DataSpec(
            dataset="celeba",
            groups="Male",
            num_images=6000,
            held_out=1000,
            labeler=3000,
            image_size=64,
            fit="crop",
        ),
        model=ModelSpec(blocks=4),
        train=TrainSpec(steps=40000, batch_size=128, learning_rate=2e-4, warmup_steps=1000, flip=True),
        sample=SampleSpec(num_images=10000, sampler="ddim", steps=50),
        audit=AuditSpec(labeler_epochs=15),
    )


@PRESETS.register("celeba-blond-male")
def celeba_blond_male() -> Recipe:
    """The question that 2505.17560 leaves open, blond men (0.86 % of CelebA): its shares as they are, 10,000 images."""
    gender = celeba_gender()
    return gender.model_copy(
        update={
            "name": "celeba-blond-male",
            "description": "CelebA faces by Blond_Hair × Male, 64×64; wants a GPU for about half an hour a model; of "
            "10,000 images about 86 are blond men, and `leadline plan` says what that can tell.",
            "data": gender.data.model_copy(update={"groups": "Blond_Hair*Male"}),
        }
    )


@PRESETS.register("mnist-text")
def mnist_text() -> Recipe:
    """A small Stable Diffusion of captioned MNIST, "a handwritten six", padded to 32×32, that 2 cores can train."""
    return Recipe(
        name="mnist-text",
        description="Text to image on captioned MNIST digits, 32×32; about half an hour to train on 2 cores.",
        data=DataSpec(
            dataset="mnist",
            split="all",
            captions="digits",
            num_images=20000,
            held_out=2000,
            labeler=15000,
            image_size=32,
            channels=3,
            fit="pad",
        ),
        text=TextSpec(autoencoder_steps=500),
        train=TrainSpec(steps=3000, batch_size=64, learning_rate=1e-3, warmup_steps=100, checkpoint_every=200),
        sample=SampleSpec(num_images=1000, sampler="ddim", steps=25, guidance=2.0),
        audit=AuditSpec(metrics=TEXT_METRICS, labeler_epochs=10),
    )


@PRESETS.register("celeba-text")
def celeba_text() -> Recipe:
    """A small Stable Diffusion of faces, "a photo of a smiling woman with blond hair", 64×64."""
    return Recipe(
        name="celeba-text",
        description="Text to image on CelebA faces captioned from their attributes, 64×64; for about ten minutes on a "
        "large GPU.",
        data=DataSpec(
            dataset="celeba",
            groups="Male",
            captions="celeba",
            num_images=6000,
            held_out=1000,
            labeler=3000,
            image_size=64,
            channels=3,
            fit="crop",
        ),
        text=TextSpec(
            tokens=24,
            text_width=256,
            text_layers=4,
            autoencoder_channels=(64, 128, 256),
            autoencoder_steps=4000,
            autoencoder_learning_rate=5e-4,
            unet_channels=(128, 256, 384),
            unet_layers=2,
        ),
        train=TrainSpec(steps=12000, batch_size=128, learning_rate=3e-4, warmup_steps=500, flip=True),
        sample=SampleSpec(num_images=5000, sampler="ddim", steps=30, guidance=3.0),
        audit=AuditSpec(metrics=TEXT_METRICS, labeler_epochs=15),
    )


@PRESETS.register("mnist-edm")
def mnist_edm() -> Recipe:
    """P2's networks in small: all ten MNIST digits at 16×16, trained by EDM's preconditioning (2206.00364)."""
    return Recipe(
        name="mnist-edm",
        description="MNIST digits at 16×16 by EDM's preconditioning; about 15 minutes a model on 1 core.",
        data=DataSpec(
            dataset="mnist",
            split="all",
            num_images=10000,
            held_out=1000,
            labeler=10000,
            image_size=16,
            fit="resize",
        ),
        model=ModelSpec(blocks=2),
        train=TrainSpec(objective="edm", steps=1500, batch_size=32, learning_rate=1e-3, warmup_steps=100),
        sample=SampleSpec(num_images=500, sampler="heun", steps=18, clip_x0=False),
        audit=AuditSpec(labeler_epochs=10),
    )


@PRESETS.register("celeba-edm")
def celeba_edm() -> Recipe:
    """P2's faces in small: CelebA at 32×32, trained by EDM's preconditioning, never mirrored: N images are N."""
    return Recipe(
        name="celeba-edm",
        description="CelebA faces at 32×32 by EDM's preconditioning; for about ten minutes a model on a GPU.",
        data=DataSpec(
            dataset="celeba",
            groups="Male",
            num_images=8000,
            held_out=1000,
            labeler=500,
            image_size=32,
            channels=3,
            fit="crop",
        ),
        model=ModelSpec(blocks=3),
        train=TrainSpec(objective="edm", steps=10000, batch_size=128, learning_rate=5e-4, warmup_steps=500),
        sample=SampleSpec(num_images=500, sampler="heun", steps=18, clip_x0=False),
        audit=AuditSpec(labeler_epochs=15),
    )


def debug(recipe: Recipe) -> Recipe:
    """The same road in under a minute on 2 cores: few images, few steps. Its numbers mean nothing."""
    data = recipe.data
    if data.dataset != "digits":
        data = data.model_copy(update={"image_size": 16, "num_images": 200, "held_out": 40, "labeler": 400})
        data = data.model_copy(update={"fit": "resize"})
    text = recipe.text
    if text is not None:
        small = {"autoencoder_channels": (8, 16), "autoencoder_steps": 20, "unet_channels": (32, 32)}
        text = text.model_copy(update={**small, "text_width": 32, "text_layers": 1, "unet_layers": 1})
    return recipe.model_copy(
        update={
            "name": f"{recipe.name}-debug",
            "description": f"Debug twin of {recipe.name}: the same road in under a minute, numbers without meaning.",
            "data": data,
            "text": text,
            "train": recipe.train.model_copy(update={"steps": 20, "batch_size": 16, "warmup_steps": 5, "log_every": 5}),
            "sample": recipe.sample.model_copy(update={"num_images": 24, "steps": 5, "shard_size": 12}),
            "audit": recipe.audit.model_copy(update={"labeler_epochs": 2}),
        }
    )


def preset(name: str) -> Recipe:
    """The preset of that name, or the debug twin for `<name>-debug`. Raises LeadlineError on an unknown name."""
    base = name.removesuffix("-debug")
    recipe = PRESETS[base]()
    return debug(recipe) if name != base else recipe


def preset_names() -> list[str]:
    """All names, each followed by its debug twin's."""
    return [twin for name in PRESETS for twin in (name, f"{name}-debug")]
