"""What importing the core does, before torch: threads, memory, compiler cache, other clones."""

import ctypes
import difflib
import os
import platform
import sys
import tempfile
from pathlib import Path

from genmed_core import runtime


def notice_another_clone() -> None:
    """Say so where the environment of one clone runs the code of another: it was copied with it."""
    here, own, working = Path(__file__).resolve().parent.parent, Path(sys.prefix).parent, Path.cwd()
    a_clone = own in (working, *working.parents) and (own / "genmed_core").is_dir()
    if a_clone and own.resolve() != here:
        print(f"note: this runs the code in {here}, for which {sys.prefix} was made. "
              f"For the code in {own}, run `make renew` there, or `python -m pip install -e .`.")


def notice_misspelt_settings() -> None:
    """Name the setting that a variable such as GENMED_BUGDET was meant for: nothing reads it."""
    for name in sorted(os.environ):
        if name.upper().startswith("GENMED_") and name not in runtime.SETTINGS:
            words = {known.removeprefix("GENMED_"): known for known in runtime.SETTINGS}
            if near := difflib.get_close_matches(name.upper().removeprefix("GENMED_"), words, 1):
                print(f"note: nothing reads {name}; did you mean {words[near[0]]}?")


def configure_threads() -> None:
    """Let idle OpenMP threads sleep after a moment, not spin; GENMED_THREADS sets their number.

    Spinning threads slow small models up to sixteen-fold when another process wants a core
    (`make bench` measures it). But threads that sleep at once wake too late for small kernels:
    ten thousand spins bridge the gap between two of them, and doubled the speed of chapter 8's step
    on two free cores (1,190 images/s against 510), at no cost beside a busy process. Both are read
    once, when torch starts its pool.
    """
    chosen = os.environ.get("OMP_WAIT_POLICY") or "PASSIVE"
    late = "torch" in sys.modules and not os.environ.get("OMP_WAIT_POLICY")
    os.environ["OMP_WAIT_POLICY"] = chosen
    if chosen.upper() == "PASSIVE":
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # GNU's OpenMP: torch brings it on Linux
    if threads := runtime.threads_asked():
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        torch.set_num_threads(threads)
    if late:
        print("note: torch was imported before genmed_core; import genmed_core first, or small "
              "models can train several times slower on a busy machine.")


def keep_freed_memory() -> None:
    """Let glibc keep large freed blocks for the next tensors, instead of returning them each time.

    A batch of 1,024 digits is a block of 3 MB; mapped anew for every operation, its page faults
    cost more than the arithmetic on it (`make bench`, "freed memory returned"). So no block is
    mapped by itself, whatever its size; a threshold would not do, for the largest that glibc takes,
    32 MB, is less than a thousand digits fill in a network. Does nothing where the C library is
    another one.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return  # another allocator, or one that its owner has set
    mallopt = ctypes.CDLL(None).mallopt
    M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 1 << 30)
    mallopt(M_TOP_PAD, 64 << 20)


def usable_compiler_cache() -> None:
    """Where TORCHINDUCTOR_CACHE_DIR cannot be written, let torch keep its cache elsewhere.

    torch itself raises there, at the first optimiser, whether anything is compiled or not.
    """
    name = "TORCHINDUCTOR_CACHE_DIR"
    wanted = os.environ.get(name)
    if not wanted:
        return
    try:
        Path(wanted).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=wanted).close()
    except OSError as err:
        del os.environ[name]
        print(f"note: {name}={wanted!r} cannot be written ({err.strerror}); "
              "torch.compile keeps what it compiles in its usual temporary folder.")
