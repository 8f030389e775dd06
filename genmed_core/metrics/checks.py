"""Looks at features and labels, before a measure gives a silent wrong number."""

import torch


def one_each(name: str, labels: torch.Tensor, n: int, thing: str) -> None:
    """ValueError unless there is one of `labels` for each of the n things."""
    if labels.shape != (n,):
        shape = tuple(labels.shape)
        raise ValueError(f"{name} must be ({n},), one for each {thing}, not {shape}")


def features(name: str, x: torch.Tensor, least: int) -> None:
    """ValueError unless x is (N, d), finite, N at least `least`."""
    if x.ndim != 2 or not x.shape[1]:
        shape = tuple(x.shape)
        raise ValueError(f"{name} features must be (N, d), not {shape}; see digit_features")
    if len(x) < least:
        raise ValueError(f"{len(x)} {name} samples are too few: at least {least} are needed here")
    if not torch.isfinite(x).all():
        raise ValueError(
            f"{name} features hold NaN or infinity: the model that drew them has diverged"
        )


def copies(x: torch.Tensor) -> bool:
    """True where all samples (N, ...) are one and the same, but for rounding."""
    return bool((x - x[:1]).abs().max() <= 1e-6 * x.abs().max())


def feature_pair(
    real: torch.Tensor, fake: torch.Tensor, *, least: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both feature sets as (N, d) float64 on the CPU, or a ValueError that names what is wrong.

    Fakes that are copies of one are a model's collapse, and every measure says so. Real samples
    that are copies of one leave nothing to compare with.
    """
    features("real", real, least)
    features("fake", fake, least)
    if real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"real features have {real.shape[1]} dimensions and fake ones {fake.shape[1]}"
        )
    if copies(real):
        raise ValueError(
            f"the {len(real)} real samples are copies of one: without variety among them "
            "nothing can be compared with them; give a set of different images"
        )
    return real.detach().double().cpu(), fake.detach().double().cpu()
