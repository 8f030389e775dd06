"""Measures of sample quality against closed forms, constructed failures, and damaged real digits."""

import math

import pytest
import torch
from torch.nn import functional as F

from genmed_core import data, metrics
from genmed_core.metrics import reports


def normal(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whitened(n, d, seed):
    """Points whose sample mean is 0 and whose sample covariance is the identity, exactly."""
    x = normal(n, d, seed)
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T


# --- Frechet and kernel distance ----------------------------------------------------------------------------


def test_frechet_distance_of_gaussians_with_known_moments():
    x, y = whitened(300, 5, 0), whitened(400, 5, 1)
    a = torch.tensor([1.0, 2, 3, 0.5, 0]).double()  # the last direction is empty, as dead features are
    b = torch.tensor([2.0, 2, 1, 0.1, 0]).double()
    shift = torch.tensor([0.0, 1, 0, -2, 3]).double()
    closed = ((a - b) ** 2).sum() + shift.square().sum()  # commuting covariances
    assert metrics.frechet_distance(x * a, y * b + shift) == pytest.approx(closed.item(), rel=1e-6)


def test_frechet_distance_of_covariances_that_do_not_commute():
    x, y = whitened(300, 4, 0) @ normal(4, 4, 2), whitened(400, 4, 1) @ normal(4, 4, 3)
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    root = vectors * values.sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ torch.cov(y.T) @ root).clamp(min=0).sqrt().sum()
    closed = (torch.cov(x.T).trace() + torch.cov(y.T).trace() - 2 * cross).item()
    assert metrics.frechet_distance(x, y) == pytest.approx(closed, rel=1e-6)


def test_frechet_distance_is_symmetric_zero_on_itself_and_the_squared_length_of_a_shift():
    x, y = normal(200, 6, 0).float(), normal(150, 6, 1).float()
    assert metrics.frechet_distance(x, x) == pytest.approx(0, abs=1e-5)
    assert metrics.frechet_distance(x, y) == pytest.approx(metrics.frechet_distance(y, x), rel=1e-6)
    assert metrics.frechet_distance(x, x + 2) == pytest.approx(6 * 4, rel=1e-5)


def test_frechet_distance_between_sets_of_one_source_falls_with_their_size():
    small, large = (metrics.frechet_distance(normal(n, 20, 0), normal(n, 20, 1)) for n in (100, 4000))
    assert small > 10 * large > 0


def test_kernel_distance_is_unbiased_and_sees_a_shift():
    same = torch.tensor([metrics.kernel_distance(normal(100, 8, 2 * i), normal(100, 8, 2 * i + 1), subsets=1)[0]
                         for i in range(60)])
    assert abs(same.mean()) < 3 * same.std() / math.sqrt(60) and (same < 0).any() and (same > 0).any()
    assert metrics.kernel_distance(normal(500, 8, 0), normal(500, 8, 1) + 1)[0] > 20 * same.std()


def test_kernel_distance_of_whole_sets_is_the_closed_sum():
    x, y = normal(30, 4, 0), normal(30, 4, 1) + 0.5
    k = lambda a, b: (a @ b.T / 4 + 1) ** 3  # noqa: E731
    off = ~torch.eye(30, dtype=torch.bool)
    closed = k(x, x)[off].mean() + k(y, y)[off].mean() - 2 * k(x, y).mean()
    mean, sd = metrics.kernel_distance(x, y, subsets=3)
    assert mean == pytest.approx(closed.item(), rel=1e-9) and sd == pytest.approx(0, abs=1e-12)


def test_kernel_distance_takes_as_many_as_the_smaller_set_has():
    x, y = normal(30, 4, 0), normal(8, 4, 1)
    assert all(math.isfinite(value) for pair in ((x, y), (y, x)) for value in metrics.kernel_distance(*pair))


def test_kernel_distance_repeats_itself_and_leaves_the_chapters_draws_alone(recwarn):
    x, y = normal(300, 4, 0), normal(300, 4, 1)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first = metrics.kernel_distance(x, y, subset_size=100)
    assert torch.equal(torch.rand(4), expected)
    assert metrics.kernel_distance(x, y, subset_size=100) == first and first[1] > 0
    assert not [w for w in recwarn if "buffer" in str(w.message)]


# --- neighbours ---------------------------------------------------------------------------------------------


