"""The engine room of the genmed notebooks: data, training kernels, metrics, figures and sliders.

Import it before torch, as every chapter does: `runtime` sets how OpenMP threads wait, and that can
only be chosen before torch starts its thread pool.
"""

from genmed_core import runtime

runtime.notice_another_clone()
runtime.configure_threads()
runtime.keep_freed_memory()
runtime.usable_compiler_cache()

__version__ = "0.1.0"
__all__ = ["runtime"]
