"""Rejection sampling by a discriminator: the calibration finds a known one, what is kept has the wanted share."""

import pytest
import torch

from genmed_core import metrics


def test_calibration_finds_the_slope_and_offset_of_known_scores():
    generator = torch.Generator().manual_seed(0)
    real, fake = (mean + torch.randn(50_000, generator=generator) for mean in (1.0, 0.0))
    slope, offset = metrics.calibrate(real, fake)                     # of N(1, 1) and N(0, 1): log-odds x - 1/2
    assert abs(slope - 1) < 0.03 and abs(offset + 0.5) < 0.03
    slope, offset = metrics.calibrate(real / 4 + 3, fake / 4 + 3)     # an unsure discriminator with a bias
    assert abs(slope - 4) < 0.12 and abs(offset + 12.5) < 0.4
    assert metrics.calibrate(fake, fake) == pytest.approx((0, 0), abs=1e-6)


def test_acceptance_keeps_the_share_and_the_ratios():
    log_ratio = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    probability = metrics.acceptance(log_ratio, 0.1)                  # none is 1: all ratios are kept
    assert torch.allclose(probability.mean(), torch.tensor(0.1), atol=1e-4)
    assert torch.allclose(probability.log().diff(), torch.ones(4), atol=1e-4)
    assert metrics.acceptance(log_ratio, 0.6)[-1] == 1, "with a larger share the best are kept always"
    assert torch.allclose(metrics.acceptance(torch.zeros(8), 0.25), torch.full((8,), 0.25), atol=1e-4)
    assert torch.allclose(metrics.acceptance(log_ratio, 1), torch.ones(5), atol=1e-4)


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="give the share to keep, above 0 and up to 1"):
        metrics.acceptance(torch.zeros(3), share)
