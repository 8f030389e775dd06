"""The engine room of the genmed notebooks: data, training kernels, metrics, figures and sliders.

Import it before torch, as every chapter does: `startup` sets how OpenMP threads wait, and that can
only be chosen before torch starts its thread pool.
"""

from genmed_core import runtime, startup

startup.notice_another_clone()
startup.notice_misspelt_settings()
startup.configure_threads()
startup.keep_freed_memory()
startup.usable_compiler_cache()

__version__ = "0.1.0"
__all__ = ["runtime"]
