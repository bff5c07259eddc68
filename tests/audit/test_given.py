"""Labelers that are given: probabilities known by hand, files that do not fit, CLIP against transformers' own."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CLASSES, bars, unlabelled
from safetensors.torch import save_file
from torchvision import models

from leadline.audit import measure
from leadline.audit.encoders.transformer import prepare
from leadline.audit.given import ModuleLabeler, given_labeler, judge, module_labeler
from leadline.audit.judged import UNCLASSIFIED
from leadline.audit.zero_shot import ZeroShotLabeler, parse_prompts
from leadline.errors import LeadlineError
from leadline.recipe import AuditSpec
from leadline.records import ImageSet, Splits

CPU = torch.device("cpu")
GREY = (1, 8, 8)
PROMPTS = ("man=a man", "woman=a woman")


class Columns(torch.nn.Module):
    """Logits: ten times the mean of the columns where `bars` has its bar of each class."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(10.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale * torch.stack([images[..., at : at + 2].mean((1, 2, 3)) for at in (0, 3, 6)], 1)


class Constant(torch.nn.Module):
    """The same output for every image."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.values[0].expand(len(images)) if len(self.values) == 1 else self.values.expand(len(images), -1)


def columns(**options: Any) -> ModuleLabeler:
    return module_labeler(Columns(), **{"classes": CLASSES, "shape": GREY, "version": "1", **options})


def images(n: int = 4, shape: tuple[int, int, int] = GREY) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (n, *shape)).astype(np.float32)


# --- a module


def test_probabilities_are_the_softmax_of_the_modules_logits() -> None:
    found = module_labeler(Constant(0.0, float(np.log(3))), classes=("a", "b"), shape=GREY).encode(images())
    np.testing.assert_allclose(found["probabilities"], [[0.25, 0.75]] * 4, rtol=1e-6)
    assert set(found) == {"probabilities"}


def test_one_logit_is_the_log_odds_of_the_second_of_two_classes() -> None:
    labeler = module_labeler(Constant(float(np.log(4))), classes=("a", "b"), shape=GREY, confidence=0.8)
    probabilities = labeler.encode(images())["probabilities"]
    np.testing.assert_allclose(probabilities, [[0.2, 0.8]] * 4, rtol=1e-6)
    assert labeler.decide(probabilities + np.float32(1e-6)).tolist() == [1] * 4
    assert replace(labeler, confidence=0.81).decide(probabilities).tolist() == [UNCLASSIFIED] * 4


def test_images_reach_the_module_resized_and_scaled_as_stated() -> None:
    seen: list[torch.Tensor] = []
    module = Constant(0.0, 1.0)
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    labeler = module_labeler(module, classes="ab", shape=GREY, mean=(0.5, 0.25, 0.0), std=(1.0, 2.0, 4.0), size=4)
    labeler.encode(np.full((1, 1, 8, 8), 0.5, np.float32))
    # A constant stays constant when it is resized; 0.5 of [-1, 1] is 0.75 of [0, 1].
    np.testing.assert_allclose(seen[-1], np.broadcast_to(np.array([0.25, 0.25, 0.1875])[:, None, None], (1, 3, 4, 4)))
    assert labeler.description == (
        "the given Constant, which reads RGB images in [0, 1] minus (0.5, 0.25, 0) over (1, 2, 4), "
        "resized from 8×8 to 4×4 px (bilinear, antialiased)"
    )


def test_the_fingerprint_covers_weights_and_every_option() -> None:
    changed = Columns()
    changed.scale.data += 1
    base = columns().fingerprint
    others = [
        module_labeler(changed, classes=CLASSES, shape=GREY, version="1"),
        columns(version="2"),
        columns(classes=CLASSES[::-1]),
        columns(size=16),
        columns(mean=(0.5,), std=(0.5,)),
        columns(mean=(0.5,), std=(0.4,)),
    ]
    assert columns().fingerprint == base
    assert len({base, *(labeler.fingerprint for labeler in others)}) == 7


def test_the_fingerprint_covers_buffers_that_the_state_dict_leaves_out() -> None:
    def labeler(value: float) -> ModuleLabeler:
        module = Columns()
        module.register_buffer("offset", torch.tensor(value), persistent=False)
        return module_labeler(module, classes=CLASSES, shape=GREY, version="1")

    assert labeler(0.0).fingerprint == labeler(0.0).fingerprint != labeler(1.0).fingerprint


def test_without_a_version_no_other_labelers_outputs_are_taken_from_the_cache(tmp_path: Path) -> None:
    class Mirrored(Columns):
        """Another forward with the same name, parameters and description."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images.flip(-1))

    Mirrored.__qualname__, Mirrored.__name__ = Columns.__qualname__, Columns.__name__
    training = bars((3, 0, 0), 10)

    def accuracy(module: torch.nn.Module, version: str | None) -> float | None:
        given = module_labeler(module, classes=CLASSES, shape=GREY, version=version)
        return judge(given, labeler=None, held_out=None, training=training, cache=tmp_path).accuracy(0.95).value

    assert [accuracy(module, None) for module in (Columns(), Mirrored())] == [1.0, 0.0]
    # One version is one function, as the caller says: the cache believes it.
    assert [accuracy(module, "1") for module in (Columns(), Mirrored())] == [1.0, 1.0]


