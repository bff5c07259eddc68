"""Paired audits: the audits' own numbers, tested; sets that are equal, mixed or no pairs; what is read how often."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import bars, unlabelled

import leadline
from leadline.audit.context import METRICS, AuditContext
from leadline.audit.paired import paired_audit
from leadline.audit.paired_metrics import COMPARED
from leadline.audit.paired_tests import Inference
from leadline.audit.pairing import NAME, Found, Pair
from leadline.comparison import IDENTITY
from leadline.errors import LeadlineError
from leadline.recipe import AuditSpec
from leadline.records import AuditResult, ImageSet, Measurement, Splits

SPEC = AuditSpec(labeler_epochs=4, confidence=0.7, ks=(1, 3), encoders=("labeler", "pixels"))
UNTESTED = {
    "authentic_rate",
    "copy_rate_excess",
    "share_difference",
    "share_ratio",
    "share_amplification",
    "corrected_share",
    "corrected_difference",
    "labeled_difference",
    "detectable_difference",
    "nearest_distance_difference",
    "nearest_similarity_difference",
    "labeler_accuracy",
}
"""What stands for the samples in an audit and has no paired test: comparisons with training or held-out images, shares
corrected for the labeler's errors (which both sets share), what the number of images can tell."""
Key = tuple[str, str | None, tuple[str, ...]]


def drawn(counts: tuple[int, int, int], seed: int) -> ImageSet:
    images = unlabelled(bars(counts, seed, f"seed 0, {counts}"))
    return replace(images, ids=tuple(f"0/{index}" for index in range(len(images))))


