"""Files of weights, friendly and hostile."""

import hashlib
import pickle
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from leadline.audit.encoders.weights import Published, fill, find_weights, fingerprint_of, read_state_dict
from leadline.errors import LeadlineError

pytest_plugins = ("encoder_fixtures",)


def linear() -> nn.Linear:
    """A network of two weight tensors, on the meta device as `fill` wants it."""
    with torch.device("meta"):
        return nn.Linear(3, 2)


WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1.0, -1.0])}


class Payload:
    """Unpickled, it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files_and_safetensors_hold_the_same(legacy: bool, tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    save_file(WEIGHTS, tmp_path / "a.safetensors")
    from_torch, from_safetensors = (read_state_dict(tmp_path / name) for name in ("a.pth", "a.safetensors"))
    assert from_torch.keys() == from_safetensors.keys()
    assert all(torch.equal(from_torch[name], from_safetensors[name]) for name in from_torch)


def save_zip(content: Any, path: Path) -> None:
    torch.save(content, path)


def save_legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_pickle])
def test_code_in_a_pickle_is_not_run(save: Callable[[Any, Path], None], tmp_path: Path) -> None:
    target = tmp_path / "was-run"
    save({"weight": Payload(target)}, tmp_path / "bad.pth")
    with pytest.raises(LeadlineError, match="reading it would run code that it brings along. Nothing of it was run"):
        read_state_dict(tmp_path / "bad.pth")
    assert not target.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pth", b""),
        ("empty.safetensors", b""),
        ("text.pth", b"these are no weights\n"),
        ("text.safetensors", b"these are no weights, but a text that is long enough\n"),
        ("short.pth", b"PK\x03\x04 cut"),
        ("long.safetensors", b"\xff" * 64),
    ],
)
def test_damaged_files_are_refused_by_name(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LeadlineError, match=rf"{name} (cannot be read as|is no plain file of)"):
        read_state_dict(tmp_path / name)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "whole.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:600])
    with pytest.raises(LeadlineError, match=r"half\.pth"):
        read_state_dict(tmp_path / "half.pth")


@pytest.mark.parametrize("content", [[1, 2], {"model": {"weight": torch.zeros(2)}}, {1: torch.zeros(2)}])
def test_what_is_no_state_dict_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(LeadlineError, match="expected a state dict: names and tensors alone"):
        read_state_dict(tmp_path / "a.pth")


def test_a_program_is_refused_where_weights_are_wanted(script_file: Path) -> None:
    with pytest.raises(LeadlineError, match="is a TorchScript file, a program with weights: expected the weights"):
        read_state_dict(script_file)


def test_filled_networks_are_frozen_float32_and_their_own(tmp_path: Path) -> None:
    halves = {name: value.half() for name, value in WEIGHTS.items()}
    network = fill(linear(), halves, file="a.pth", what="a line")
    assert torch.equal(network(torch.ones(3)), torch.tensor([4.0, 11.0]))
    assert not network.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in network.parameters())
    filled = fill(linear(), WEIGHTS, file="a.pth", what="a line")
    assert filled.bias.data_ptr() != WEIGHTS["bias"].data_ptr()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "a.pth does not fit a line: it lacks bias. Give the weights of that network"),
        ({"extra": torch.zeros(1)}, "it also holds extra"),
        ({"bias": torch.zeros(3)}, "it has in another shape bias"),
        ({"bias": torch.zeros(2, dtype=torch.int64)}, "it has not as plain floating-point numbers bias"),
        ({"bias": torch.zeros(2).to_sparse()}, "it has not as plain floating-point numbers bias"),
        ({"bias": torch.tensor([0.0, float("nan")])}, "it has not finite bias"),
        ({"bias": None, "a": torch.zeros(1), "b": torch.zeros(1)}, "it lacks bias; also holds a, b"),
        ({f"a{i}": torch.zeros(1) for i in range(5)}, "it also holds a0, a1, a2 and 2 more"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: dict[str, torch.Tensor | None], message: str) -> None:
    changed = {name: value for name, value in {**WEIGHTS, **change}.items() if value is not None}
    with pytest.raises(LeadlineError, match=message):
        fill(linear(), changed, file="a.pth", what="a line")


def test_a_missing_counter_of_training_steps_is_no_fault() -> None:
    with torch.device("meta"):
        network = nn.BatchNorm2d(2)
    names = ("weight", "bias", "running_mean", "running_var")
    fill(network, dict.fromkeys(names, torch.ones(2)), file="old.pth", what="a normalisation")
    assert torch.equal(network(torch.ones(1, 2, 1, 1)), torch.ones(1, 2, 1, 1))


def test_fingerprints_follow_names_shapes_bytes_and_options() -> None:
    base = fingerprint_of({"size": 64}, WEIGHTS)
    assert base == fingerprint_of({"size": 64}, dict(reversed(WEIGHTS.items())))
    others = [
        fingerprint_of({"size": 65}, WEIGHTS),
        fingerprint_of({"size": 64}, {**WEIGHTS, "bias": torch.tensor([1.0, -1.0000001])}),
        fingerprint_of({"size": 64}, {**WEIGHTS, "weight": WEIGHTS["weight"].reshape(3, 2)}),
        fingerprint_of({"size": 64}, {"w": WEIGHTS["weight"], "bias": WEIGHTS["bias"]}),
    ]
    assert len({base, *others}) == 5


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    published = Published(file="a.pth", url="https://example.org/a.pth")
    with pytest.raises(LeadlineError, match=r"--encoder net:.*a\.pth is not there; expected a .safetensors or .pth"):
        find_weights("net", published, tmp_path / "a.pth", download=False)
    with pytest.raises(LeadlineError, match="is a folder, not a file of weights"):
        find_weights("net", published, tmp_path, download=False)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache of checkpoints, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_a_cached_file_is_checked_against_its_name(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "net.pth").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    url = "https://example.org/net.pth"
    right = Published(file="net.pth", url=url, sha256=digest[:8])
    assert find_weights("net", right, None, download=False) == cache / "net.pth"
    with pytest.raises(LeadlineError, match="is not the file that its name says: its SHA-256 does not begin with 0000"):
        find_weights("net", Published(file="net.pth", url=url, sha256="00000000"), None, download=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server on this machine that offers net.pth."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "net.pth").write_bytes(b"weights")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "site")) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_a_download_lands_in_the_cache_when_its_hash_is_right(cache: Path, server: str) -> None:
    published = Published(file="net.pth", url=f"{server}/net.pth", sha256=hashlib.sha256(b"weights").hexdigest()[:8])
    assert find_weights("net", published, None, download=True).read_bytes() == b"weights"
    assert [path.name for path in cache.iterdir()] == ["net.pth"]


@pytest.mark.parametrize(
    ("name", "sha256", "said"), [("net.pth", "00000000", "invalid hash"), ("other.pth", "", "HTTP Error 404")]
)
def test_a_download_that_fails_leaves_nothing(name: str, sha256: str, said: str, cache: Path, server: str) -> None:
    published = Published(file=name, url=f"{server}/{name}", sha256=sha256)
    message = rf"weights of the encoder 'net' could not be fetched .*{said}.*Fetch them by hand .*--encoder net:FILE"
    with pytest.raises(LeadlineError, match=message):
        find_weights("net", published, None, download=True)
    assert not list(cache.iterdir())


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    published = Published(file="net.pth", url=f"{server}/net.pth")
    with pytest.raises(LeadlineError, match=r"could not be fetched from .* to .*file/hub/checkpoints/net\.pth"):
        find_weights("net", published, None, download=True)
