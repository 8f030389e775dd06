"""Work recorded as a CUDA graph, with torch left as it was: its noise goes on as before."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from genmed_core.errors import first_line

Function = Callable[..., tuple[Tensor, ...]]  # of tensors


def capture(work: Callable[[], Any], device: torch.device, *,
            rehearse: Callable[[], Any] | None = None) -> tuple[torch.cuda.CUDAGraph, Any]:
    """Record what work() launches on a CUDA device -> (the graph, what work() returned).

    It is rehearsed three times (rehearse() in its place, where given): once freely, for libraries
    and optimisers set themselves up then, and twice with every operation refused that makes the
    processor wait for the device. Such a one would break the recording itself, after which torch
    has to be mended. Tensors that the work changes are not restored. Raises RuntimeError for work
    that cannot be recorded; torch works on after it.
    """
    rehearse, noise = rehearse or work, torch.cuda.get_rng_state(device)
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    try:
        with torch.cuda.stream(side):
            rehearse()
            with _nothing_waits():
                rehearse()
                rehearse()
        torch.cuda.current_stream(device).wait_stream(side)
        try:
            with torch.cuda.graph(graph):
                result = work()
        except BaseException:
            _renew_generator(device)
            raise
    finally:
        torch.cuda.synchronize(device)
        torch.cuda.set_rng_state(noise, device)
    return graph, result


@contextmanager
def _nothing_waits() -> Iterator[None]:
    """Inside, torch raises RuntimeError at operations that wait for the device: `.item()`."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls this mode a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _renew_generator(device: torch.device) -> None:
    """Give the device's default generator a new state; the old one stays in its recording.

    Every draw after a broken recording would raise "Offset increment outside graph capture
    encountered unexpectedly".
    """
    number = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.default_generators[number].graphsafe_set_state(torch.Generator(device))


# --- a sampler's step -----------------------------------------------------------------------------


def replayed(function: Function, device: torch.device | str, *, keep: bool) -> Function:
    """A function of tensors as a CUDA graph, captured at its first call; where not, itself.

    A replay writes its results where the last one did; keep=True copies them, for who stores them.
    Where it cannot be captured, a line says so.
    """
    if not _has_graphs(device):
        print("note: a CUDA graph needs a CUDA GPU; sampling eagerly, which gives the same result.")
        return function
    replay: Function | None = None

    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        nonlocal replay
        if replay is None:
            try:
                replay = _replay_of(function, tensors)
            except Exception as err:  # whatever a student's model does that a graph cannot hold
                print(f"note: this model cannot be captured ({first_line(err)}); sampling eagerly, "
                      "which gives the same result.")
                replay = function
        results = replay(*tensors)
        return tuple(r.clone() for r in results) if keep else results

    return call


def _has_graphs(device: torch.device | str) -> bool:
    return torch.device(device).type == "cuda"


def _replay_of(function: Function, tensors: Sequence[Tensor]) -> Function:
    """Copies its arguments in, replays, returns the results.

    Random numbers that the function draws are those that it would have drawn uncaptured.
    """
    inputs = [tensor.clone() for tensor in tensors]
    graph, outputs = capture(lambda: function(*inputs), inputs[0].device)

    def replay(*tensors: Tensor) -> tuple[Tensor, ...]:
        for kept, new in zip(inputs, tensors):
            kept.copy_(new)
        graph.replay()
        return outputs

    return replay
