"""Training kernels: one optimisation step, run eagerly, compiled, or captured as a CUDA graph.

A chapter writes `loss_fn(batch) -> (scalar loss, dict of detached scalars)`. `Batches` keeps the
data set on the device as uint8 and gathers batches by an on-device permutation; `TrainStep` runs
gather, forward, backward, optimiser and moving average in one of three modes, with the same
arithmetic in each. Nothing in a step waits for the device: losses add up there and are read once
per report.
"""

from genmed_core.kernels.batches import Batch, Batches
from genmed_core.kernels.losses import LossError, bernoulli_nll
from genmed_core.kernels.modes import MODES, Mode
from genmed_core.kernels.schedules import cosine_decay, linear_decay
from genmed_core.kernels.step import TrainStep, Update

__all__ = ["MODES", "Batch", "Batches", "LossError", "Mode", "TrainStep", "Update",
           "bernoulli_nll", "cosine_decay", "linear_decay"]
