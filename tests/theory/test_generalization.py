"""Generalization score of samples whose nearest image is known."""

import pytest
import torch

from leadline.errors import LeadlineError, NotMeasurable
from leadline.theory import generalization
from leadline.theory.generalization import generalization_score


def drawn(n, seed):
    return torch.rand(n, 1, 3, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("tile", [3, 2048])
def test_it_is_the_nearest_distance_over_the_norm(monkeypatch, squared, tile):
    monkeypatch.setattr(generalization, "TILE", tile)
    samples, training = drawn(8, 0), drawn(20, 1)
    nearest = torch.cdist(samples.flatten(1).double(), training.flatten(1).double()).amin(1)
    norms = samples.flatten(1).double().norm(dim=1)
    expected = nearest / (norms**2 if squared else norms)
    torch.testing.assert_close(generalization_score(samples, training, squared=squared), expected)


def test_copies_have_exactly_zero():
    training = drawn(50, 0)
    assert generalization_score(training[7:20], training).tolist() == [0.0] * 13
    moved = training[:5].clone()
    moved[:, 0, 0, 0] += 0.01
    norms = moved.flatten(1).double().norm(dim=1)
    torch.testing.assert_close(
        generalization_score(moved, training) * norms, torch.full((5,), 0.01).double(), rtol=1e-5, atol=0
    )


def test_the_scale_cancels_in_the_plain_score_alone():
    samples, training = drawn(4, 0), drawn(9, 1)
    plain, squared = generalization_score(samples, training), generalization_score(samples, training, squared=True)
    torch.testing.assert_close(generalization_score(2 * samples, 2 * training), plain)
    torch.testing.assert_close(generalization_score(2 * samples, 2 * training, squared=True), squared / 2)


def test_no_samples_have_no_scores():
    assert generalization_score(drawn(0, 0), drawn(2, 1)).shape == (0,)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(LeadlineError, match="one shape"):
        generalization_score(drawn(2, 0), torch.zeros(2, 3, 3, 3))
    with pytest.raises(LeadlineError, match="at least one training image"):
        generalization_score(drawn(2, 0), drawn(0, 1))
    with pytest.raises(NotMeasurable, match="no norm"):
        generalization_score(torch.zeros(1, 1, 3, 3), drawn(2, 0))


def test_pixels_are_read_as_images():
    pixels = torch.randint(0, 256, (6, 1, 3, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images, samples = pixels.float() / 127.5 - 1, drawn(4, 1)
    assert torch.equal(generalization_score(samples, pixels), generalization_score(samples, images))
    assert generalization_score(pixels[:3], pixels).tolist() == [0.0] * 3


def test_values_that_are_no_numbers_are_not_measurable():
    broken = drawn(2, 0).index_fill_(0, torch.tensor(1), torch.nan)
    with pytest.raises(NotMeasurable, match="samples is not finite"):
        generalization_score(broken, drawn(2, 1))
    with pytest.raises(NotMeasurable, match="training images is not finite"):
        generalization_score(drawn(2, 1), broken)
