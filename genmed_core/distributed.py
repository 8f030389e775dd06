r"""Train a chapter on several processes, from its own cells.

    python -m torch.distributed.run --nproc-per-node 2 \
        -m genmed_core.distributed chapters/09_ldm_cxr.py

Every process runs the chapter's code cells, down to the last one that trains, on its own GPU, or
all of them on the processor. Each `TrainStep` takes its share of every batch and draws its own
noise, and `DistributedDataParallel` averages the gradients. A loss without noise takes the course
that it takes in one process with the whole batch, to rounding; one with noise takes it in
distribution. A loss that is no mean over the batch is refused (`kernels.shares.check_mean`). Only
the first process prints, saves and records; with --rest it then goes on alone through the remaining
cells.
"""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from genmed_core import chapters, runtime
from genmed_core.chapters import cells as code_cells
from genmed_core.chapters import run as run_cells
from genmed_core.kernels import shares


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started: by NCCL on a GPU each, or by gloo on processors.

    Raises RuntimeError where torchrun did not start this process, or it has no GPU of its own.
    """
    if "LOCAL_RANK" not in os.environ:
        raise RuntimeError("start this with: python -m torch.distributed.run --nproc-per-node 2 "
                           "-m genmed_core.distributed chapters/NN_name.py")
    number, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    on_gpus = runtime.device().type == "cuda"
    if on_gpus and number >= gpus:
        raise RuntimeError(f"process {number + 1} has no GPU of its own among {gpus}: use "
                           f"--nproc-per-node {gpus}, or GENMED_DEVICE=cpu to train on processors")
    if on_gpus:
        torch.cuda.set_device(number)
        os.environ["GENMED_DEVICE"] = f"cuda:{number}"
    backend = "nccl" if on_gpus else "gloo"
    torch.distributed.init_process_group(backend, timeout=timedelta(minutes=30))
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run a chapter's cells on all processes -> the chapter's namespace."""
    how = "Train a chapter on several processes; start it with `python -m torch.distributed.run`."
    parser = argparse.ArgumentParser(prog="python -m genmed_core.distributed", description=how)
    parser.add_argument("chapter", type=Path,
                        help="the source of a chapter, such as chapters/09_ldm_cxr.py")
    parser.add_argument("--rest", action="store_true",
                        help="then run the other cells, in the first process alone")
    options = parser.parse_args(arguments)
    cells = code_cells(options.chapter)
    last = chapters.last_training(cells)
    if last < 0:
        raise SystemExit(f"{options.chapter} trains nothing: no cell calls train.fit")
    namespace: dict[str, Any] = {"__name__": "chapter"}
    with contextlib.ExitStack() as stack:
        with process_group():
            first = shares.rank() == 0
            if not first:
                os.environ["GENMED_RUNS"] = stack.enter_context(tempfile.TemporaryDirectory())
                silence = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(silence))
            print(f"{shares.processes()} processes, each with its share of every batch")
            run_cells(cells[: last + 1], namespace, options.chapter.name)
        if options.rest and first:
            run_cells(cells[last + 1 :], namespace, options.chapter.name)
    return namespace


if __name__ == "__main__":
    main()
