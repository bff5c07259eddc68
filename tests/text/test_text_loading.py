"""What is opened as a text-to-image pipeline, what is refused, and that neither runs code nor asks the network."""

import json
import pickle
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from no_connection import no_network
from safetensors.torch import load_file, save_file
from tiny_text import saved_pipeline

from leadline.errors import LeadlineError
from leadline.text.loading import load_text_pipeline, pipeline_fingerprint, pipeline_folder
from leadline.text.parts import Part, needed

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_pipeline(tmp_path_factory.mktemp("text") / "pipeline")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "pipeline")


@pytest.fixture
def touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Attempts to reach the network, which fail; the hub's cache is an empty folder."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with no_network() as attempts:
        yield attempts


def rewritten(file: Path, edit: Edit) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def cached(folder: Path, hub: Path, name: str = "someone/model") -> Path:
    """The folder in the layout of the hub's cache."""
    root = hub / f"models--{name.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("c0ffee")
    return shutil.copytree(folder, root / "snapshots" / "c0ffee")


def draw(pipe: Any) -> Any:
    start = torch.zeros(1, 4, 8, 8)
    pipe.set_progress_bar_config(disable=True)
    return pipe("a woman", num_inference_steps=2, latents=start, output_type="np").images


def test_a_saved_pipeline_draws_and_nobody_was_asked(
    original: Path, touched: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    pipe = load_text_pipeline(str(original))
    assert draw(pipe).shape == (1, 16, 16, 3)
    assert pipe.safety_checker is None
    assert not any(weight.requires_grad for weight in pipe.unet.parameters())
    assert touched == []
    assert capfd.readouterr().err == ""


def test_it_is_float32_unless_another_type_is_asked_for(folder: Path) -> None:
    half = load_text_pipeline(str(folder), dtype=torch.float16)
    shutil.rmtree(folder)
    half.save_pretrained(folder, variant="fp16")
    pipe = load_text_pipeline(str(folder))
    assert {half.unet.dtype, half.vae.dtype, half.text_encoder.dtype} == {torch.float16}
    assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.float32}


def test_weights_in_several_files_are_the_same_weights(original: Path, folder: Path) -> None:
    whole = load_text_pipeline(str(original))
    shutil.rmtree(folder)
    whole.save_pretrained(folder, max_shard_size="100KB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1
    assert (draw(load_text_pipeline(str(folder))) == draw(whole)).all()


def test_several_files_lie_beside_their_list(folder: Path) -> None:
    unet = folder / "unet"
    outside = folder.parent / "outside.safetensors"
    (unet / "diffusion_pytorch_model.safetensors").rename(outside)
    listed = {"metadata": {}, "weight_map": dict.fromkeys(load_file(outside), "../../outside.safetensors")}
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(listed))
    with pytest.raises(LeadlineError, match="does not list files of weights that lie beside it"):
        load_text_pipeline(str(folder))


LISTED = "diffusion_pytorch_model.safetensors.index.json"


def test_a_list_beside_the_weights_is_refused_whatever_it_names(folder: Path) -> None:
    unet = folder / "unet"
    (unet / "benign.bin").write_bytes(pickle.dumps(Payload()))
    (unet / LISTED).write_text(json.dumps({"metadata": {}, "weight_map": {"conv_in.weight": "benign.bin"}}))
    for read in (load_text_pipeline, lambda source: pipeline_fingerprint(Path(source))):
        with pytest.raises(LeadlineError, match="weights twice, by diffusion_pytorch_model.safetensors and .*remove"):
            read(str(folder))


def test_the_fingerprint_covers_every_file_of_weights_whatever_its_name(folder: Path) -> None:
    unet = folder / "unet"
    weights = load_file(unet / "diffusion_pytorch_model.safetensors")
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    (unet / LISTED).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, "other.safetensors")}))
    found = set()
    for factor in (1, 2):
        save_file({name: factor * value for name, value in weights.items()}, unet / "other.safetensors")
        load_text_pipeline(str(folder))
        found.add(pipeline_fingerprint(folder))
    assert len(found) == 2


@pytest.mark.parametrize("way", ["adapter_config.json", "config.json"])
def test_weights_from_elsewhere_are_refused(way: str, folder: Path) -> None:
    if way == "config.json":
        rewritten(folder / "text_encoder" / way, lambda config: config.update(transformers_weights="adapter_model.bin"))
    else:
        (folder / "text_encoder" / way).write_text("{}")
    with pytest.raises(LeadlineError, match=rf"text_encoder names weights beside its own \({way}\)"):
        load_text_pipeline(str(folder))