@pytest.mark.parametrize("module", ["given", "zero_shot"])
def test_the_fingerprint_covers_the_version_of_the_method(
    clip: "Clip", module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fingerprint() -> str:
        return (columns() if module == "given" else by_prompts(clip, *PROMPTS)).fingerprint

    before = fingerprint()
    assert fingerprint() == before
    monkeypatch.setattr(f"leadline.audit.{module}.VERSION", 99)
    assert fingerprint() != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("a",)}, "two classes or more, each named once, not a$"),
        ({"classes": ("a", "a")}, "each named once, not a, a"),
        ({"classes": ("a", "b")}, r"made \(2, 3\) of 2 images; logits \(2, 2\) are expected, .* a, b, or \(2,\)"),
        ({"mean": (0.5,)}, "mean and std go together"),
        ({"mean": (0.5, 0.5), "std": (1.0, 1.0)}, "one number for each channel .* images of 1 channels"),
        ({"mean": (0.5,), "std": (0.0,)}, "each std above 0"),
        ({"size": 0}, "height and width in px that the labeler reads, 1 or more, not 0"),
        ({"weights": "absent.pt"}, r"absent.pt cannot be read as safetensors .*a pickle .* is not opened"),
        ({"weights": {"scales": torch.ones(())}}, "does not fit the given Columns: it lacks scale; also holds scales"),
        ({"weights": {"scale": torch.ones(2)}}, "has in another shape scale"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        columns(**options)


def test_a_module_that_cannot_read_the_images_is_refused_with_its_own_words() -> None:
    with pytest.raises(LeadlineError, match=r"the given Conv2d, .* cannot read images of shape .* \(RuntimeError: "):
        module_labeler(torch.nn.Conv2d(3, 2, 1), classes=("a", "b"), shape=GREY)


def test_logits_that_are_no_numbers_and_images_of_another_shape_are_refused() -> None:
    with pytest.raises(LeadlineError, match="logits are not all finite"):
        module_labeler(Constant(float("nan"), 0.0), classes=("a", "b"), shape=GREY)
    with pytest.raises(LeadlineError, match=r"reads images of shape \(1, 8, 8\), not \(1, 9, 9\)"):
        columns().encode(images(shape=(1, 9, 9)))


# --- judged on labelled images


def test_it_is_judged_on_the_first_labelled_set_and_that_set_is_named() -> None:
    labeler_set, held_out, training = bars((5, 5, 5), 1, "apart"), bars((4, 3, 0), 2, "held"), bars((9, 2, 0), 3)
    given = columns()
    for sets, judged_on, name, n in (
        ((labeler_set, held_out), "labelled images given for the labeler", "apart", 15),
        ((None, held_out), "labelled held-out images", "held", 7),
        ((unlabelled(labeler_set), None), "labelled training images", "bars", 11),
    ):
        judged = judge(given, labeler=sets[0], held_out=sets[1], training=training)
        accuracy, table = judged.accuracy(0.95), judged.confusion()
        assert (accuracy.value, accuracy.n) == (1.0, n)
        assert accuracy.params["labeler"] == given.description
        assert table is not None
        assert accuracy.unit == f"share of {judged_on}"
        assert table.title == f"What the labeler makes of {judged_on}"
        assert table.note.startswith(
            f"The images are {name}. What the labeler was trained on is not known: it may have seen them. Unclassified:"
        )
        assert "its probability, as it gives it and not calibrated, of every class is below 0.9" in table.note
        assert [sum(row[1:]) for row in table.rows] == [judged.images_per_class[c] for c in CLASSES]  # type: ignore[arg-type]


def test_a_wrong_labeler_is_shown_to_be_wrong() -> None:
    swapped = columns(classes=("middle", "left", "right"))
    judged = judge(swapped, labeler=bars((6, 4, 2), 4), held_out=None, training=bars((1, 1, 0), 5))
    assert judged.accuracy(0.95).value == 2 / 12
    table = judged.confusion()
    assert table is not None
    assert table.rows == (("middle", 0, 4, 0, 0), ("left", 6, 0, 0, 0), ("right", 0, 0, 2, 0))


def test_images_of_classes_that_it_does_not_know_are_left_out_and_said() -> None:
    # `right` is a class that these two logits do not know.
    two = module_labeler(Constant(0.0, 9.0), classes=("left", "middle"), shape=GREY)
    judged = judge(two, labeler=bars((2, 3, 4), 6), held_out=None, training=bars((1, 1, 0), 7))
    assert judged.accuracy(0.95).value == 3 / 5
    assert "may have seen them. 4 of classes that it does not know are left out." in judged.confusion().note  # type: ignore[union-attr]


def test_without_labelled_images_the_accuracy_is_not_measurable() -> None:
    judged = judge(columns(), labeler=None, held_out=None, training=unlabelled(bars((2, 2, 2), 8)))
    assert judged.confusion() is None
    assert str(judged.accuracy(0.95).reason).startswith("no labelled images to judge the given labeler on: give some")


def test_classes_must_have_the_training_datas_names() -> None:
    given = columns(classes=("left", "mid", "right"))
    with pytest.raises(
        LeadlineError, match=r"classes left, mid, right, the training data \(.*\) left, middle: 'middle'"
    ):
        judge(given, labeler=None, held_out=None, training=bars((2, 2, 0), 9))
    assert judge(given, labeler=None, held_out=None, training=bars((2, 0, 0), 9)).accuracy(0.95).value == 1.0


def test_judging_uses_the_cache_of_the_audit(tmp_path: Path) -> None:
    given, training = columns(), bars((3, 3, 0), 10)
    first = judge(given, labeler=None, held_out=None, training=training, cache=tmp_path)
    assert list(tmp_path.iterdir())
    blind = replace(given, module=Constant(9.0, 0.0, 0.0))
    again = judge(blind, labeler=None, held_out=None, training=training, cache=tmp_path)
    np.testing.assert_array_equal(again.held_out_probabilities, first.held_out_probabilities)


# --- a file for the command line


def spec(model: str, *prompts: str) -> AuditSpec:
    return AuditSpec(labeler_model=model, prompts=prompts, confidence=0.5)


def load(model: str, *prompts: str, shape: tuple[int, int, int] = (3, 40, 40)) -> Any:
    return given_labeler(spec(model, *prompts), shape=shape, device=CPU, download=False)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.squeezenet1_1(num_classes=2).eval()


def write(network: torch.nn.Module, file: Path, **metadata: Any) -> str:
    save_file(network.state_dict(), file, metadata={name: json.dumps(value) for name, value in metadata.items()})
    return f"squeezenet1_1:{file}"


def test_a_torchvision_network_is_read_from_its_file(network: torch.nn.Module, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    text = write(network, tmp_path / "n.safetensors", classes=["f", "m"], size=40, mean=[0, 0, 0], std=[1, 1, 1])
    labeler = load(text)
    batch = images(3, (3, 40, 40))
    with torch.inference_mode():
        expected = network((torch.from_numpy(batch) + 1) / 2).softmax(1)
    np.testing.assert_allclose(labeler.encode(batch)["probabilities"], expected, rtol=1e-5)
    assert labeler.classes == ("f", "m")
    assert (
        "torchvision's squeezenet1_1 with the weights n.safetensors, which reads images in [0, 1] minus (0, 0, 0)"
        in (labeler.description)
    )
    assert torch.equal(before, torch.random.get_rng_state())


def test_without_more_metadata_torchvisions_own_scale_and_size_hold(network: torch.nn.Module, tmp_path: Path) -> None:
    labeler = load(write(network, tmp_path / "n.safetensors", classes=["f", "m"]), shape=(1, 40, 40))
    assert "RGB images in [0, 1] minus (0.485, 0.456, 0.406) over (0.229, 0.224, 0.225), resized" in labeler.description
    assert "to 224×224 px" in labeler.description


def test_a_last_layer_of_one_output_serves_two_classes(tmp_path: Path) -> None:
    one = models.squeezenet1_1(num_classes=1)
    labeler = load(write(one, tmp_path / "n.safetensors", classes=["f", "m"], size=40))
    np.testing.assert_allclose(labeler.encode(images(2, (3, 40, 40)))["probabilities"].sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "metadata", "message"),
    [
        ("squeezenet1_1:{file}", {}, r"names no classes .*save_file\(module.state_dict\(\), FILE, metadata="),
        ("squeezenet1_1:{file}", {"classes": ["f"]}, "names no classes"),
        ("squeezenet1_1:{file}", {"classes": ["f", "f"]}, "each named once, not f, f"),
        ("squeezenet1_1:{file}", {"classes": ["f", "m", "x"]}, "has in another shape classifier.1.weight, classi"),
        (
            "squeezenet1_1:{file}",
            {"classes": ["f", "m"], "mean": "x"},
            "'mean' in the metadata is a JSON list of three numbers",
        ),
        ("squeezenet1_1:{file}", {"classes": ["f", "m"], "std": [1, 1]}, "mean and std go together"),
        ("squeezenet1_1:{file}", {"classes": ["f", "m"], "size": "40"}, "'size' in the metadata .* not '40'"),
        (
            "alexnet:{file}",
            {"classes": ["f", "m"]},
            r"does not fit torchvision's alexnet .*: it lacks features.3.weight",
        ),
        ("squeezenet1_2:{file}", {}, "unknown architecture 'squeezenet1_2': did you mean 'squeezenet1_"),
        ("squeezenet1_1", {}, "names no weights: write squeezenet1_1:FILE.safetensors"),
        ("squeezenet1_1:{file}.pt", {}, r"n.safetensors.pt cannot be read as safetensors .* a pickle"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    network: torch.nn.Module, tmp_path: Path, model: str, metadata: dict[str, Any], message: str
) -> None:
    file = tmp_path / "n.safetensors"
    write(network, file, **metadata)
    with pytest.raises(LeadlineError, match=message):
        load(model.format(file=file))


def test_a_pickle_is_not_opened_whatever_it_is_called(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "n.safetensors")
    with pytest.raises(LeadlineError, match="cannot be read as safetensors"):
        load(f"squeezenet1_1:{tmp_path / 'n.safetensors'}")


def test_nothing_asked_for_is_no_labeler_and_prompts_need_clip() -> None:
    assert load("") is None
    with pytest.raises(LeadlineError, match=r"--prompt is for --labeler-model clip; 'resnet18' has the classes of its"):
        load("resnet18:x.safetensors", *PROMPTS)


# --- CLIP by prompts

Clip = tuple[Path, Any, Any]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A CLIP of 46 small random tensors that reads single letters and 16×16 px, in a folder: (folder, model, words)."""
    transformers = pytest.importorskip("transformers", reason="the extra [text] is not installed")
    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}
    text = {**small, **ends, "vocab_size": len(words), "max_position_embeddings": 12, "projection_dim": 8}
    vision = {**small, "image_size": 16, "patch_size": 8, "projection_dim": 8}
    transformers.utils.logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
        model = transformers.CLIPModel(config).eval()
    model.save_pretrained(folder)
    return folder, model, transformers.CLIPTokenizer.from_pretrained(folder)


def by_prompts(clip: Clip, *prompts: str, shape: tuple[int, int, int] = (3, 16, 16)) -> ZeroShotLabeler:
    found = load(f"clip:{clip[0]}", *prompts, shape=shape)
    assert isinstance(found, ZeroShotLabeler)
    return found


def test_one_prompt_a_class_gives_transformers_own_probabilities(clip: Clip) -> None:
    labeler = by_prompts(clip, *PROMPTS)
    batch = images(5, (3, 16, 16))
    pixels = prepare(torch.from_numpy(batch), labeler.preparation)
    tokens = clip[2](["a man", "a woman"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        whole = clip[1](pixel_values=pixels, **tokens)
    found = labeler.encode(batch)
    np.testing.assert_allclose(found["probabilities"], whole.logits_per_image.softmax(1), rtol=1e-5)
    np.testing.assert_allclose(found["features"], whole.image_embeds, rtol=1e-5, atol=1e-6)
    assert labeler.classes == ("man", "woman")


def test_several_prompts_of_a_class_are_averaged_at_length_one(clip: Clip) -> None:
    one, other, both = (by_prompts(clip, "b=x", *p).texts[1] for p in (["a=man"], ["a=lad"], ["a=man", "a=lad"]))
    middle = one + other
    np.testing.assert_allclose(both, middle / middle.norm(), rtol=1e-5, atol=1e-6)


def test_the_folders_own_scale_and_the_prompts_are_part_of_the_fingerprint(clip: Clip) -> None:
    plain = by_prompts(clip, *PROMPTS)
    file = clip[0] / "preprocessor_config.json"
    words = {"size": {"shortest_edge": 16}, "crop_size": 16, "resample": 3}
    file.write_text(json.dumps({**words, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    scaled = by_prompts(clip, *PROMPTS)
    file.write_text(json.dumps({**words, "crop_size": 8, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    with pytest.raises(LeadlineError, match=r"by prompts .* cannot read images of shape \(3, 16, 16\) \(ValueError"):
        by_prompts(clip, *PROMPTS)
    file.unlink()
    assert scaled.preparation.mean == (0.5, 0.5, 0.5)
    assert len({plain.fingerprint, scaled.fingerprint, by_prompts(clip, "man=a man", "woman=x").fingerprint}) == 3
    assert "by prompts (man: 'a man'; woman: 'a woman')" in plain.description


def test_grey_images_and_single_images_are_read_the_same(clip: Clip) -> None:
    labeler = by_prompts(clip, *PROMPTS, shape=GREY)
    batch = images(6)
    found = labeler.encode(batch)
    alone = [labeler.encode(batch[i : i + 1])["features"][0] for i in range(6)]
    np.testing.assert_allclose(found["features"], alone, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found["features"], axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (("a man",), "--prompt takes CLASS=TEXT .* not 'a man'"),
        (("=a man",), "not '=a man'"),
        (("man=a", "man=b"), "two classes or more, not 1: --prompt 'male=a photo of a man'"),
        ((), "two classes or more, not 0"),
    ],
)
def test_prompts_that_are_none_are_refused(prompts: tuple[str, ...], message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        parse_prompts(prompts)


def test_a_prompt_that_clip_would_cut_off_is_refused(clip: Clip) -> None:
    with pytest.raises(LeadlineError, match="a prompt has 16 tokens and CLIP reads 12: shorten 'abcdefghijklmn'"):
        by_prompts(clip, "a=abcdefghijklmn", "b=c")


def damaged(clip: Clip, folder: Path, change: Callable[[Path], None]) -> str:
    folder.mkdir()
    for file in clip[0].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    change(folder)
    return f"clip:{folder}"


def as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def half(folder: Path) -> None:
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["logit_scale"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (as_pickle, r"safetensors and a tokenizer are read, never a pickle"),
        (half, "does not hold all of CLIP: 1 values are missing, such as logit_scale"),
        (lambda folder: (folder / "config.json").unlink(), "there is no folder with a config.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 20), "CLIP cannot be opened"),
        (lambda folder: (folder / "config.json").write_text("{"), "CLIP cannot be opened"),
    ],
)
def test_folders_that_are_no_whole_clip_are_refused(
    clip: Clip, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    text = damaged(clip, tmp_path / "copy", change)
    with pytest.raises(LeadlineError, match=message):
        load(text, *PROMPTS)


def test_nothing_is_downloaded_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra [text] is not installed")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    for name in ("socket.socket.connect", "socket.create_connection", "socket.getaddrinfo"):
        monkeypatch.setattr(name, refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        LeadlineError, match=r"openai/clip-.* is not on this machine: looked for .*fetched \(--download\)"
    ):
        load("clip", *PROMPTS)


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(LeadlineError, match=r"needs the package transformers: pip install 'leadline\[text\]'"):
        load("", *PROMPTS)


def test_a_labeler_by_prompts_is_judged_like_any_other(clip: Clip) -> None:
    labeler = by_prompts(clip, "left=a", "middle=b", "right=c", shape=GREY)
    training: ImageSet = bars((3, 3, 3), 11)
    judged = judge(labeler, labeler=None, held_out=None, training=training)
    labels = judged.held_out_probabilities.argmax(1)  # type: ignore[union-attr]
    assert judged.accuracy(0.95).value == (labels == training.labels).mean()
    assert "CLIP's own and not calibrated" in judged.confusion().note  # type: ignore[union-attr]
    assert str(labeler.accuracy(0.95).reason).startswith("no labelled images to judge the given labeler on")


def test_a_whole_audit_with_a_given_labeler(clip: Clip, tmp_path: Path) -> None:
    training, held_out = bars((9, 6, 0), 12), bars((5, 4, 0), 13)
    asked = AuditSpec(
        metrics=("bias", "diversity"),
        labeler_model=f"clip:{clip[0]}",
        prompts=("left=a", "middle=b", "right=c"),
        confidence=0.0,
    )
    result = measure(unlabelled(bars((6, 3, 1), 14)), Splits(train=training, held_out=held_out), spec=asked)
    (accuracy,) = result.find("labeler_accuracy")
    assert accuracy.n == 9
    assert "by prompts (left: 'a'; middle: 'b'; right: 'c')" in accuracy.params["labeler"]
    shares = [m.value for m in result.find("share", set="samples")]
    assert sum(value for value in shares if value is not None) == pytest.approx(1)
    assert result.find("mean_pairwise_distance", set="samples", space="labeler features")[0].value is not None
    table = next(table for table in result.tables if table.name == "labeler_confusion")
    assert table.title == "What the labeler makes of images whose class is known"
    assert [sum(row[1:]) for row in table.rows] == [14, 10, 0]
    assert "15 training images, 9 held-out images" in table.note
    assert "it may have seen them" in table.note
