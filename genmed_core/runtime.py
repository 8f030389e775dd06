"""Which machine this is and how it is to be used: settings, device, threads, precision, seeds.

Every setting is an environment variable with one line in SETTINGS, by which it is read.
torch is imported inside the functions, because `startup` has to run before it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from genmed_core.errors import first_line

if TYPE_CHECKING:
    import torch


class SettingError(ValueError):
    """An environment variable holds something that cannot be used."""


def _path(text: str) -> Path:
    """A folder, the same wherever the code runs; a notebook's kernel works in `chapters/`."""
    try:
        return root() / Path(text).expanduser()
    except RuntimeError as err:  # ~name, and nobody here is called so
        raise ValueError(text) from err


def _flag(text: str) -> bool:
    return {"1": True, "true": True, "yes": True, "on": True,
            "0": False, "false": False, "no": False, "off": False}[text.lower()]


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise ValueError(text)
        return number

    return read


def _factor(text: str) -> float:
    factor = float(text)
    if not 1e-6 <= factor <= 1e6:
        raise ValueError(text)
    return factor


class Setting(NamedTuple):
    """An environment variable: how its text is read, what works, and its line in README's table."""

    read: Callable[[str], Any]
    works: str
    effect: str


MOST_THREADS = 1024
MOST_SEED = 2**63 - 1  # torch takes twice as many: room for SEED + 1
A_FOLDER = "a folder; a relative one is taken from the project's folder"
SWITCH = "1 or 0"
SETTINGS = {
    "GENMED_DATA": Setting(_path, A_FOLDER, "folder that holds `MNIST/` (default: `data/`)"),
    "GENMED_DATA_SOURCE": Setting(
        {"auto": "auto", "embedded": "embedded"}.__getitem__, "'embedded' or 'auto'",
        "`embedded` uses the drawn data even where real data lies"),
    "GENMED_OFFLINE": Setting(_flag, SWITCH, "`1` never tries to download"),
    "GENMED_PUBLIC": Setting(_flag, SWITCH, "`1` never shows a film of a patient"),
    "GENMED_BUDGET": Setting(
        _factor, "a positive number from 0.000001 to 1000000 that multiplies the training steps",
        "multiplies all training steps: `10` for better models, `0.1` for a quick look"),
    "GENMED_SEED": Setting(
        _whole_number(0, MOST_SEED), f"a whole number from 0 to {MOST_SEED}",
        "another seed for the whole chapter"),
    "GENMED_DEVICE": Setting(
        str, "'cpu', or 'cuda' on a machine with an NVIDIA GPU", "where to train (`cpu`, `cuda`)"),
    "GENMED_THREADS": Setting(
        _whole_number(1, MOST_THREADS), f"a whole number of threads from 1 to {MOST_THREADS}",
        "on how many threads; with a number here a run repeats to the last digit"),
    "GENMED_RUNS": Setting(
        _path, A_FOLDER, "where checkpoints and recorded results go (default: `runs/`)"),
}


def setting(name: str, default: Any = None) -> Any:
    """The value of an environment variable of SETTINGS; `default` where it is unset or empty.

    (Container tools hand on variables that nobody has set as empty ones.) Raises SettingError with
    the name, the value and what works.
    """
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        return SETTINGS[name].read(text)
    except (ValueError, KeyError):
        works = SETTINGS[name].works
    raise SettingError(f"{name}={text!r}: give {works}, or leave it unset.")


def threads_asked() -> int | None:
    """The number in GENMED_THREADS, None where it is not set.

    With it a run repeats to the last digit, which sums shared out over another number of threads
    do not.
    """
    return setting("GENMED_THREADS")


def threads_at_most() -> int:
    """The most threads of use to this process: torch's number, and no more than it has cores."""
    import torch

    return min(_cores(), torch.get_num_threads())


def device() -> torch.device:
    """The device to train on: GENMED_DEVICE if set, else a CUDA GPU if there is one, else CPU."""
    import torch

    wanted = setting("GENMED_DEVICE")
    if wanted is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(wanted)
        torch.zeros(1, device=chosen).item()  # "meta" has a device, and no numbers
    except (RuntimeError, AssertionError) as err:
        raise SettingError(f"GENMED_DEVICE={wanted!r} cannot be used here ({first_line(err)}): "
                           f"give {SETTINGS['GENMED_DEVICE'].works}, or leave it unset.") from err
    return chosen


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators (initialisation and sampling noise).

    seed: a whole number from 0 to MOST_SEED; ValueError beyond.
    """
    import numpy as np
    import torch

    if not 0 <= seed <= MOST_SEED:
        raise ValueError(f"seed={seed}: give a whole number from 0 to {MOST_SEED}.")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def chapter_seed(default: int) -> int:
    """The chapter's SEED, or GENMED_SEED when set: how a claim is repeated over several seeds."""
    return setting("GENMED_SEED", default)


