"""Recording CUDA graphs, without a GPU: what is asked of torch, in which order, and what is mended afterwards.

tests/gpu records real ones.
"""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from genmed_core.kernels import cuda_graphs

DEVICE = torch.device("cuda", 0)


@pytest.fixture
def cuda(monkeypatch):
    """A stand-in for torch.cuda that writes down what happens to it."""
    told, generator = [], SimpleNamespace(graphsafe_set_state=lambda new: told.append("generator renewed"))
    stream = SimpleNamespace(wait_stream=lambda other: None)

    @contextlib.contextmanager
    def recording(graph):
        told.append("recording")
        try:
            yield
        finally:
            told.append("recorded")

    for name, stand_in in {
        "Stream": lambda device: stream, "current_stream": lambda device: stream, "CUDAGraph": lambda: "graph",
        "stream": contextlib.nullcontext, "graph": recording, "synchronize": lambda device: None,
        "get_rng_state": lambda device: "noise", "set_rng_state": lambda state, device: told.append(f"{state} back"),
        "get_sync_debug_mode": lambda: 0, "set_sync_debug_mode": lambda mode: told.append(f"waiting: {mode}"),
        "default_generators": [generator],
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch, "Generator", lambda device: "fresh")
    return told


def test_work_is_rehearsed_freely_then_strictly_then_recorded(cuda):
    assert cuda_graphs.capture(lambda: cuda.append("work") or 7, DEVICE) == ("graph", 7)
    strictly = ["waiting: error", "work", "work", "waiting: 0"]
    assert cuda == ["work", *strictly, "recording", "work", "recorded", "noise back"]


def test_another_rehearsal_may_be_given(cuda):
    cuda_graphs.capture(lambda: cuda.append("eight steps"), DEVICE, rehearse=lambda: cuda.append("one step"))
    assert cuda.count("one step") == 3 and cuda.count("eight steps") == 1


def test_work_that_waits_is_refused_before_anything_is_recorded(cuda):
    def work():
        if "waiting: error" in cuda:
            raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(RuntimeError, match="synchronizing"):
        cuda_graphs.capture(work, DEVICE)
    assert cuda == ["waiting: error", "waiting: 0", "noise back"]


def test_a_broken_recording_leaves_a_generator_that_draws(cuda):
    def work():
        if "recording" in cuda:
            raise RuntimeError("operation failed due to a previous error during capture")

    with pytest.raises(RuntimeError, match="previous error"):
        cuda_graphs.capture(work, DEVICE)
    assert cuda[-3:] == ["recorded", "generator renewed", "noise back"]
