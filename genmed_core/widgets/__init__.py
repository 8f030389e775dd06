"""Sliders that move pictures: in JupyterLab, under a test, and on a book page with no kernel.

`LatentExplorer` compiles a trained decoder into a short list of operations and one block of float16
weights, and runs both in the browser.  `FrameSlider` and `GridSlider` pick one of many ready-made
pictures.  Each is one widget, whose sliders are the browser's own, and each can be asked, as a
plain function, for the picture it shows: `explorer.decode(z, y)`, `slider.frame(step)`,
`grid.frame(row, column)`; `show(...)` also moves the sliders there.

panel.py holds what they share, and widgets.js draws them.  A new slider kind is a subclass of
`Panel`, or of `Frames` where the pictures are ready-made.  layers.py lists the layers that run in
the browser: a new one is one `add_layer` there and one entry of OPS in widgets.js.
"""

from genmed_core.widgets import layers as _layers  # noqa: F401  (fills the compiler's table)
from genmed_core.widgets.compile import (
    COMPILERS,
    MAX_WEIGHTS,
    Program,
    add_layer,
    compile_decoder,
)
from genmed_core.widgets.explorer import MAX_SLIDERS, LatentExplorer
from genmed_core.widgets.frames import MAX_FRAME_BYTES, Frames, FrameSlider, GridSlider
from genmed_core.widgets.panel import HERE, Panel, Slider
from genmed_core.widgets.question import Question
from genmed_core.widgets.twin import TWINS, run_program

__all__ = [
    "COMPILERS", "HERE", "MAX_FRAME_BYTES", "MAX_SLIDERS", "MAX_WEIGHTS", "TWINS", "FrameSlider",
    "Frames", "GridSlider", "LatentExplorer", "Panel", "Program", "Question", "Slider", "add_layer",
    "compile_decoder", "run_program",
]
