"""No encoder opens a connection unasked, and one that may not reach anything says so."""

import time
from pathlib import Path

import huggingface_hub
import pytest
import torch

from leadline.audit.encoders import ENCODERS, load_encoder
from leadline.errors import LeadlineError

pytest_plugins = ("encoder_fixtures",)

CPU = torch.device("cpu")
NEED_WEIGHTS = sorted(set(ENCODERS) - {"pixels"})
FOLDERS = ("clip", "dinov2")


@pytest.fixture
def touched(cut_off: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`cut_off`, with empty caches; whoever waits to try again does not wait."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return cut_off


@pytest.mark.parametrize("name", NEED_WEIGHTS)
def test_without_weights_it_says_how_to_give_them_and_asks_nobody(
    name: str, touched: list[str], tmp_path: Path
) -> None:
    kind = "FOLDER" if name in FOLDERS else "FILE"
    looked_in = tmp_path / ("hub" if name in FOLDERS else "torch")
    message = f"looked for .*{looked_in}.*--encoder {name}:{kind}.*--download"
    with pytest.raises(LeadlineError, match=message):
        load_encoder(name, shape=(3, 32, 32), device=CPU)
    assert touched == []


@pytest.mark.parametrize("name", ["squeezenet", "dinov2"])
def test_a_download_without_a_network_says_so(name: str, touched: list[str]) -> None:
    with pytest.raises(LeadlineError, match=rf"could not be fetched from .*--encoder {name}:F"):
        load_encoder(name, shape=(3, 32, 32), device=CPU, download=True)
    assert touched
