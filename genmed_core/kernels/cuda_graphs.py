"""Work recorded as a CUDA graph, with torch left as it was: its noise goes on as before."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


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
