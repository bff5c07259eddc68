"""Laws of every metric in the registry: order, batch size, every option, provenance, one sample."""

import shutil
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leadline
from leadline.audit import METRICS
from leadline.audit.features import encode
from leadline.comparison import IDENTITY, compare
from leadline.recipe import AuditSpec
from leadline.records import AuditResult, ImageSet, Measurement, Splits

SPEC = AuditSpec(labeler_epochs=4, confidence=0.7, ks=(1, 2))


def stripes(counts: tuple[int, int, int], seed: int) -> ImageSet:
    """8×8 colour images whose red, green or blue half is bright, in noise strong enough to leave doubts."""
    labels = np.repeat(np.arange(3), counts)
    pixels = np.random.default_rng(seed).integers(0, 120, (len(labels), 3, 8, 8))
    pixels[np.arange(len(labels)), labels, :, :4] += 25
    return ImageSet(name="stripes", pixels=pixels.astype(np.uint8), labels=labels, classes=("red", "green", "blue"))


SPLITS = Splits(train=stripes((40, 15, 0), 0), held_out=stripes((8, 3, 0), 1), labeler=stripes((30, 30, 30), 2))
SAMPLES = replace(
    stripes((20, 6, 2), 3), labels=None, prompted=np.arange(28) % 2, init=np.arange(28) % 11, classes=("red", "green")
)


def identity(m: Measurement, without: frozenset[str] = frozenset()) -> tuple[Any, ...]:
    """What tells a measurement from all others of an audit, but for the params in `without`."""
    return (m.name, m.group, *(repr(m.params.get(param)) for param in IDENTITY if param not in without))


def numbers(result: AuditResult) -> dict[tuple[Any, ...], tuple[float | None, float | None, float | None]]:
    """Value and interval of each measurement, under a key that no other one has."""
    found = [(identity(m), (m.value, m.lower, m.upper)) for m in result]
    repeated = [key for key, times in Counter(key for key, _ in found).items() if times > 1]
    assert not repeated
    return dict(found)


def spread(result: AuditResult, without: frozenset[str]) -> dict[tuple[Any, ...], Counter[Any]]:
    """The values and intervals, and nothing else, of the measurements that are one but for the params in `without`."""
    found: dict[tuple[Any, ...], Counter[Any]] = {}
    for m in result:
        found.setdefault(identity(m, without), Counter())[m.value, m.lower, m.upper] += 1
    return found