BASE = drawn((24, 8, 4), 5)
OTHER = replace(drawn((18, 12, 6), 6), pixels=np.maximum(drawn((18, 12, 6), 6).pixels // 2, BASE.pixels // 2))


def key(m: Measurement) -> Key:
    params = tuple(repr(m.params.get(name)) for name in IDENTITY if name != "set")
    return m.params.get("of", m.name), m.group, params


def keyed(found: tuple[Measurement, ...]) -> dict[Key, Measurement]:
    by_key = {key(m): m for m in found}
    assert len(by_key) == len(found)
    return by_key


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def found(splits: Splits, cache: Path) -> dict[Key, Measurement]:
    return keyed(paired_audit(BASE, OTHER, splits, spec=SPEC, cache=cache))


def test_every_number_of_the_samples_is_compared_as_the_audits_have_it(
    found: dict[Key, Measurement], splits: Splits, cache: Path
) -> None:
    sides: list[AuditResult] = [leadline.measure(images, splits, spec=SPEC, cache=cache) for images in (BASE, OTHER)]
    base, other = (
        {
            key(m): m
            for m in side
            if m.name not in UNTESTED and m.params.get("set", "samples") == "samples" and "part_of" not in m.params
        }
        for side in sides
    )
    assert found.keys() == base.keys() == other.keys()
    for which, m in found.items():
        first, second = base[which], other[which]
        if first.value is None or second.value is None:
            assert (m.value, m.reason) == (None, second.reason)
            continue
        assert (m.name, m.unit, m.level) == (NAME, first.unit, 0.95)
        assert (m.params["base"], m.params["other"]) == pytest.approx((first.value, second.value), rel=1e-12, abs=1e-12)
        plain = m.params.get("plain", m.value)
        assert plain == pytest.approx(second.value - first.value, rel=1e-9, abs=1e-12)
        assert m.lower <= m.value <= m.upper  # type: ignore[operator]
        assert m.n == 36
        assert m.computed_from["base"] == first.computed_from["samples"]
        assert m.computed_from.items() >= second.computed_from.items()
    assert sum(m.value is not None for m in found.values()) > 30


def test_a_frechet_difference_is_corrected_and_of_few_images_doubted(found: dict[Key, Measurement]) -> None:
    distances = [m for m in found.values() if m.params["of"] == "frechet_distance"]
    m = next(m for m in distances if "pixels" in m.params["space"])
    assert m.value is not None
    assert abs(m.value - m.params["plain"]) > 1e-3
    assert m.lower + m.upper == pytest.approx(2 * m.value)  # type: ignore[operator]
    assert "corrected by the jackknife for the bias of 36 images" in str(m.method)
    assert "36 images in 64 dimensions" in m.params["doubt"]


def test_where_the_correction_turns_the_sign_it_is_doubted(splits: Splits) -> None:
    pair = Pair(base=context(BASE, splits.train), other=context(OTHER, splits.train))
    blocks = pair.blocks()
    without = np.zeros(36), np.linspace(0.1, 0.3, 36)
    turned = pair.by_blocks_corrected(1.0, 1.1, without, blocks)
    assert turned.params["plain"] == pytest.approx(0.1)
    assert turned.value == pytest.approx(36 * 0.1 - 35 * 0.2)
    assert "0.1, and -3.4 without the bias of so few images" in turned.params["doubt"]
    assert "doubt" not in pair.by_blocks_corrected(1.0, 1.3, without, blocks).params


def test_rates_differ_by_one_at_most(splits: Splits) -> None:
    pair = Pair(base=context(BASE, splits.train), other=context(OTHER, splits.train))
    without = np.zeros(36), np.linspace(0, 1.8, 36)
    ends = [
        (each.tested.lower, each.tested.upper)
        for each in (
            pair.by_blocks(0.0, 0.9, without, pair.blocks(), limits=(-1.0, 1.0)),
            pair.by_blocks(0.0, 0.9, without, pair.blocks()),
        )
    ]
    assert ends[0] == (-1.0, 1.0)
    assert ends[1][0] < -1 < 1 < ends[1][1]


def test_of_too_few_images_nothing_is_jackknifed_over_blocks_and_what_is_not_finite_is_not_measurable(
    splits: Splits,
) -> None:
    pair = Pair(base=context(BASE.take(range(19)), splits.train), other=context(OTHER.take(range(19)), splits.train))
    with pytest.raises(LeadlineError, match="needs 20 images or more in each set, 19 given"):
        pair.blocks()
    infinite = Found(0.0, np.inf, Inference(0.0, np.inf, 0.5), "by hand", 19)
    m = pair.difference("x", lambda: infinite, unit="", direction="", params={})
    assert m.reason == "the test gave no finite numbers (inf, 0, inf, 0.5)"


def test_what_was_changed_is_found_and_the_counts_of_pairs_add_up(found: dict[Key, Measurement]) -> None:
    shares = {m.group: m for m in found.values() if m.params["of"] == "share"}
    assert list(shares) == ["left", "middle", "other classes", "unclassified"]
    assert sum(m.value or 0 for m in shares.values()) == pytest.approx(0, abs=1e-12)
    for m in shares.values():
        assert m.value == pytest.approx((m.params["gained"] - m.params["lost"]) / 36)
    nearest = next(m for m in found.values() if m.params["of"] == "nearest_distance")
    assert nearest.params["p"] < 1e-6 < 0.01 < nearest.value  # type: ignore[operator]


def test_a_set_does_not_differ_from_itself(splits: Splits, cache: Path) -> None:
    for m in paired_audit(BASE, replace(BASE, name="again"), splits, spec=SPEC, cache=cache):
        if m.status == "ok":
            assert (m.value, m.params["p"]) == (0, 1)
            # Of shares, as of any other set in which no pair differs, more pairs might show one.
            assert m.lower == m.upper == 0 or ("McNemar" in str(m.method) and m.lower < 0 < m.upper)  # type: ignore[operator]


def test_the_order_of_the_images_does_not_matter(found: dict[Key, Measurement], splits: Splits, cache: Path) -> None:
    order = np.random.default_rng(0).permutation(36)
    mixed = keyed(paired_audit(BASE.take(order), OTHER.take(order), splits, spec=SPEC, cache=cache))
    assert mixed.keys() == found.keys()
    for which, m in mixed.items():
        before = found[which]
        got, expected = ([x.value, x.lower, x.upper, x.params.get("p")] for x in (m, before))
        if m.value is None:
            assert got == expected
        else:
            assert got == pytest.approx(expected, rel=1e-5, abs=1e-7), which


def test_what_the_base_and_the_training_images_take_is_computed_once(splits: Splits, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"metrics": ("bias", "memorization")})
    stages: list[str] = []

    def progress(stage: str, done: int, _total: int, _detail: str) -> None:
        if done == 0 and ("reading" in stage or "training on" in stage):
            stages.append(stage.removeprefix("audit, ").split(" by ")[0])

    paired_audit(BASE, OTHER, splits, spec=spec, cache=tmp_path, progress=progress)
    samples = "reading samples images"
    everything = [samples, samples, "reading training images", "reading held-out images"]
    assert sorted(stages[1:]) == sorted(everything)
    assert stages[0].startswith("labeler: training on")
    stages.clear()
    paired_audit(BASE, replace(OTHER, pixels=255 - OTHER.pixels), splits, spec=spec, cache=tmp_path, progress=progress)
    assert stages == [samples]


def test_without_a_cache_it_is_the_same(found: dict[Key, Measurement], splits: Splits) -> None:
    spec = SPEC.model_copy(update={"metrics": ("bias",)})
    for m in paired_audit(BASE, OTHER, splits, spec=spec):
        assert m == found[key(m)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: replace(s, ids=()), r"need the ids of all images.*'seed 0, \(18, 12, 6\)' has none"),
        (lambda s: replace(s, ids=("0/0", "1/1", *s.ids[2:])), "image 1 is '0/1' in .* and '1/1' in .*sample.seed"),
        (lambda s: s.take(range(30)), "as many images in both sets: .* has 36, .* 30.*sample.num_images"),
        (lambda s: replace(s, pixels=s.pixels[..., :4]), r"one size: .*\(1, 8, 8\).*\(1, 8, 4\)"),
        (lambda s: replace(s, init=np.arange(36)), "the same images to start from"),
    ],
)
def test_sets_that_are_no_pairs_are_refused(
    change: Callable[[ImageSet], ImageSet], message: str, splits: Splits
) -> None:
    with pytest.raises(LeadlineError, match=message):
        paired_audit(BASE, change(OTHER), splits, spec=SPEC)