def test_precision_and_recall_by_hand_on_a_line():
    real = torch.tensor([[0.0], [1], [2], [3], [10]])
    fake = torch.tensor([[0.5], [2.5], [6.5], [20.0]])
    # k = 1: real balls of radius 1, 1, 1, 1, 7 hold 0.5, 2.5, 6.5; fake balls of radius 2, 2, 4, 13.5 hold all reals
    assert metrics.precision_recall(real, fake, k=1) == (0.75, 1.0)
    assert metrics.precision_recall(real, fake[:2], k=1) == (1.0, 0.8)
    # 0.5 lies in the balls of 0 and 1; 2.5 in those of 2 and 3; 6.5 in that of 10: five hits on four fakes
    assert metrics.density_coverage(real, fake, k=1) == (1.25, 1.0)


def test_a_collapsed_set_is_precise_and_recalls_nothing():
    real = normal(1000, 8, 0)
    fake = 0.01 * normal(1000, 8, 1)
    precision, recall = metrics.precision_recall(real, fake)
    density, coverage = metrics.density_coverage(real, fake)
    assert precision == 1 and recall < 0.01
    assert density > 1.5 and coverage < 0.8


def test_a_spread_set_recalls_and_is_not_precise():
    precision, recall = metrics.precision_recall(normal(1000, 8, 0), 3 * normal(1000, 8, 1))
    assert precision < 0.2 and recall > 0.9


def test_sets_of_one_source_score_alike_and_a_missing_half_costs_half_the_coverage():
    real, fake = normal(1000, 4, 0), normal(1000, 4, 1)
    precision, recall = metrics.precision_recall(real, fake)
    assert abs(precision - recall) < 0.05 and precision > 0.7
    density, coverage = metrics.density_coverage(real, fake)
    assert density == pytest.approx(1, abs=0.06) and coverage == pytest.approx(1 - 2**-5, abs=0.02)
    real[:500] += 20  # two modes, and the fakes know one
    precision, recall = metrics.precision_recall(real, fake)
    assert precision > 0.7 and recall < 0.55
    assert metrics.density_coverage(real, fake)[1] == pytest.approx(0.5, abs=0.02)


def test_a_memoriser_scores_perfectly():
    x = normal(600, 16, 0)
    assert metrics.frechet_distance(x, x) < 1e-5
    assert metrics.precision_recall(x, x) == (1.0, 1.0) and metrics.density_coverage(x, x)[1] == 1.0


# --- classes ------------------------------------------------------------------------------------------------


def test_class_coverage_counts_shares_and_bits():
    even = metrics.class_coverage(torch.arange(1000) % 10)
    assert even["classes"] == 10 and even["entropy"] == pytest.approx(math.log2(10))
    assert even["shares"] == pytest.approx([0.1] * 10)
    one = metrics.class_coverage(torch.full((50,), 7))
    assert one["classes"] == 1 and one["entropy"] == 0
    rare = metrics.class_coverage(torch.cat([torch.zeros(971), torch.ones(29)]).long())
    assert rare["classes"] == 1 and rare["shares"][1] == pytest.approx(0.029)
    with pytest.raises(ValueError, match="no samples"):
        metrics.class_coverage(torch.zeros(0, dtype=torch.int64))


def test_class_coverage_reads_images():
    digits = data.digits("test", source="embedded").subset(slice(0, 300))
    read = metrics.class_coverage(digits.images / 255)
    true = metrics.class_coverage(digits.labels)
    assert sum(abs(a - b) for a, b in zip(read["shares"], true["shares"], strict=True)) < 0.03


def test_diversity_is_the_mean_ratio_of_spreads_within_classes():
    labels = torch.arange(400) % 4
    real = normal(400, 6, 0) + 100 * labels[:, None]
    scale = torch.tensor([1.0, 0.5, 0.25, 0])[labels][:, None]
    centre = 100.0 * labels[:, None]
    fake = centre + (real - centre) * scale
    ratio = metrics.within_class_diversity(fake, labels, real, labels)
    assert ratio == pytest.approx((1 + 0.5 + 0.25 + 0) / 4)
    assert metrics.within_class_diversity(real, labels, real, labels) == pytest.approx(1)


def test_duplicated_prototypes_have_no_diversity_and_a_missing_class_counts_nothing():
    labels = torch.arange(400) % 4
    real = normal(400, 6, 0) + 100 * labels[:, None]
    assert metrics.within_class_diversity(real[labels], labels, real, labels) == pytest.approx(0, abs=1e-9)
    there = labels < 3
    assert metrics.within_class_diversity(real[there], labels[there], real, labels) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="no class has two different real samples"):
        metrics.within_class_diversity(real, labels, real[:4], labels[:4])


