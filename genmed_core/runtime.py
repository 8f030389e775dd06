"""Which machine this is and how it is to be used: device, threads, precision, seeds, training budget.

Environment variables read here: GENMED_DEVICE, GENMED_THREADS, GENMED_BUDGET, GENMED_SEED, GENMED_RUNS.
torch is imported inside the functions, because `configure_threads` has to run before it.
"""

import contextlib
import ctypes
import os
import platform
import random
import sys
import time
import uuid
from pathlib import Path


class SettingError(ValueError):
    """An environment variable holds something that cannot be used."""


def configure_threads():
    """Let idle OpenMP threads sleep after a moment instead of spinning; set the thread count from GENMED_THREADS.

    Spinning threads slow small models up to sixteen-fold when another process wants a core
    (`make bench` measures it). But threads that sleep at once wake too late for small kernels: ten thousand spins
    bridge the gap between two of them, and doubled the speed of chapter 8's step on two free cores (1,190 images/s
    against 510), at no cost beside a busy process. Both are read once, when torch starts its pool.
    """
    late = "torch" in sys.modules and "OMP_WAIT_POLICY" not in os.environ
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if os.environ["OMP_WAIT_POLICY"].upper() == "PASSIVE":
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # GNU's OpenMP, which torch brings on Linux
    if threads := threads_asked():
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        torch.set_num_threads(threads)
    if late:
        print("note: torch was imported before genmed_core; import genmed_core first, or small models "
              "can train several times slower on a busy machine.")


def threads_asked():
    """The number in GENMED_THREADS, None where it is not set.

    With it a run repeats to the last digit, which sums shared out over another number of threads do not.
    """
    text = os.environ.get("GENMED_THREADS")
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise SettingError(f"GENMED_THREADS={text!r}: give a whole number of threads, 1 or more.")
    return int(text)


def threads_at_most():
    """The most threads that can be of use to this process: torch's number, and no more than it has cores."""
    import torch

    return min(_cores(), torch.get_num_threads())


def keep_freed_memory():
    """Let glibc keep large freed blocks for the next tensors, instead of returning them to the system each time.

    A batch of 1,024 digits is a block of 3 MB; mapped anew for every operation, its page faults cost more than the
    arithmetic on it (`make bench`, "freed memory returned"). Does nothing where the C library is another one.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return  # another allocator, or one that its owner has set
    mallopt = ctypes.CDLL(None).mallopt
    M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
    mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the largest that glibc takes
    mallopt(M_TRIM_THRESHOLD, 1 << 30)
    mallopt(M_TOP_PAD, 64 << 20)


def device():
    """The torch device to train on: GENMED_DEVICE if set, else a CUDA GPU if there is one, else the CPU."""
    import torch

    wanted = os.environ.get("GENMED_DEVICE")
    if wanted is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(wanted)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as err:
        first_line = (str(err).splitlines() or ["not usable"])[0]
        raise SettingError(
            f"GENMED_DEVICE={wanted!r} cannot be used here ({first_line}). Use 'cpu', or 'cuda' on a machine "
            "with an NVIDIA GPU, or leave it unset."
        ) from err
    return chosen


def seed_everything(seed):
    """Seed Python's, numpy's and torch's global generators (initialisation and sampling noise)."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def chapter_seed(default):
    """The chapter's SEED, or GENMED_SEED when that is set: how a claim is repeated over several seeds."""
    text = os.environ.get("GENMED_SEED")
    if text is None:
        return default
    if not text.isdecimal():
        raise SettingError(f"GENMED_SEED={text!r}: give a whole number, 0 or more.")
    return int(text)


def clock():
    """Seconds on the clock by which work is timed: this process's own, where it has one processor thread.

    With GENMED_THREADS=1 on a CPU that is processor time, so that what other programs take does not count; with more
    threads, whose waiting would count, or on a GPU, it is time on the wall. Only differences mean anything.
    """
    own = os.environ.get("GENMED_THREADS") == "1" and device().type == "cpu"
    return time.process_time() if own else time.perf_counter()


def budget_factor():
    """The number that GENMED_BUDGET multiplies every count of training steps by (default 1)."""
    text = os.environ.get("GENMED_BUDGET", "1")
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < 1e6:
        raise SettingError(
            f"GENMED_BUDGET={text!r}: give a positive number that multiplies the training steps, "
            "such as 10 for a patient reader or 0.1 for a quick look."
        )
    return factor


def budget(steps):
    """`steps` scaled by GENMED_BUDGET, at least 1."""
    return max(1, round(steps * budget_factor()))


def sample_count(n, least=20):
    """How many samples to draw: n, or fewer (but `least`) where GENMED_BUDGET asks for a quick look only.

    Never more: distances depend on the number of samples.
    """
    return min(n, max(least, budget(n)))


def root():
    """The project's folder: where `chapters/` and `data/` lie; the working folder when installed elsewhere."""
    here = Path(__file__).resolve().parent.parent
    return here if (here / "chapters").is_dir() else Path.cwd()


def runs_dir():
    """Folder for checkpoints and recorded results: GENMED_RUNS, else `runs/` in the project."""
    return Path(os.environ.get("GENMED_RUNS") or root() / "runs")


@contextlib.contextmanager
def whole_file(path):
    """Yields a path to write to; afterwards `path` holds what was written, or, after an error, what it held before.

    So a full disk or an interruption leaves no file that is cut off. The folder is made. Raises what the writing
    raises, and OSError where the folder or the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def has_fast_bf16():
    """True where bfloat16 matrix products are faster than float32: recent GPUs, CPUs with AVX512-BF16 or AMX.

    Found out once. torch.compile looks through functools.cache and would stop at the probing, so the answer is kept
    in a dictionary.
    """
    if "bf16" not in _found:
        _found["bf16"] = _probe_bf16()
    return _found["bf16"]


_found = {}


def _probe_bf16():
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    try:
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    except AttributeError:  # private names: absent on some builds, and then bf16 is not worth the risk
        return False


def autocast(device, enabled=True):
    """Context in which matrix products and convolutions run in bfloat16, where this machine gains from it.

    Elsewhere a context that changes nothing, so the same cell runs everywhere; keep losses in float32.
    """
    import torch

    if enabled and has_fast_bf16():
        return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def _cpu_name():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores():
    """Processor cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _count(n, thing):
    return f"{n} {thing}{'' if n == 1 else 's'}"


def machine():
    """One line that says what this machine is: processor, threads, GPU, precision, versions."""
    import torch

    threads = torch.get_num_threads()
    where = f"{_cpu_name()}, {_count(_cores(), 'core')} ({_count(threads, 'thread')} used)"
    if torch.cuda.is_available():
        where = f"{torch.cuda.get_device_name()}; {where}"
    bf16 = "bf16" if has_fast_bf16() else "no fast bf16"
    return f"{where}, {bf16}, torch {torch.__version__.split('+')[0]}, Python {platform.python_version()}"
