"""Keeping the better samples of a generator, with its discriminator as a judge.

Rejection sampling with a density ratio that a discriminator has learned.  Azadi et al. 2019.
"""

import math

import torch

STEPS = 12  # of Newton's method; two numbers are found in half as many
HALVINGS = 60  # of an interval of log M: float32 is used up before


def calibrate(real: torch.Tensor, fake: torch.Tensor) -> tuple[float, float]:
    """Slope a and offset b with which a s + b is the log-odds of "real" at score s.

    real (N,), fake (M,): a discriminator's scores, of images that it was not trained on. Logistic
    regression by Newton's method. Where no score of one lies among those of the other the slope has
    no bound, and is only large.
    """
    s = torch.cat([real, fake]).double().cpu()
    inputs = torch.stack([s, torch.ones_like(s)], 1)
    is_real = (torch.arange(len(s)) < len(real)).double()
    w = torch.zeros(2, dtype=torch.float64)
    for _ in range(STEPS):
        p = torch.sigmoid(inputs @ w)
        hessian = (inputs * (p * (1 - p))[:, None]).T @ inputs + 1e-6 * torch.eye(2)
        w -= torch.linalg.solve(hessian, inputs.T @ (p - is_real))
    return w[0].item(), w[1].item()


def acceptance(log_ratio: torch.Tensor, share: float) -> torch.Tensor:
    """Probabilities min(1, ratio / M) of keeping each sample, M such that their mean is share.

    log_ratio (N,): log p_real / p_fake at the samples -> (N,). What is kept has the density of the
    real ones where no probability is 1. ValueError for a share that is not above 0 and up to 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: give the share to keep, above 0 and up to 1")
    low, high = log_ratio.min(), log_ratio.max() - math.log(share)  # of log M
    for _ in range(HALVINGS):
        log_M = (low + high) / 2
        kept = (log_ratio - log_M).exp().clamp(max=1).mean()
        low, high = (log_M, high) if kept > share else (low, log_M)
    return (log_ratio - log_M).exp().clamp(max=1)