# --- distances that train -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n, m", [(50, 50), (40, 65), (1, 7)])
def test_wasserstein_1d_is_the_mean_gap_between_quantiles(n, m):
    x, y = normal(n, 1, 0)[:, 0], normal(m, 1, 1)[:, 0] * 2 + 0.3
    grid = (torch.arange(n * m) + 0.5).double() / (n * m)  # both quantile functions are constant between these
    gap = (x.sort().values[(grid * n).long()] - y.sort().values[(grid * m).long()]).abs().mean().item()
    assert metrics.wasserstein_1d(x, y).item() == pytest.approx(gap, rel=1e-9)


def test_wasserstein_1d_equals_scipys():
    stats = pytest.importorskip("scipy.stats")
    x, y = normal(40, 1, 0)[:, 0], normal(65, 1, 1)[:, 0] * 2 + 0.3
    assert metrics.wasserstein_1d(x, y).item() == pytest.approx(stats.wasserstein_distance(x.numpy(), y.numpy()))


def test_wasserstein_1d_of_a_shift_is_its_length_and_pulls_with_unit_force():
    x = normal(30, 1, 0)[:, 0].requires_grad_()
    distance = metrics.wasserstein_1d(x, x.detach() + 5)
    assert distance.item() == pytest.approx(5)
    distance.backward()
    assert torch.allclose(x.grad, torch.full((30,), -1 / 30).double())
    assert metrics.wasserstein_1d(x, x).item() == 0
    with pytest.raises(ValueError, match=r"two samples of numbers"):
        metrics.wasserstein_1d(x[:, None], x)


def test_mmd_of_shifted_gaussians_is_its_analytic_value():
    d, bandwidths, shift = 3, (1.0, 2.0), 1.5
    closed = sum(2 * (s**2 / (s**2 + 2)) ** (d / 2) * (1 - math.exp(-(shift**2) / (2 * (s**2 + 2))))
                 for s in bandwidths) / 2
    draws = []
    for i in range(40):
        x, y = normal(300, d, 2 * i), normal(300, d, 2 * i + 1)
        y[:, 0] += shift
        draws.append(metrics.mmd2(x, y, bandwidths))
    draws = torch.stack(draws)
    assert draws.mean().item() == pytest.approx(closed, abs=3 * draws.std().item() / math.sqrt(40))
    assert draws.mean().item() == pytest.approx(closed, rel=0.1)


