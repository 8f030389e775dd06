"""Sets of images that nothing can be said of, and arguments at and beyond their limits."""

import math

import pytest
import torch

from genmed_core import arguments, metrics
from genmed_core.metrics import images

DISTANCES = [metrics.frechet_distance, metrics.kernel_distance, metrics.precision_recall, metrics.density_coverage]


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("distance", DISTANCES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e8])
def test_real_samples_that_are_copies_of_one_are_named(distance, scale):
    copies = scale * normal(1, 6).expand(40, 6)
    rounding = 1e-8 * scale * normal(40, 6, 1)
    with pytest.raises(ValueError, match="the 40 real samples are copies of one"):
        distance(copies + rounding, normal(40, 6, 2))


def test_a_collapsed_generator_gets_an_honest_number_and_no_error():
    real, copies = normal(200, 6), normal(1, 6, 1).expand(200, 6)
    closed = (real.mean(0) - copies[0]).square().sum() + torch.cov(real.T).trace()
    assert metrics.frechet_distance(real, copies) == pytest.approx(closed.item(), rel=1e-6)
    assert metrics.precision_recall(real, copies)[1] == 0 and metrics.density_coverage(real, copies)[1] < 0.3
    assert all(map(math.isfinite, metrics.kernel_distance(real, copies)))
    labels = torch.arange(200) % 2
    assert metrics.within_class_diversity(copies, labels, real, labels) == 0


def test_fewer_samples_than_dimensions_give_a_finite_distance_that_the_table_does_not_trust():
    few = metrics.frechet_distance(normal(8, 50), normal(8, 50, 1))
    many = metrics.frechet_distance(normal(4000, 50), normal(4000, 50, 1))
    assert many < 1 < few < 200
    x = torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    report = metrics.sample_report(x[:20], x[20:], n=20)
    assert "So few samples in 128 dimensions have a singular covariance" in metrics.report_table({"noise": report})
    assert "singular" not in metrics.report_table({"noise": report | {"dimensions": 19}})


def test_a_report_on_copies_says_so():
    copies = torch.rand(1, 1, 28, 28).expand(60, 1, 28, 28)
    with pytest.raises(ValueError, match="real samples are copies of one"):
        metrics.real_reference(copies, n=20)


def test_reports_take_no_setting_that_they_would_ignore():
    x = torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    reference = metrics.real_reference(x, n=20)
    with pytest.raises(ValueError, match="n, binarised given beside a RealReference"):
        metrics.sample_report(x, reference, n=30, binarised=False)
    with pytest.raises(ValueError, match="n=5: give a whole number, 6 or more"):
        metrics.real_reference(x, n=5)
    assert metrics.sample_report(x[:6], x, n=6)["n"] == 6


def probe(**changes):
    x, y = normal(20, 3).float(), torch.arange(20) % 2
    given = {"train_features": x, "train_labels": y, "test_features": x, "test_labels": y, "classes": 2}
    return lambda: metrics.linear_probe(**{**given, **changes})


X, Y = normal(20, 3), torch.arange(20) % 2
PICTURES = torch.rand(6, 1, 16, 16)


def bound(**changes):
    x = torch.zeros(2, 4)
    return lambda: metrics.iwae_bound(x, lambda x: (x, x), lambda z: z, **{"samples": 1, **changes})