def test_a_tokenizer_needs_its_words(folder: Path) -> None:
    words = folder / "tokenizer"
    for name in ("tokenizer.json", "merges.txt"):
        (words / name).unlink(missing_ok=True)
    with pytest.raises(LeadlineError, match=r"tokenizer has no vocabulary \(tokenizer.json, or vocab.json and merges"):
        load_text_pipeline(str(folder))
    (words / "merges.txt").write_text("#version: 0.2\n")
    more = {"<|startoftext|>": 0, "<|endoftext|>": 1, **{f"word{number}</w>": number + 2 for number in range(90)}}
    (words / "vocab.json").write_text(json.dumps(more))
    with pytest.raises(LeadlineError, match="tokenizer has 92 words and text_encoder knows 74"):
        load_text_pipeline(str(folder))


def test_the_checker_and_the_watermark_of_a_folder_are_left_out(folder: Path) -> None:
    checker = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    rewritten(folder / "model_index.json", lambda index: index.update(safety_checker=checker))
    assert load_text_pipeline(str(folder)).safety_checker is None


def test_an_image_to_image_pipeline_is_opened_as_text_to_image(folder: Path) -> None:
    rewritten(folder / "model_index.json", lambda index: index.update(_class_name="StableDiffusionImg2ImgPipeline"))
    assert type(load_text_pipeline(str(folder))).__name__ == "StableDiffusionPipeline"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"_class_name": "DDPMPipeline"}, "is a DDPMPipeline: an unconditional pipeline.*leadline sample"),
        ({"_class_name": "FluxPipeline", "transformer": ["diffusers", "F"]}, "transformer has no mid-block"),
        ({"_class_name": "StableDiffusionInpaintPipeline"}, "expected one of StableDiffusionPipeline"),
        ({"_class_name": None}, "is a None: expected one of"),
        ({"_class_name": ["pipeline", "Mine"]}, "names code of its own .*not run"),
        ({"unet": ["diffusers", "UNet2DModel"]}, "unet is diffusers.UNet2DModel, expected diffusers's UNet2DCond"),
        ({"unet": ["os", "system"]}, "unet is os.system, expected"),
        ({"scheduler": ["diffusers", "DiffusionPipeline"]}, "scheduler is diffusers.DiffusionPipeline, expected"),
        ({"scheduler": ["diffusers", "NoSuchScheduler"]}, "NoSuchScheduler, expected diffusers's schedulers"),
        ({"text_encoder": [None, None]}, "text_encoder is .None, None., expected transformers's CLIPTextModel"),
        ({"extra": ["os", "system"]}, "lists 'extra', which is no part of"),
    ],
)
def test_what_is_no_text_to_image_pipeline_is_named(edit: dict[str, Any], message: str, folder: Path) -> None:
    rewritten(folder / "model_index.json", lambda index: index.update(edit))
    with pytest.raises(LeadlineError, match=message):
        load_text_pipeline(str(folder))


@pytest.mark.parametrize("where", ["", "unet", "scheduler", "text_encoder"])
def test_code_in_a_folder_is_not_run(where: str, folder: Path, touched: list[str]) -> None:
    code = f"open({str(folder / 'ran')!r}, 'w')\nclass Mine: pass\n"
    for name in ("pipeline", "mine", "unet", "modeling"):
        (folder / where / f"{name}.py").write_text(code)
    part = where or "unet"
    rewritten(folder / "model_index.json", lambda index: index.update({part: ["mine", "Mine"]}))
    with pytest.raises(LeadlineError, match=rf"{part} is mine.Mine, expected"):
        load_text_pipeline(str(folder))
    assert not (folder / "ran").exists()
    assert "mine" not in sys.modules
    assert touched == []


def test_code_that_a_configuration_names_is_not_run(folder: Path, touched: list[str]) -> None:
    (folder / "text_encoder" / "mine.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Mine: pass\n")
    named = {"auto_map": {"AutoModel": "mine.Mine"}, "attn_implementation": "someone/kernel"}
    for file in ("text_encoder/config.json", "tokenizer/tokenizer_config.json", "unet/config.json"):
        rewritten(folder / file, lambda content: content.update(named))
    load_text_pipeline(str(folder))
    assert not (folder / "ran").exists()
    assert touched == []


class Payload:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('the pickle was run')",)


def test_pickled_weights_are_refused_unread(folder: Path) -> None:
    unet = folder / "unet"
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    (unet / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(LeadlineError, match=r"unet has its weights as diffusion_pytorch_model.bin, a pickle.*save_pre"):
        load_text_pipeline(str(folder))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model_index.json", "it has no model_index.json"),
        ("unet/config.json", "unet has no config.json: the pipeline is not whole"),
        ("unet/diffusion_pytorch_model.safetensors", "unet has no diffusion_pytorch_model.safetensors"),
        ("scheduler/scheduler_config.json", "scheduler has no scheduler_config.json"),
        ("tokenizer/tokenizer_config.json", "tokenizer has no tokenizer_config.json"),
    ],
)
def test_a_missing_file_is_named(file: str, message: str, folder: Path) -> None:
    (folder / file).unlink()
    with pytest.raises(LeadlineError, match=message):
        load_text_pipeline(str(folder))