def test_two_labelers_are_not_compared(splits: Splits, cache: Path) -> None:
    """Samples that are labeler images to the byte are left out of the labeler's images, but of one set alone."""
    assert splits.labeler is not None
    stolen = OTHER.pixels.copy()
    stolen[0] = splits.labeler.pixels[0]
    spec = SPEC.model_copy(update={"metrics": ("bias", "diversity")})
    for m in paired_audit(BASE, replace(OTHER, pixels=stolen), splits, spec=spec, cache=cache):
        if m.params["of"] == "share" or m.params.get("space") == "labeler features":
            assert "the labelers of the two sets are not the same" in str(m.reason)
        else:
            assert m.status == "ok"


def test_more_samples_than_training_images_have_no_paired_vendi_score(splits: Splits, cache: Path) -> None:
    few = replace(splits, train=splits.train.take(range(50, 70)))
    spec = SPEC.model_copy(
        update={"metrics": ("diversity", "memorization"), "encoders": ("pixels",), "ks": (1, 30), "num_panels": 0}
    )
    by_key = {m.params["of"]: m for m in paired_audit(BASE, OTHER, few, spec=spec, cache=cache)}
    assert "20 of the 36 samples" in str(by_key["vendi_score"].reason)
    assert "k = 30 neighbours asked of 20 training images" in str(by_key["nearest_distance"].reason)
    assert by_key["mean_pairwise_distance"].status == "ok"


