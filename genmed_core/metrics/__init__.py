"""What a model is worth, as numbers: measures, readers, reports, and chapters' promises.

Measures (likelihood, distances, variety, images, probes) are pure functions; registry lists those
of a set of samples; readers look at images with weights of our own; reports put the two together;
rejection keeps the better ones; promises judge and record. Nothing here plots. Likelihoods are in
nats per image unless a name says bits.
"""

from genmed_core.metrics.distances import (
    frechet_distance,
    kernel_distance,
    mmd2,
    wasserstein_1d,
)
from genmed_core.metrics.images import similarity
from genmed_core.metrics.likelihood import bernoulli_nll, gaussian_kl, iwae_bound, log_normal
from genmed_core.metrics.probes import linear_predictions, linear_probe
from genmed_core.metrics.promises import Expectations
from genmed_core.metrics.readers import (
    DigitReader,
    Reader,
    class_coverage,
    digit_classifier,
    digit_features,
    read_digits,
)
from genmed_core.metrics.registry import MEASURES, Comparison, Measure, measured, register
from genmed_core.metrics.rejection import acceptance, calibrate
from genmed_core.metrics.reports import (
    RealReference,
    real_reference,
    report_table,
    sample_report,
)
from genmed_core.metrics.running import mean_over, parameter_count, timed_samples
from genmed_core.metrics.scorecard import ExpectationFailed
from genmed_core.metrics.variety import (
    class_shares,
    density_coverage,
    precision_recall,
    within_class_diversity,
)
from genmed_core.metrics.weights import (
    WeightsError,
    load_weights,
    save_weights,
    weights_dir,
    weights_facts,
)

__all__ = [
    "MEASURES", "Comparison", "DigitReader", "ExpectationFailed", "Expectations", "Measure",
    "Reader", "RealReference", "WeightsError", "acceptance", "bernoulli_nll", "calibrate",
    "class_coverage", "class_shares", "density_coverage", "digit_classifier", "digit_features",
    "frechet_distance", "gaussian_kl", "iwae_bound", "kernel_distance", "linear_predictions",
    "linear_probe", "load_weights", "log_normal", "mean_over", "measured", "mmd2",
    "parameter_count", "precision_recall", "read_digits", "real_reference", "register",
    "report_table", "sample_report", "save_weights", "similarity", "timed_samples",
    "wasserstein_1d", "weights_dir", "weights_facts", "within_class_diversity",
]
