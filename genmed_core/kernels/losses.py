"""What a loss function returns, checked in the reader's words; a loss of several chapters."""

from typing import Any

import torch

Logs = dict[str, torch.Tensor | float]
EXPECTED = "loss_fn(batch) must return (scalar loss, dict of scalars to log)"


class LossError(TypeError):
    """A loss function returned what cannot be trained on; the message says what to write."""


def check_result(result: Any) -> tuple[torch.Tensor, Logs]:
    """What a loss function returned -> the loss and its logs. Raises LossError for a slip."""
    __tracebackhide__ = True
    if isinstance(result, torch.Tensor):
        raise LossError(f"{EXPECTED}; yours returned the loss alone: write `return loss, {{}}`.")
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise LossError(f"{EXPECTED}; yours returned {_described(result)}.")
    loss, logs = result
    if not isinstance(loss, torch.Tensor):
        raise LossError(f"{EXPECTED}; its loss is {_described(loss)}, through which no gradient "
                        "flows: leave out .item(), float() and numpy.")
    if loss.ndim:
        raise LossError(f"{EXPECTED}; its loss has the shape {tuple(loss.shape)}: "
                        "take the mean over the batch, loss.mean().")
    if not loss.requires_grad:
        raise LossError("the loss does not depend on the weights that are trained: is something "
                        "detached, or computed under torch.no_grad()?")
    if not isinstance(logs, dict):
        raise LossError(f"{EXPECTED}; its second part is {_described(logs)}: "
                        'write a dict such as {"mse": mse.detach()}.')
    for name, value in logs.items():
        if not isinstance(name, str) or not _is_scalar(value):
            raise LossError(f"{EXPECTED}; logs[{name!r}] is {_described(value)}: "
                            "log one number under a name, a mean for instance.")
    return loss, logs


def _is_scalar(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.ndim == 0 and not value.is_complex()
    return isinstance(value, int | float)


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"{len(value)} things"
    return "nothing" if value is None else f"a {type(value).__name__}"


class _BernoulliNLL(torch.autograd.Function):
    """-log p(x | logits) summed over pixels; its gradient is sigmoid(logits) - x."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(logits, x)
        linear = torch.addcmul(torch.relu(logits), logits, x, value=-1).flatten(1).sum(1)
        # what is left, log(1 + exp(-|logits|)), is -log sigmoid(|logits|). Every such factor is 1/2
        # or more, so that up to 112 of them are multiplied within float32 and share one logarithm
        likely = logits.abs().sigmoid_().flatten(1)
        group = max(g for g in range(1, 113) if likely.shape[1] % g == 0)
        products = likely.unflatten(1, (-1, group)).prod(2)
        return linear - products.log_().sum(1)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor, None]:
        logits, x = ctx.saved_tensors
        per_image = grads[0].view([-1] + [1] * (logits.ndim - 1))
        return torch.sigmoid(logits).sub_(x).mul_(per_image), None


def bernoulli_nll(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """-log p(x | z) of independent Bernoulli pixels, nats per image; differentiable in the logits.

    logits, x (B, ...) of one shape -> (B,). x lies in [0, 1]; for grey pixels this is a
    cross-entropy, not a likelihood. Equal to torch's binary_cross_entropy_with_logits within 1e-6
    a pixel, and faster where logarithms are slow: it takes one for 112 pixels. Raises ValueError.
    """
    if logits.shape != x.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and x {tuple(x.shape)} must have one shape")
    precise = torch.promote_types(logits.dtype, torch.float32)
    return _BernoulliNLL.apply(logits.to(precise), x)