@pytest.mark.parametrize("call, message", [
    (probe(train_features=X[:1].float(), train_labels=Y[:1]), "1 training samples are too few: at least 2"),
    (probe(test_features=X[:0].float(), test_labels=Y[:0]), "0 test samples are too few: at least 1"),
    (probe(train_labels=Y[:5]), r"train_labels must be \(20,\), one for each sample, not \(5,\)"),
    (probe(test_labels=Y[:5]), r"test_labels must be \(20,\), one for each sample, not \(5,\)"),
    (probe(train_features=X[:, :2].float()), "training features have 2 dimensions, test 3"),
    (probe(train_labels=Y + 1), r"labels must lie in 0\.\.1"),
    (probe(train_features=X.float() * math.nan), "training features hold NaN"),
    (probe(l2=-1.0), "l2=-1.0: give the weight of the penalty, 0 or more"),
    (bound(samples=0), "samples=0: give a whole number, 1 or more"),
    (bound(chunk=0), "chunk=0: give a whole number, 1 or more"),
    (bound(samples=2.5), "samples=2.5: give a whole number"),
    (lambda: metrics.mean_over(PICTURES, lambda x: x, batch_size=0), "batch_size=0: give a whole number, 1"),
    (lambda: metrics.mean_over(PICTURES[:0], lambda x: x), "no images to take a mean over"),
    (lambda: metrics.timed_samples(lambda: PICTURES[:0]), "gave no image"),
    (lambda: metrics.precision_recall(X, X, k=0), "k=0: give a whole number, 1 or more"),
    (lambda: metrics.precision_recall(X, X, k=20), "20 real samples are too few: at least 21"),
    (lambda: metrics.precision_recall(X, X[:5], k=5), "5 fake samples are too few: at least 6"),
    (lambda: metrics.density_coverage(X, X, k=0), "k=0: give a whole number, 1 or more"),
    (lambda: metrics.density_coverage(X, X, k=20), "20 real samples are too few: at least 21"),
    (lambda: metrics.kernel_distance(X, X, subsets=0), "subsets=0: give a whole number, 1 or more"),
    (lambda: metrics.kernel_distance(X, X, subset_size=0), "subset_size=0: give a whole number, 2 or more"),
    (lambda: metrics.kernel_distance(X, X, subset_size=1), "subset_size=1: give a whole number, 2 or more"),
    (lambda: metrics.similarity(PICTURES, pairs=0), "pairs=0: give a whole number, 1 or more"),
    (lambda: metrics.class_coverage(Y, share=0), "share=0: give a share of the samples"),
    (lambda: metrics.class_coverage(Y + 9), r"labels must lie in 0\.\.9"),
    (lambda: metrics.class_coverage(Y - 1), r"labels must lie in 0\.\.9"),
    (lambda: metrics.within_class_diversity(X, Y[:5], X, Y), r"fake_labels must be \(20,\)"),
    (lambda: metrics.within_class_diversity(X, Y, X, Y[:5]), r"real_labels must be \(20,\)"),
    (lambda: metrics.mmd2(X, X, []), r"bandwidths=\[\]: give one or more positive numbers"),
    (lambda: metrics.mmd2(X, X, [0.0]), r"bandwidths=\[0.0\]: give one or more positive"),
    (lambda: metrics.digit_features(torch.rand(2, 1, 28, 28), batch_size=0), "batch_size=0: give a whole number"),
    (lambda: metrics.Measure("x", "x", "sideways"), "better='sideways': give 'lower', 'higher' or 'floor'"),
    (lambda: metrics.register(metrics.MEASURES["fd"]), "there is a measure 'fd' already"),
])
def test_arguments_at_and_beyond_their_limits_get_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_arguments_at_their_limits_work():
    assert probe(train_features=X[:2].float(), train_labels=Y[:2])() >= 0
    assert bound(samples=1, chunk=1)().shape == (2,)
    assert metrics.precision_recall(X, X, k=19) == (1, 1)
    assert metrics.kernel_distance(X, X, subsets=1, subset_size=2)[1] == 0
    assert metrics.class_coverage(Y, share=1)["classes"] == 0
    assert metrics.similarity(PICTURES[:2], pairs=1) < 1
    arguments.whole("k", torch.tensor([3]).numpy()[0], 3)  # numpy's whole numbers are whole


def test_random_pairs_never_hold_an_image_twice():
    first, second = images.random_pairs(3, 200, torch.Generator().manual_seed(0))
    assert (first != second).all() and set(second.tolist()) == {0, 1, 2}
