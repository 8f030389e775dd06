"""Sliders that move pictures: in JupyterLab, under a test, and on a book page with no kernel.

`LatentExplorer` compiles a trained decoder into a short list of operations and one block of
weights, and runs both in the browser.  `FrameSlider` and `GridSlider` pick one of many ready-made
pictures.  `DiffusionExplorer` draws by a diffusion model, whose network runs in the browser too.
`Probe` shows maps, and tells their numbers under the pointer.
Each is one widget, whose sliders are the browser's own, and each can be asked, as a
plain function, for the picture it shows: `explorer.decode(z, y)`, `slider.frame(step)`,
`grid.frame(row, column)`; `show(...)` also moves the sliders there.

panel.py holds what they share, and widgets.js draws them.  A new slider kind is a subclass of
`Panel`, or of `Frames` where the pictures are ready-made.  Where every control stands is in the
page's address (address.js), so that "Copy link" gives a link that leads there.

The engine: compile.py records what a network computes, `compile_network(unet, x=..., t=..., y=...)`
for any of the chapters' networks; engine.js runs the program in a worker, twin.py in torch;
operations.py lists what there is.  A new operation is one `add_operation` there and one entry of
OPS in engine.js.
"""

from genmed_core.widgets.compile import (
    MAX_BYTES,
    InFull,
    Program,
    compile_decoder,
    compile_network,
    rounded,
)
from genmed_core.widgets.denoising import DiffusionExplorer
from genmed_core.widgets.earth import Earth
from genmed_core.widgets.explorer import ENGINE, MAX_SLIDERS, LatentExplorer
from genmed_core.widgets.frames import MAX_FRAME_BYTES, Frames, FrameSlider, GridSlider
from genmed_core.widgets.laboratory import Laboratory
from genmed_core.widgets.operations import LOWERINGS, TWINS, add_operation
from genmed_core.widgets.pad import Pad
from genmed_core.widgets.panel import HERE, Panel, Slider
from genmed_core.widgets.posterior import Posterior
from genmed_core.widgets.probe import Probe
from genmed_core.widgets.question import Question
from genmed_core.widgets.readings import Bound, Copy, Hand, Reader, Score

__all__ = [
    "Bound", "Copy", "Hand", "Pad", "Reader", "Score",
    "DiffusionExplorer",
    "ENGINE", "HERE", "LOWERINGS", "MAX_BYTES", "MAX_FRAME_BYTES", "MAX_SLIDERS", "TWINS",
    "Earth", "FrameSlider", "Frames", "GridSlider", "InFull", "Laboratory", "LatentExplorer",
    "Panel", "Posterior", "Probe", "Program", "Question", "Slider", "add_operation",
    "compile_decoder", "compile_network", "rounded",
]