def test_damaged_files_are_named(folder: Path) -> None:
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    whole = load_file(weights)
    name = sorted(whole)[0]
    save_file({key: value for key, value in whole.items() if key != name}, weights)
    with pytest.raises(LeadlineError, match=rf"vae.* lacks 1 of the weights of AutoencoderKL, such as {name}"):
        load_text_pipeline(str(folder))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(LeadlineError, match="vae cannot be read as AutoencoderKL"):
        load_text_pipeline(str(folder))
    (folder / "model_index.json").write_text("[]")
    with pytest.raises(LeadlineError, match="model_index.json holds list, expected an object"):
        load_text_pipeline(str(folder))


def test_a_hub_name_is_read_from_the_cache(folder: Path, touched: list[str], tmp_path: Path) -> None:
    snapshot = cached(folder, tmp_path / "hub")
    assert draw(load_text_pipeline("someone/model", download=True)).shape == (1, 16, 16, 3)
    assert touched == []
    (snapshot / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(LeadlineError, match=r"lacks unet/diffusion_pytorch_model.safetensors.*path.*--download"):
        load_text_pipeline("someone/model")
    assert touched == []


def test_without_a_network_both_ways_are_said(touched: list[str]) -> None:
    with pytest.raises(LeadlineError, match=r"someone/model is not on this machine.*path of its folder.*--download"):
        load_text_pipeline("someone/model")
    assert touched == []
    with pytest.raises(LeadlineError, match=r"someone/model could not be fetched from the hub.*path of its folder"):
        load_text_pipeline("someone/model", download=True)
    assert touched


def test_fetching_takes_what_loading_reads(
    folder: Path, touched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = cached(folder, tmp_path / "hub")
    for part in ("unet", "vae"):
        shutil.rmtree(snapshot / part)
    there = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    weights = "unet/diffusion_pytorch_model"
    surplus = [f"{weights}.bin", f"{weights}.fp16.safetensors", f"{weights}-00001-of-00002.bin", "v1-5.ckpt"]
    surplus += [f"{weights}.safetensors.index.json", f"{weights}-00001-of-00002.safetensors"]
    offered = [*there, *surplus]
    fetched = []

    def download(repository: str, name: str, **_: object) -> None:
        fetched.append(name)
        (snapshot / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / name, snapshot / name)

    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda repository: offered)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert draw(load_text_pipeline("someone/model", download=True)).shape == (1, 16, 16, 3)
    assert sorted(fetched) == sorted(there)


def test_fetching_goes_on_where_the_repository_has_moved(
    folder: Path, touched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = cached(folder, tmp_path / "hub")
    for part in ("unet", "tokenizer"):
        shutil.rmtree(old / part)
    new = old.parent / "beef"

    def download(repository: str, name: str, **_: object) -> None:
        (old.parent.parent / "refs" / "main").write_text(new.name)
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, new / name)

    there = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda repository: there)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert pipeline_folder("someone/model", download=True) == new
    assert touched == []


def test_fetching_several_files_takes_those_of_the_variant_alone() -> None:
    part = {"unet": Part(library="diffusers", classes=(), weights="model")}
    half = ["model.safetensors.index.fp16.json", "model.fp16-00001-of-00002.safetensors"]
    others = [
        "model-00001-of-00002.safetensors",
        "model.fp16-00001-of-00002.bin",
        "model.ema-00001-of-00002.safetensors",
    ]
    found = needed([f"unet/{name}" for name in (*half, *others, "config.json")], part)
    assert sorted(found) == sorted(["model_index.json", "unet/config.json", *(f"unet/{name}" for name in half)])


@pytest.mark.parametrize("source", ["nowhere", "../up", "https://huggingface.co/someone/model", "a/b/c", "-x/y"])
def test_neither_folder_nor_hub_name(source: str, touched: list[str]) -> None:
    with pytest.raises(LeadlineError, match="is not there: expected a folder with model_index.json, or a hub name"):
        load_text_pipeline(source, download=True)
    assert touched == []


def test_a_single_file_says_how_to_make_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(LeadlineError, match=r"is a file.*from_single_file.*save_pretrained"):
        load_text_pipeline(str(file))


def test_without_transformers_the_extra_is_named(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(LeadlineError, match=r"pip install 'leadline\[text\]'"):
        load_text_pipeline(str(original))