def clock() -> float:
    """Seconds on the clock by which work is timed: this process's own, where it has one thread.

    With GENMED_THREADS=1 on a CPU that is processor time, so that what other programs take does not
    count; with more threads, whose waiting would count, or on a GPU, it is time on the wall. Only
    differences mean anything.
    """
    own = threads_asked() == 1 and device().type == "cpu"
    return time.process_time() if own else time.perf_counter()


def budget_factor() -> float:
    """The number that GENMED_BUDGET multiplies every count of training steps by (default 1)."""
    return setting("GENMED_BUDGET", 1.0)


def budget(steps: int) -> int:
    """`steps` scaled by GENMED_BUDGET, at least 1."""
    return max(1, round(steps * budget_factor()))


def sample_count(n: int, least: int = 20) -> int:
    """How many samples to draw: n, or fewer (but `least`) where GENMED_BUDGET is below 1.

    Never more: distances depend on the number of samples.
    """
    return min(n, max(least, budget(n)))


def root() -> Path:
    """The project's folder, where `chapters/` and `data/` lie.

    For a package that is installed elsewhere: the project around the working folder, and where
    there is none the working folder itself.
    """
    here, working = Path(__file__).resolve().parent.parent, Path.cwd()
    for folder in (here, working, *working.parents):
        if (folder / "chapters").is_dir() and (folder / "genmed_core").is_dir():
            return folder
    return working


def runs_dir() -> Path:
    """Folder for checkpoints and recorded results: GENMED_RUNS, else `runs/` in the project."""
    return setting("GENMED_RUNS") or root() / "runs"


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yields a path to write to; afterwards `path` holds what was written, or what it held before.

    So a full disk or an interruption leaves no file that is cut off. The folder is made. Raises
    what the writing raises, and OSError where the folder or the file cannot be written.
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


def has_fast_bf16(where: str | torch.device | None = None) -> bool:
    """True where bfloat16 matrix products are faster than float32 on a device (`device()` if None).

    So on recent GPUs (emulation, as on a T4, is slow) and CPUs with AVX512-BF16 or AMX. Found out
    once for each kind of device: torch.compile looks through functools.cache and would stop at the
    probing, so the answers are kept in a dictionary.
    """
    import torch

    kind = torch.device(device() if where is None else where).type
    if kind not in _found:
        _found[kind] = _probe_bf16(kind)
    return _found[kind]


_found: dict[str, bool] = {}


def _probe_bf16(kind: str) -> bool:
    import torch

    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    except AttributeError:  # private names: absent on some builds; bf16 is then not worth the risk
        fast = False
    return kind == "cpu" and bool(fast)


def autocast(device: str | torch.device, enabled: bool = True) -> contextlib.AbstractContextManager:
    """Context for bfloat16 matrix products and convolutions, where this device gains from it.

    Elsewhere a context that changes nothing, so the same cell runs everywhere; keep losses in
    float32.
    """
    import torch

    if enabled and has_fast_bf16(device):
        return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def readable(x: torch.Tensor) -> bool:
    """Whether x can be looked at without waiting for a device or breaking a compiled graph."""
    import torch

    return x.is_cpu and x.numel() > 0 and not torch.compiler.is_compiling()


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    """Processor cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}{'' if n == 1 else 's'}"


def machine() -> str:
    """One line that says what trains here: GPU if used, processor, threads, precision, versions."""
    import torch

    used = device()
    threads = torch.get_num_threads()
    where = f"{_cpu_name()}, {_count(_cores(), 'core')} ({_count(threads, 'thread')} used)"
    if used.type == "cuda":
        where = f"{torch.cuda.get_device_name(used)}; {where}"
    bf16 = "bf16" if has_fast_bf16(used) else "no fast bf16"
    torch_version = torch.__version__.split("+")[0]
    return f"{where}, {bf16}, torch {torch_version}, Python {platform.python_version()}"
