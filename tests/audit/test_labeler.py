"""The labeler on classes that anyone tells apart, its calibration, its doubts and its place on disk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import bars
from scipy.optimize import minimize_scalar

from leadline.audit import labeler as module
from leadline.audit.judged import UNCLASSIFIED
from leadline.audit.labeler import (
    Labeler,
    fit_temperature,
    load_labeler,
    save_labeler,
    train_labeler,
    without_overlap,
)
from leadline.audit.network import Network, build, shifted
from leadline.errors import LeadlineError
from leadline.records import ImageSet
from leadline.rng import generator_for

CPU = torch.device("cpu")


def test_learns_what_can_be_learnt_and_proves_it_on_images_it_has_not_seen(labeler: Labeler) -> None:
    accuracy = labeler.accuracy(0.95)
    assert accuracy.value == 1.0
    assert accuracy.n == 120
    assert accuracy.lower is not None
    assert 0.95 < accuracy.lower < 1
    fresh = bars((20, 20, 20), 99)
    labels, probabilities = labeler.predict(fresh.images())
    np.testing.assert_array_equal(labels, fresh.labels)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_is_unsure_of_noise_between_two_classes(labeler: Labeler) -> None:
    both = np.maximum(bars((30, 0, 0), 5).pixels, bars((0, 30, 0), 6).pixels)
    doubtful = replace(labeler, confidence=0.999)
    labels, probabilities = doubtful.predict(ImageSet(name="both", pixels=both).images())
    np.testing.assert_array_equal(labels == UNCLASSIFIED, probabilities.max(1) < 0.999)
    assert (labels == UNCLASSIFIED).mean() > 0.2
    assert (labeler.predict(bars((9, 9, 9), 7).images())[0] != UNCLASSIFIED).all()


def test_confusion_counts_every_held_out_image_once_and_the_unsure_apart(labeler: Labeler) -> None:
    table = labeler.confusion()
    assert table.title == "What the labeler makes of labelled images it has not seen"
    assert labeler.accuracy(0.95).unit == "share of labelled images it has not seen"
    assert table.columns == ("true class", "left", "middle", "right", "unclassified")
    assert [sum(row[1:]) for row in table.rows] == [40, 40, 40]  # type: ignore[arg-type]
    all_unsure = replace(labeler, held_out_probabilities=np.full((120, 3), 1 / 3, np.float32)).confusion()
    assert [row[1:] for row in all_unsure.rows] == [(0, 0, 0, 40)] * 3


def test_few_images_of_a_class_are_said_with_their_number() -> None:
    few = train_labeler(bars((30, 30, 4), 8), confidence=0.5, epochs=1, seed=0)
    assert "fewer than 20): right: 4." in few.confusion().note


def test_same_seed_same_labeler_and_the_seed_and_the_epochs_matter(splits) -> None:  # type: ignore[no-untyped-def]
    found = [
        train_labeler(splits.labeler, confidence=0.8, epochs=epochs, seed=seed).fingerprint
        for epochs, seed in ((2, 0), (2, 0), (2, 1), (1, 0))
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_draws_nothing_from_the_global_generators(splits) -> None:  # type: ignore[no-untyped-def]
    before = torch.random.get_rng_state()
    train_labeler(splits.labeler, confidence=0.8, epochs=1, seed=0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_leaves_torchs_number_of_threads_as_it_was(labeler: Labeler) -> None:
    before = torch.get_num_threads()
    labeler.predict(bars((1, 1, 1), 0).images())
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_labels_and_features_do_not_depend_on_the_batch_size(labeler: Labeler, batch_size: int) -> None:
    images = bars((20, 20, 20), 11).images()
    np.testing.assert_allclose(
        labeler.features(images, batch_size), labeler.features(images, 256), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        labeler.predict(images, batch_size)[1], labeler.predict(images, 256)[1], rtol=1e-5, atol=1e-6
    )


def test_features_have_length_one_and_the_five_networks_weigh_the_same(labeler: Labeler) -> None:
    features = labeler.features(bars((4, 4, 4), 12).images())
    assert features.shape == (12, labeler.outputs["features"])
    np.testing.assert_allclose(np.square(features).sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.square(features.reshape(12, 5, -1)).sum(2), 0.2, rtol=1e-5)


def test_images_of_another_size_are_refused(labeler: Labeler) -> None:
    with pytest.raises(LeadlineError, match=r"reads images of shape \(1, 8, 8\), not \(1, 9, 9\)"):
        labeler.predict(np.zeros((2, 1, 9, 9), np.float32))


def test_a_large_set_is_split_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 100)
    large = train_labeler(bars((40, 40, 40), 13), confidence=0.8, epochs=8, seed=0)
    assert len(large.networks) == 1
    assert len(large.held_out_labels) == 24
    assert large.accuracy(0.95).value == 1.0


def test_classes_weigh_the_same_whatever_the_mixture() -> None:
    # The two classes are the same noise: all that could be learnt is their number, 95 against 5 %.
    pixels = np.random.default_rng(0).integers(0, 255, (400, 1, 8, 8)).astype(np.uint8)
    labels = (np.arange(400) % 20 == 0).astype(np.int64)
    images = ImageSet(name="noise", pixels=pixels, labels=labels, classes=("many", "few"))
    found = train_labeler(images, confidence=0.0, epochs=3, seed=0)
    fresh = np.random.default_rng(1).uniform(-1, 1, (200, 1, 8, 8)).astype(np.float32)
    assert abs(found.predict(fresh)[1][:, 1].mean() - 0.5) < 0.15


def test_one_class_is_refused_with_what_there_is() -> None:
    with pytest.raises(LeadlineError, match=r"two classes or more; 'bars' has 9 images of left .*--labeler"):
        train_labeler(bars((9, 0, 0), 1), confidence=0.8, epochs=1, seed=0)


def test_classes_without_images_are_not_known() -> None:
    assert train_labeler(bars((9, 0, 9), 1), confidence=0.8, epochs=1, seed=0).classes == ("left", "right")


def test_temperature_undoes_overconfidence() -> None:
    generator = np.random.default_rng(0)
    logits = torch.from_numpy(generator.normal(size=(4000, 3)))
    labels = torch.from_numpy(np.array([generator.choice(3, p=p) for p in logits.softmax(1).numpy()]))
    assert fit_temperature(logits, labels) == pytest.approx(1, rel=0.1)
    assert fit_temperature(4 * logits, labels) == pytest.approx(4 * fit_temperature(logits, labels), rel=1e-3)


def test_temperature_weighs_the_classes_the_same() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(900, 2))
    labels = (generator.uniform(size=900) < 0.1).astype(np.int64)

    def loss(t: float) -> float:
        scaled = logits / t
        log_p = scaled - np.log(np.exp(scaled).sum(1, keepdims=True))
        per_image = -log_p[np.arange(900), labels]
        return float(np.mean([per_image[labels == c].mean() for c in (0, 1)]))

    expected = minimize_scalar(loss, bounds=(0.05, 20), method="bounded").x
    assert fit_temperature(torch.from_numpy(logits), torch.from_numpy(labels)) == pytest.approx(expected, rel=1e-2)


def test_images_that_stand_elsewhere_or_twice_are_left_out_and_counted() -> None:
    images = bars((5, 5, 5), 20)
    again = images.take([*range(15), 3, 3])
    kept, dropped = without_overlap(
        again, {"training": images.take([0, 1]), "held_out": None, "samples": images.take([9])}
    )
    assert dropped == {"training": 2, "held_out": 0, "samples": 1, "repeats": 2}
    np.testing.assert_array_equal(kept.pixels, images.pixels[[2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14]])
    assert without_overlap(images, {})[0] is images


def test_a_saved_labeler_comes_back_the_same(labeler: Labeler, tmp_path: Path) -> None:
    save_labeler(labeler, tmp_path / "labeler")
    assert sorted(file.name for file in (tmp_path / "labeler").iterdir()) == ["labeler.json", "labeler.safetensors"]
    again = load_labeler(tmp_path / "labeler", 0.8, CPU)
    assert again is not None
    images = bars((3, 3, 3), 21).images()
    np.testing.assert_array_equal(again.predict(images)[1], labeler.predict(images)[1])
    assert again.confusion() == labeler.confusion()
    assert again.accuracy(0.95) == labeler.accuracy(0.95)


@pytest.mark.parametrize("name", ["labeler.json", "labeler.safetensors"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\x80\x04."])
def test_a_damaged_cache_is_as_good_as_none(labeler: Labeler, tmp_path: Path, name: str, content: bytes) -> None:
    save_labeler(labeler, tmp_path / "labeler")
    (tmp_path / "labeler" / name).write_bytes(content)
    assert load_labeler(tmp_path / "labeler", 0.8, CPU) is None


def test_changed_weights_in_the_cache_are_not_used(labeler: Labeler, tmp_path: Path) -> None:
    save_labeler(labeler, tmp_path / "labeler")
    weights = tmp_path / "labeler" / "labeler.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert load_labeler(tmp_path / "labeler", 0.8, CPU) is None


def test_the_cache_is_keyed_by_images_and_options_but_not_by_the_threshold(
    splits,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    def train(**changes: float) -> list[str]:
        words: list[str] = []
        options = {"confidence": 0.8, "epochs": 1, "seed": 0, **changes}
        train_labeler(splits.labeler, cache=tmp_path, progress=lambda stage, *_: words.append(stage), **options)  # type: ignore[arg-type]
        return words

    taken = ["labeler: taken from the cache"]
    assert train() != taken
    assert train() == train(confidence=0.5) == taken
    assert train(epochs=2) != taken
    assert train(seed=1) != taken
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("size", [8, 9, 16, 28, 33, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_network_takes_any_size_at_about_the_same_cost(size: int, channels: int) -> None:
    network = build(channels, size, 4)
    assert isinstance(network, Network)
    for value in network.state_dict().values():
        value.zero_()
    logits, features = network.eval()(torch.zeros(2, channels, size, size))
    assert logits.shape == (2, 4)
    assert features.shape == (2, network.head.in_features)
    assert sum(p.numel() for p in network.parameters()) < 200_000


def test_shifts_move_whole_images_by_whole_pixels_within_reach() -> None:
    image = torch.arange(36.0).reshape(1, 1, 6, 6).expand(50, 1, 6, 6)
    moved = shifted(image, 2, generator_for(0, "test"))
    offsets = {(int(m[0, 2, 2]) // 6 - 2, int(m[0, 2, 2]) % 6 - 2) for m in moved}
    assert offsets <= {(down, right) for down in range(-2, 3) for right in range(-2, 3)}
    assert len(offsets) > 10
    for one in moved:
        down, right = int(one[0, 2, 2]) // 6 - 2, int(one[0, 2, 2]) % 6 - 2
        rows, columns = (torch.arange(6) + down).clamp(0, 5), (torch.arange(6) + right).clamp(0, 5)
        assert torch.equal(one[0], image[0, 0][rows][:, columns])