def test_a_metric_without_a_paired_test_says_so(splits: Splits, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(COMPARED, "fidelity")
    spec = SPEC.model_copy(update={"metrics": ("fidelity",)})
    differences = paired_audit(BASE, OTHER, splits, spec=spec, cache=cache)
    assert tuple(m.params["of"] for m in differences) == METRICS["fidelity"].reports
    assert all("'fidelity' has no paired test" in str(m.reason) for m in differences)


def test_prompts_and_starts_are_compared_as_the_audits_have_them(splits: Splits, cache: Path) -> None:
    spec = SPEC.model_copy(update={"metrics": ("prompted",)})
    asked: dict[str, Any] = {
        "classes": splits.train.classes,
        "prompted": np.repeat([0, 1], [20, 16]),
        "init": np.arange(36) % 16,
    }
    base, other = (replace(images, **asked) for images in (BASE, OTHER))
    differences = keyed(paired_audit(base, other, splits, spec=spec, cache=cache))
    sides = [
        {
            key(m): m
            for m in leadline.measure(images, splits, spec=spec, cache=cache)
            if m.params.get("set") == "samples"
        }
        for images in (base, other)
    ]
    assert differences.keys() == sides[0].keys()
    assert {k[0] for k in differences} == {"prompt_agreement", "init_distance", "init_similarity"}
    for which, m in differences.items():
        values = m.params["base"], m.params["other"]
        assert values == pytest.approx((sides[0][which].value, sides[1][which].value))
        assert m.n == sides[0][which].n
    with pytest.raises(LeadlineError, match="prompts that ask for the same classes"):
        paired_audit(base, replace(other, prompted=1 - asked["prompted"]), splits, spec=spec)


class Taps:
    """An encoder whose one tap is the image itself."""

    name = "taps"
    fingerprint = "0"
    description = "the image"
    batch_size = 4
    outputs: dict[str, int] = {}  # noqa: RUF012
    heads = None

    def encode(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return {}

    def encode_with_taps(self, images: np.ndarray) -> tuple[dict[str, np.ndarray], list[torch.Tensor]]:
        return {}, [torch.from_numpy(images).repeat(1, 2, 1, 1).sub_(torch.tensor([0, 0.5])[:, None, None])]


def context(images: ImageSet, training: ImageSet) -> AuditContext:
    return AuditContext(
        samples=images,
        training=training,
        held_out=None,
        spec=AuditSpec(metrics=("diversity",)),
        class_names=("left",),
        labels=np.zeros(len(images), int),
        labels_origin="",
        labeler=None,
        encoders=(Taps(),),
        spaces=(),
        missing={},
        fingerprints={"samples": images.fingerprint(), "training": "t", "taps": "e"},
        device=torch.device("cpu"),
    )


def test_distances_of_taps_are_jackknifed_over_images(splits: Splits) -> None:
    """Against the loop that leaves out one image after the other."""
    sets = [images.take(range(12)) for images in (BASE, OTHER)]
    pair = Pair(base=context(sets[0], splits.train), other=context(sets[1], splits.train))
    (found,) = COMPARED["diversity"](pair)
    assert (found.params["of"], found.params["pairs"]) == ("mean_pairwise_feature_distance", "all")
    rest = [[i for i in range(12) if i != left] for left in range(12)]
    totals = [
        [context(images.take(r), splits.train).pair_distances("samples")["taps"].total for r in rest] for images in sets
    ]
    apart = np.subtract(totals[1], totals[0])
    error = np.sqrt(11 / 12 * np.square(apart - apart.mean()).sum())
    assert found.upper - found.value == pytest.approx(2.2010 * error, rel=1e-3)  # type: ignore[operator]
    same = Pair(base=pair.base, other=context(replace(sets[0], name="again"), splits.train))
    (none,) = COMPARED["diversity"](same)
    assert (none.value, none.lower, none.params["p"]) == (0, 0, 1)
