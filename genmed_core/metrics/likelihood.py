"""Bounds on likelihoods and their parts, in nats."""

import math
from collections.abc import Callable

import torch

from genmed_core import arguments
from genmed_core.kernels import bernoulli_nll  # the training loss and the measure are one function


def gaussian_kl(mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """KL(N(mu, diag exp logvar) || N(0, I)), nats, for each latent dimension.

    mu, logvar (B, d) -> (B, d); its sum over d is the KL of the code.  Kingma & Welling 2014,
    appendix B.
    """
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar)


def log_normal(z: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """log N(z; mu, diag exp logvar), nats, summed over the last dimension. Broadcasts."""
    squared = (z - mu) ** 2 / logvar.exp()
    return -0.5 * (math.log(2 * math.pi) + logvar + squared).sum(-1)


@torch.no_grad()
def iwae_bound(
    x: torch.Tensor, encode: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    decode: Callable[[torch.Tensor], torch.Tensor], *, samples: int, chunk: int = 50,
) -> torch.Tensor:
    """The importance-weighted bound on log p(x), nats per image.

    x (B, ...); encode(x) -> mu, logvar (B, d); decode(z (B, d)) -> logits shaped like x; chunk:
    samples at a time -> bound (B,). samples=1 is the ELBO with a sampled KL.  Burda et al. 2016,
    eq. 8.
    """
    arguments.whole("samples", samples)
    arguments.whole("chunk", chunk)
    mu, logvar = encode(x)
    zero = torch.zeros_like(mu)
    log_weights = []
    for start in range(0, samples, chunk):
        k = min(chunk, samples - start)
        eps = torch.randn(k, *mu.shape, device=mu.device)
        z = mu + eps * (0.5 * logvar).exp()  # (k, B, d)
        logits = decode(z.flatten(0, 1))  # (k B, ...)
        repeated = x.repeat(k, *[1] * (x.ndim - 1))
        log_likelihood = -bernoulli_nll(logits, repeated).view(k, -1)
        log_ratio = log_normal(z, zero, zero) - log_normal(z, mu, logvar)
        log_weights.append(log_likelihood + log_ratio)
    return torch.logsumexp(torch.cat(log_weights), 0) - math.log(samples)