def assert_close(found: AuditResult, expected: AuditResult, rtol: float) -> None:
    assert numbers(found).keys() == numbers(expected).keys()
    for key, values in numbers(expected).items():
        got = np.array(numbers(found)[key], dtype=float)
        np.testing.assert_allclose(got, np.array(values, dtype=float), rtol=rtol, atol=1e-9, err_msg=str(key))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the labeler alone, so that it is not trained for every law."""
    folder = tmp_path_factory.mktemp("trained")
    leadline.measure(SAMPLES, SPLITS, metrics="bias", spec=SPEC, cache=folder)
    for file in folder.glob("features-*"):
        file.unlink()
    return folder


@pytest.fixture
def cache(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module", params=sorted(METRICS))
def metric(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def expected(metric: str, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> AuditResult:
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("expected"), dirs_exist_ok=True)
    return leadline.measure(SAMPLES, SPLITS, metrics=metric, spec=SPEC, cache=folder)


def test_every_metric_gives_numbers_here_or_the_laws_are_empty(metric: str, expected: AuditResult) -> None:
    assert set(METRICS[metric].reports) <= {m.name for m in expected if m.value is not None}


def test_the_order_of_samples_and_training_images_does_not_matter(
    metric: str, expected: AuditResult, cache: Path
) -> None:
    generator = np.random.default_rng(4)
    mixed = replace(SPLITS, train=SPLITS.train.take(generator.permutation(55)))
    found = leadline.measure(SAMPLES.take(generator.permutation(28)), mixed, metrics=metric, spec=SPEC, cache=cache)
    assert_close(found, expected, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_batch_size_does_not_matter(
    metric: str, expected: AuditResult, cache: Path, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leadline.audit.context.encode", partial(encode, block=batch_size))
    found = leadline.measure(SAMPLES, SPLITS, metrics=metric, spec=SPEC, cache=cache)
    assert_close(found, expected, rtol=1e-5)


def test_the_same_audit_gives_the_same_numbers(metric: str, expected: AuditResult) -> None:
    assert leadline.measure(SAMPLES, SPLITS, metrics=metric, spec=SPEC).measurements == expected.measurements


def test_every_number_has_its_n_and_where_it_came_from(expected: AuditResult) -> None:
    for m in expected:
        assert m.value is None or (m.n and m.computed_from and m.unit)
        assert m.lower is None or (m.level == SPEC.level and m.method and m.lower <= m.value <= m.upper)  # type: ignore[operator]


def test_one_sample_gives_a_number_or_a_reason_for_everything(metric: str, cache: Path) -> None:
    result = leadline.measure(SAMPLES.take([0]), SPLITS, metrics=metric, spec=SPEC, cache=cache)
    assert set(METRICS[metric].reports) <= {m.name for m in result}


OPTIONS: dict[str, Any] = {
    "metrics": ("bias",),
    "ks": (1, 3),
    "level": 0.5,
    "confidence": 0.99,
    "num_panels": 3,
    "labeler_epochs": 2,
    "seed": 1,
    "encoders": ("labeler", "pixels"),
    "flips": True,
    "duplicate_rms": 200.0,
    "copy_ratio": 1.0,
    "carlini_alpha": 1.5,
    "carlini_neighbors": 2,
    "false_positive_rate": 0.3,
    "nearest_k": 2,
    "stopping": "anytime",
}
WITH_WEIGHTS = {"labeler_model", "prompts"}
"""Options that name weights; tests/audit/test_given.py shows that they matter."""


@pytest.fixture(scope="module")
def whole(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> AuditResult:
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("whole"), dirs_exist_ok=True)
    return leadline.measure(SAMPLES, SPLITS, spec=SPEC, cache=folder)


ITS_OWN = {"ks": frozenset({"k"}), "nearest_k": frozenset({"k"})}
"""Options that stand in a measurement's identity, as what: two of their values must not pass for two numbers."""
WHICH = {"metrics", "encoders"}
"""Options that say what is measured, and change no number."""
LOOKS = {"num_panels"}
"""Options that change images to look at alone."""


def change(option: str, cache: Path) -> AuditResult:
    return leadline.measure(SAMPLES, SPLITS, spec=SPEC.model_copy(update={option: OPTIONS[option]}), cache=cache)


@pytest.mark.parametrize("option", sorted(set(AuditSpec.model_fields) - WITH_WEIGHTS - WHICH - LOOKS))
def test_every_option_changes_a_number(option: str, whole: AuditResult, cache: Path) -> None:
    own = ITS_OWN.get(option, frozenset())
    found, before = spread(change(option, cache), own), spread(whole, own)
    assert found.keys() == before.keys()
    assert found != before


@pytest.mark.parametrize("option", sorted(WHICH))
def test_what_is_measured_can_be_chosen_and_leaves_the_rest_as_it_is(
    option: str, whole: AuditResult, cache: Path
) -> None:
    found, before = numbers(change(option, cache)), numbers(whole)
    assert found.keys() != before.keys()
    both = found.keys() & before.keys()
    assert both
    assert {key: found[key] for key in both} == {key: before[key] for key in both}


@pytest.mark.parametrize("option", sorted(LOOKS))
def test_options_of_the_panels_change_these_alone(option: str, whole: AuditResult, cache: Path) -> None:
    found = change(option, cache)
    assert [panel.tiles.shape for panel in found.panels] != [panel.tiles.shape for panel in whole.panels]
    assert numbers(found) == numbers(whole)


def test_numbers_that_depend_on_how_many_images_there_are_say_so(whole: AuditResult, cache: Path) -> None:
    dependent = {"frechet_distance", "recall", "coverage", "vendi_score"}
    assert {m.name for m in whole if m.params.get("depends_on_n")} == dependent
    fewer = leadline.measure(SAMPLES.take(range(0, 28, 2)), SPLITS, spec=SPEC, cache=cache)
    changes = [c for c in compare(whole, fewer).changes if c.new.params.get("set") == "samples"]
    told = "no interval: it depends on the number of images (28 before, 14 now)"
    assert {c.new.name for c in changes if c.difference.method == told} == dependent
    assert not dependent & {c.new.name for c in changes if c.tested}
    assert {"kernel_distance", "precision", "density"} <= {c.new.name for c in changes if c.tested}
