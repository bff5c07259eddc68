"""Streams of random numbers: named by (seed, purpose, index), and by nothing else."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from leadline.rng import generator_for, numpy_generator_for, stream_seed


def test_the_seed_of_a_stream_is_pinned() -> None:
    """Every published number hangs on these. The same by hand: 8 bytes of SHA-256, little end first, halved."""
    assert stream_seed(0, "noise") == 8715498277927321452
    assert stream_seed(7, "data/splits", 3) == 612864190169170656
    digest = hashlib.sha256(b"leadline/7/data/splits/3").digest()
    assert stream_seed(7, "data/splits", 3) == sum(byte << 8 * i for i, byte in enumerate(digest[:8])) // 2


def test_seed_purpose_and_index_each_name_another_stream() -> None:
    streams = [(s, p, i) for s in range(8) for p in ("a", "b", "a/1") for i in range(64)]
    seeds = {stream_seed(*stream) for stream in streams}
    assert len(seeds) == len(streams)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # Of 1,536 even draws from 0..2^63 some lie in the upper half: no bit is lost.
    assert max(seeds) > 2**62


@pytest.mark.parametrize("stream", [(1, "noise", 4), (0, "noise", 5), (0, "order", 4)])
def test_generators_repeat_their_stream_and_no_other(stream: tuple[int, str, int]) -> None:
    own, other = (0, "noise", 4), stream
    draws = [torch.randn(100, generator=generator_for(*named)) for named in (own, own, other)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.isclose(draws[0], draws[2]).any()
    numbers = [numpy_generator_for(*named).normal(size=100) for named in (own, own, other)]
    assert np.array_equal(numbers[0], numbers[1])
    assert not np.isclose(numbers[0], numbers[2]).any()


def test_neighbouring_streams_are_uncorrelated() -> None:
    """Correlations of pairs of neighbours over 10,000 draws: standard error 0.01, so 5 of them."""
    rows = np.stack([numpy_generator_for(0, "noise", i).normal(size=10_000) for i in range(9)])
    correlations = np.corrcoef(rows)[~np.eye(9, dtype=bool)]
    assert np.abs(correlations).max() < 0.05


def test_the_global_generators_are_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002  the state that must not move
    first = torch.rand(3, generator=generator_for(0, "x")), numpy_generator_for(0, "x").random(3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3, generator=generator_for(0, "x")), first[0])


def test_numpy_streams_need_no_torch() -> None:
    code = "import sys; from leadline.rng import numpy_generator_for as f; f(0, 'x'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