def test_mmd_is_unbiased_and_a_descent_on_it_moves_points_to_the_target():
    values = torch.stack([metrics.mmd2(normal(40, 2, 2 * i), normal(60, 2, 2 * i + 1), [1.0]) for i in range(100)])
    assert abs(values.mean()) < 3 * values.std() / 10 and (values < 0).any()
    target, x = normal(200, 2, 0) + 2, normal(200, 2, 1).requires_grad_()
    bandwidths = [0.5, 2.0, 8.0]
    before = metrics.mmd2(x, target, bandwidths).item()
    optimizer = torch.optim.Adam([x], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        metrics.mmd2(x, target, bandwidths).backward()
        optimizer.step()
    assert metrics.mmd2(x, target, bandwidths).item() < 0.02 * before
    assert torch.isfinite(x).all() and (x.mean(0) - target.mean(0)).abs().max() < 0.2


def test_mmd_takes_images_and_refuses_what_does_not_fit():
    assert metrics.mmd2(torch.rand(4, 1, 5, 5), torch.rand(6, 1, 5, 5), [3.0]).ndim == 0
    for bad in (torch.rand(4, 8), torch.rand(1, 3)):
        with pytest.raises(ValueError, match="two or more samples of one size"):
            metrics.mmd2(torch.rand(4, 3), bad, [1.0])


# --- clear refusals -----------------------------------------------------------------------------------------

DISTANCES = [metrics.frechet_distance, metrics.kernel_distance, metrics.precision_recall, metrics.density_coverage]


@pytest.mark.parametrize("distance", DISTANCES, ids=lambda f: f.__name__)
def test_distances_refuse_what_would_give_a_silent_wrong_number(distance):
    x = normal(20, 4, 0)
    nan = x.clone()
    nan[3, 2] = math.nan
    for real, fake, message in (
        (x, normal(20, 5, 0), "real features have 4 dimensions and fake ones 5"),
        (x, nan, "fake features hold NaN or infinity"),
        (nan, x, "real features hold NaN or infinity"),
        (x[:1], x, "1 real samples are too few"),
        (x, x[:0], "0 fake samples are too few"),
        (x, x.view(20, 2, 2), r"fake features must be \(N, d\), not \(20, 2, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            distance(real, fake)


def test_features_refuse_images_of_the_wrong_shape_or_range():
    with pytest.raises(ValueError, match=r"expected images \(N, 1, 28, 28\), got \(5, 784\)"):
        metrics.digit_features(torch.rand(5, 784))
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], these span -1.00 to 1.00: map tanh outputs"):
        metrics.digit_features(torch.linspace(-1, 1, 784).view(1, 1, 28, 28))
    with pytest.raises(ValueError, match="hold NaN or infinity: the model"):
        metrics.digit_features(torch.full((2, 1, 28, 28), math.nan))
    assert metrics.digit_features(torch.rand(0, 1, 28, 28)).shape == (0, 128)


# --- reports on digits --------------------------------------------------------------------------------------

N = 800


@pytest.fixture(scope="module")
def digits():
    """Test digits (MNIST where it is there, else strokes), few enough for a quick report."""
    try:
        test = data.digits("test", source="mnist")
    except data.DataError:
        test = data.digits("test", source="embedded")
    return test.subset(torch.randperm(len(test), generator=torch.Generator().manual_seed(1))[: 4 * N])


@pytest.fixture(scope="module")
def reference(digits):
    return metrics.real_reference(digits.subset(slice(0, 3 * N)), n=N)


@pytest.fixture(scope="module")
def unseen(digits):
    return digits.images[3 * N :].float() / 255


def blurred(x, sigma):
    taps = torch.exp(-torch.arange(-6, 7) ** 2 / (2 * sigma**2))
    taps = taps / taps.sum()
    return F.conv2d(F.conv2d(x, taps.view(1, 1, 1, -1), padding=(0, 6)), taps.view(1, 1, -1, 1), padding=(6, 0))


def test_features_do_not_depend_on_batches_or_on_how_images_are_stored(digits):
    few = digits.subset(slice(0, 50))
    features = metrics.digit_features(few)
    assert features.shape == (50, 128) and features.dtype == torch.float32 and not features.requires_grad
    assert torch.allclose(features, metrics.digit_features(few.images.float() / 255, batch_size=7), atol=0.2)
    reader = metrics.digit_classifier()
    with torch.no_grad():
        plain = reader.features(few.images / 255)
    assert torch.allclose(features, plain, atol=0.2)  # bfloat16 where the processor has it


def test_unseen_digits_score_at_the_floor(digits, reference, unseen):
    report = metrics.sample_report(unseen, reference, digits.labels[3 * N :])
    assert 0.3 < report["fd_ratio"] < 3 and report["fd_ratio"] == report["fd"] / report["floor"]["fd"]
    assert abs(report["kid"]) < 4 * (report["kid_sd"] + report["floor"]["kid_sd"])
    for key in ("precision", "recall", "coverage", "diversity"):
        assert report[key] == pytest.approx(report["floor"][key], abs=0.08), key
    assert report["classes"] == 10 and report["entropy"] > 3.25 and report["read_accuracy"] > 0.97
    assert report["n"] == N and report["reference_n"] == 2 * N and not report["binarised"]


def test_frechet_distance_grows_with_the_damage(reference, unseen):
    noise = torch.randn(unseen.shape, generator=torch.Generator().manual_seed(0))
    noisy = [(unseen + s * noise).clamp(0, 1) for s in (0.2, 0.4, 0.6)]
    for damaged in (noisy, [blurred(unseen, s) for s in (1, 2, 3)]):
        ratios = [metrics.sample_report(x, reference)["fd_ratio"] for x in damaged]
        assert 1 < ratios[0] < ratios[1] < ratios[2], ratios


def test_prototypes_read_perfectly_and_have_collapsed(digits, reference):
    first = torch.stack([(digits.labels == c).nonzero()[0, 0] for c in range(10)])
    labels = torch.arange(N) % 10
    report = metrics.sample_report(digits.images[first][labels] / 255, reference, labels)
    assert report["read_accuracy"] >= 0.9 and report["classes"] >= 9
    assert report["diversity"] < 0.01 and report["recall"] < 0.05 and report["coverage"] < 0.3
    assert report["fd_ratio"] > 3


def test_binarised_reports_want_binary_samples(digits, unseen):
    reference = metrics.real_reference(digits, n=N, binarised=True)
    with pytest.raises(ValueError, match="binarised=True needs samples of 0 and 1"):
        metrics.sample_report(unseen, reference)
    report = metrics.sample_report((unseen > 0.5).float(), reference)
    assert report["binarised"] and report["fd_ratio"] < 3


def test_reports_refuse_too_few_samples_and_labels_that_do_not_fit(digits, reference, unseen):
    with pytest.raises(ValueError, match=f"{N - 1} samples are too few: draw {N}"):
        metrics.sample_report(unseen[:-1], reference)
    with pytest.raises(ValueError, match=f"labels must be \\({N},\\), one for each sample, not \\(5,\\)"):
        metrics.sample_report(unseen, reference, torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="100 real images are too few: a report on 800 samples needs 1600"):
        metrics.sample_report(unseen, digits.subset(slice(0, 100)), n=N)


def test_the_floor_can_be_made_of_other_real_images(digits, unseen):
    rest, other = digits.subset(slice(0, 400)), digits.subset(slice(400, 700))
    report = metrics.sample_report(unseen[:200], rest, held_out=other, n=200)
    assert report["reference_n"] == 400 and 0.2 < report["fd_ratio"] < 5
    with pytest.raises(ValueError, match="300 real images are too few: a report on 350 samples needs 350"):
        metrics.real_reference(rest, held_out=other, n=350)
    assert metrics.real_reference(rest, held_out=other, n=200).floor["read_accuracy"] > 0.9
    noise = torch.rand(300, 1, 28, 28)
    assert metrics.real_reference(rest, held_out=noise, n=200).floor["fd"] > 5 * report["floor"]["fd"]


def test_more_samples_than_needed_are_drawn_from_not_cut_off(digits, reference):
    order = digits.labels.argsort()
    report = metrics.sample_report(digits.images[order] / 255, reference, digits.labels[order])
    assert report["n"] == N and report["classes"] == 10 and report["read_accuracy"] > 0.97


class ColourReader:
    """A reader of other images: the mean colours of four quarters, and which colour is strongest."""

    shape, classes = (3, 16, 16), 3

    def features(self, x):
        return F.avg_pool2d(x, 8).flatten(1)  # (N, 12)

    def read(self, x):
        features = x if x.ndim == 2 else self.features(x)
        return features.view(-1, 3, 4).mean(2).softmax(1)


def test_a_report_takes_other_images_with_a_reader_of_their_own():
    x, reader = torch.rand(300, 3, 16, 16, generator=torch.Generator().manual_seed(0)), ColourReader()
    darker = x[200:] * 0.7
    reference = metrics.real_reference(x[:200], n=100, reader=reader)
    real, dark = (metrics.sample_report(images, reference) for images in (x[200:], darker))
    assert (real["dimensions"], len(real["shares"]), real["reference_n"]) == (12, 3, 100)
    assert dark["fd_ratio"] > 10 > 3 > real["fd_ratio"] and dark["coverage"] < 0.5 < real["coverage"]
    assert metrics.sample_report(darker, x[:200], n=100, reader=reader)["fd"] == dark["fd"]
    assert reference.floor["fd_sd"] > 0
    pair = reference.features, reader.features(darker)
    assert (dark["precision"], dark["recall"]) == metrics.precision_recall(*pair)
    assert (dark["density"], dark["coverage"]) == metrics.density_coverage(*pair)
    assert (dark["kid"], dark["kid_sd"]) == metrics.kernel_distance(*pair)
    assert metrics.class_coverage(x, classes=3, reader=reader)["classes"] == 3
    with pytest.raises(ValueError, match=r"expected images \(N, 3, 16, 16\), got \(10, 1, 28, 28\)"):
        metrics.sample_report(torch.rand(10, 1, 28, 28), reference)


def test_an_image_set_is_looked_at_once(digits, monkeypatch, unseen):
    few = digits.subset(slice(0, 400))
    first = metrics.sample_report(unseen[:200], few, n=200)
    looks = []
    look = reports.look
    monkeypatch.setattr(reports, "look", lambda x, reader: looks.append(len(x)) or look(x, reader))
    second = metrics.sample_report(unseen[:200], few, n=200)
    assert looks == [200] and first == second
    metrics.sample_report(unseen[:150], few, n=150)
    assert looks == [200, 150]  # another n, another floor, and still the same features of the real images


def test_the_table_names_sizes_and_floors(reference, unseen):
    report = metrics.sample_report(unseen, reference)
    lines = metrics.report_table({"unseen digits": report, "again": report}).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:13]]
    assert all(len(row) == 4 for row in rows) and rows[0] == ["measure", "real, grey", "unseen digits", "again"]
    table = {row[0]: row[1:] for row in rows}
    assert table["Fréchet distance"][1] == f"{report['fd']:.1f}" and table["times the floor"][0] == "1.0"
    assert table["classes"] == ["10"] * 3 and table["read as asked"][1] == "" != table["read as asked"][0]
    assert lines[-1] == f'{N:,} samples against {2 * N:,} real images; "real" is the floor.'
