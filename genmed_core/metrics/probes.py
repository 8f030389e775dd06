"""What can be read off features by a linear map."""

import torch
from torch.nn import functional as F

from genmed_core.metrics import checks


def linear_probe(
    train_features: torch.Tensor, train_labels: torch.Tensor, test_features: torch.Tensor,
    test_labels: torch.Tensor, *, classes: int = 10, l2: float = 1e-3, per_feature: bool = True,
) -> float:
    """Accuracy of a multinomial logistic regression: what can be read off features linearly.

    features (N, d) float, labels (N,) int64 -> accuracy in [0, 1]. See `linear_predictions`.
    """
    checks.one_each("test_labels", test_labels, len(test_features), "sample")
    read = linear_predictions(
        train_features, train_labels, test_features, classes=classes, l2=l2, per_feature=per_feature
    )
    return (read == test_labels).float().mean().item()


def linear_predictions(
    train_features: torch.Tensor, train_labels: torch.Tensor, test_features: torch.Tensor, *,
    classes: int = 10, l2: float = 1e-3, per_feature: bool = True,
) -> torch.Tensor:
    """The labels (M,) int64 that a logistic regression, fitted to a training set, gives a test set.

    Features are centred and scaled with the training set's moments: each by its own deviation, or
    with per_feature=False all by one, which is fairer to pixels when labels are few (one that
    hardly varies in 20 images would be blown up). The fit is full-batch L-BFGS on a convex loss
    with the penalty l2 |w|^2, so it has no seed and no learning rate.
    """
    _check_probe(train_features, train_labels, test_features, classes, l2)
    mean, std = train_features.mean(0), train_features.std(0) + 1e-6
    if not per_feature:
        std = std.square().mean().sqrt()
    x = (train_features - mean) / std
    weight = torch.zeros(x.shape[1], classes, device=x.device, requires_grad=True)
    bias = torch.zeros(classes, device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits = x @ weight + bias
        loss = F.cross_entropy(logits, train_labels) + l2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        logits = (test_features - mean) / std @ weight + bias
        return logits.argmax(1)


def _check_probe(
    x: torch.Tensor, labels: torch.Tensor, x_test: torch.Tensor, classes: int, l2: float
) -> None:
    checks.features("training", x, 2)
    checks.features("test", x_test, 1)
    checks.one_each("train_labels", labels, len(x), "sample")
    if x.shape[1] != x_test.shape[1]:
        raise ValueError(f"training features have {x.shape[1]} dimensions, test {x_test.shape[1]}")
    if not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels must lie in 0..{classes - 1}, or classes= must be larger")
    if not l2 >= 0:
        raise ValueError(f"l2={l2}: give the weight of the penalty, 0 or more")
