"""Sliders that move pictures: in JupyterLab, under a test, and on a book page with no kernel behind it.

`LatentExplorer` compiles a trained decoder into a short list of layers and one block of float16 weights, and
runs both in the browser (widgets.js).  `FrameSlider` and `GridSlider` pick one of many ready-made pictures.
All sliders are ipywidgets, tied to the picture with `jslink`, which needs no kernel.

Each widget can be asked, as a plain function, for the picture it shows: `explorer.decode(z, y)`,
`slider.frame(step)`, `grid.frame(row, column)`; `show(...)` also moves the sliders there.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import anywidget
import ipywidgets
import numpy as np
import torch
import traitlets
from PIL import Image
from torch import nn
from torch.nn import functional as F

MAX_WEIGHTS = 1_000_000  # float16, so 2 MB; a page carries them as text, a third larger
MAX_FRAME_BYTES = 1_500_000
MAX_SLIDERS = 10
HERE = Path(__file__).parent


class Program(NamedTuple):
    """A decoder ready for the browser: layers with offsets into one float16 block."""

    ops: list[dict]
    weights: np.ndarray  # float16 (n,)
    inputs: int
    shape: tuple[int, int]  # height, width


# --- compile ----------------------------------------------------------------------------------------------


class _Compiler:
    """Follows the shape of one picture through the layers and writes down what the browser has to do."""

    def __init__(self, inputs):
        self.shape = (inputs,)
        self.ops, self.blocks, self.length = [], [], 0

    def store(self, tensor):
        """Append a tensor to the weights and return where it starts."""
        flat = tensor.detach().cpu().double().reshape(-1).numpy()
        if not np.all(np.abs(flat) < 65504):  # NaN fails too
            raise ValueError("a decoder weight is not finite, or beyond float16: did training diverge?")
        start, self.length = self.length, self.length + flat.size
        if self.length > MAX_WEIGHTS:
            raise ValueError(f"the decoder has more than {MAX_WEIGHTS:,} weights, too many for one page: "
                             "show a narrower one, or precompute pictures and use FrameSlider")
        self.blocks.append(flat.astype(np.float16))
        return start

    def add(self, op, shape=None, **settings):
        self.ops.append({"op": op, **settings})
        self.shape = self.shape if shape is None else tuple(shape)

    def expect_image(self, layer):
        if len(self.shape) != 3:
            raise ValueError(f"{type(layer).__name__} needs a (channels, height, width) input but gets "
                             f"{self.shape}: put an nn.Unflatten before it")


def _linear(c, layer):
    if c.shape != (layer.in_features,):
        raise ValueError(f"{layer} gets an input of shape {c.shape}: is that the size of code and label?")
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
    c.add("linear", (layer.out_features,), w=c.store(layer.weight), b=c.store(bias),
          **{"in": layer.in_features, "out": layer.out_features})


def _convolution(c, layer):
    c.expect_image(layer)
    transposed = isinstance(layer, nn.ConvTranspose2d)
    if layer.groups != 1 or tuple(layer.dilation) != (1, 1) or layer.padding_mode != "zeros":
        raise ValueError(f"{layer}: groups, dilation and padding other than zeros do not run in the browser")
    if c.shape[0] != layer.in_channels:
        raise ValueError(f"{layer} gets {c.shape[0]} channels")
    kernel, stride, padding = map(tuple, (layer.kernel_size, layer.stride, layer.padding))
    if layer.padding in ("same", "valid"):
        padding = tuple(k // 2 for k in kernel) if layer.padding == "same" else (0, 0)
        if layer.padding == "same" and any(k % 2 == 0 for k in kernel):
            raise ValueError(f"{layer}: padding='same' needs an odd kernel here")
    sides = zip(c.shape[1:], kernel, stride, padding, layer.output_padding, strict=True)
    size = [(n - 1) * s - 2 * p + k + extra if transposed else (n + 2 * p - k) // s + 1
            for n, k, s, p, extra in sides]
    bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias
    c.add("conv_transpose" if transposed else "conv", (layer.out_channels, *size), w=c.store(layer.weight),
          b=c.store(bias), kernel=kernel, stride=stride, padding=padding, extra=layer.output_padding,
          **{"from": c.shape, "to": (layer.out_channels, *size)})


def _batch_norm(c, layer):
    """In evaluation batch normalisation is a scale and a shift per channel, from the running statistics."""
    if layer.running_mean is None:
        raise ValueError(f"{layer} keeps no running statistics: its output for one picture is undefined")
    scale = (layer.running_var + layer.eps).rsqrt() * (1 if layer.weight is None else layer.weight)
    shift = -layer.running_mean * scale + (0 if layer.bias is None else layer.bias)
    c.add("affine", w=c.store(scale), b=c.store(shift), channels=layer.num_features)


def _group_norm(c, layer):
    weight, bias = (layer.weight, layer.bias) if layer.affine else (torch.ones(layer.num_channels),
                                                                    torch.zeros(layer.num_channels))
    c.add("group_norm", w=c.store(weight), b=c.store(bias), channels=layer.num_channels,
          groups=layer.num_groups, eps=layer.eps)


def _pixel_shuffle(c, layer):
    c.expect_image(layer)
    s, (channels, height, width) = layer.upscale_factor, c.shape
    shape = (channels // s**2, height * s, width * s)
    c.add("pixel_shuffle", shape, factor=s, **{"from": c.shape, "to": shape})


def _upsample(c, layer):
    c.expect_image(layer)
    if layer.mode != "nearest":
        raise ValueError(f"{layer}: only mode='nearest' runs in the browser")
    wanted = layer.size if layer.size is not None else [n * layer.scale_factor for n in c.shape[1:]]
    wanted = [wanted] * 2 if isinstance(wanted, int) else [int(n) for n in wanted]
    factor = [after // before for after, before in zip(wanted, c.shape[1:], strict=True)]
    if [f * n for f, n in zip(factor, c.shape[1:], strict=True)] != wanted:
        raise ValueError(f"{layer}: the enlargement has to be a whole number")
    shape = (c.shape[0], *wanted)
    c.add("upsample", shape, factor=factor, **{"from": c.shape, "to": shape})


def _reshape(c, layer):
    """Values stay where they are in memory: only the shape moves on."""
    dim = layer.start_dim if isinstance(layer, nn.Flatten) else layer.dim
    if dim != 1:
        raise ValueError(f"{layer}: only dimension 1 can be flattened or unflattened")
    # A meta tensor lets torch work out a -1 in the sizes.
    c.shape = tuple(layer(torch.empty(1, *c.shape, device="meta")).shape[1:])


def _pass(c, layer):
    """Dropout and Identity do nothing in evaluation."""


def _pointwise(name, **settings):
    return lambda c, layer: c.add(name, **{k: getattr(layer, v) for k, v in settings.items()})


COMPILERS = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.GroupNorm: _group_norm,
    nn.PixelShuffle: _pixel_shuffle,
    nn.Upsample: _upsample,
    nn.UpsamplingNearest2d: _upsample,
    nn.Flatten: _reshape,
    nn.Unflatten: _reshape,
    nn.Dropout: _pass,
    nn.Dropout2d: _pass,
    nn.Identity: _pass,
    nn.Tanh: _pointwise("tanh"),
    nn.Sigmoid: _pointwise("sigmoid"),
    nn.ReLU: _pointwise("relu"),
    nn.LeakyReLU: _pointwise("leaky_relu", slope="negative_slope"),
    nn.SiLU: _pointwise("silu"),
    nn.GELU: lambda c, layer: c.add("gelu" if layer.approximate == "none" else "gelu_tanh"),
}


def _flatten(decoder):
    """A decoder's layers in order, out of nested nn.Sequential and lists."""
    if isinstance(decoder, (nn.Sequential, nn.ModuleList, list, tuple)):
        return [layer for child in decoder for layer in _flatten(child)]
    return [decoder]


def compile_decoder(decoder, *, inputs=None, output="auto"):
    """Turn a trained decoder into a `Program` that runs in the browser.

    decoder: nn.Sequential (nested or not) or list of layers, from a vector (B, inputs) to one grey picture,
    (B, H*W) of a square picture or (B, 1, H, W).  output: "logits" (a sigmoid is applied), "tanh" (-1..1 is
    mapped to 0..1), "unit" (already 0..1); "auto" reads it off the last layer.  Layers run as in evaluation.
    Raises ValueError on a layer, a shape or a size that the browser cannot take, and says what it can.
    """
    layers = _flatten(decoder)
    if inputs is None and not isinstance(layers[0], nn.Linear):
        raise ValueError("the decoder does not begin with nn.Linear: pass z0, to give the size of the code")
    inputs = layers[0].in_features if inputs is None else inputs
    c = _Compiler(inputs)
    for layer in layers:
        if type(layer) not in COMPILERS:
            known = ", ".join(kind.__name__ for kind in COMPILERS)
            raise ValueError(f"{type(layer).__name__} does not run in the browser; these do: {known}")
        COMPILERS[type(layer)](c, layer)
    if output == "auto":
        output = {nn.Sigmoid: "unit", nn.Tanh: "tanh"}.get(type(layers[-1]), "logits")
    if output not in ("logits", "tanh", "unit"):
        raise ValueError(f"output must be 'auto', 'logits', 'tanh' or 'unit', not {output!r}")
    if output != "unit":
        c.add("sigmoid" if output == "logits" else "half")
    weights = np.concatenate(c.blocks) if c.blocks else np.zeros(0, np.float16)
    return Program(c.ops, weights, inputs, _picture_shape(c.shape))


def _picture_shape(shape):
    side = round(shape[0] ** 0.5)
    if len(shape) == 1 and side**2 == shape[0]:
        return side, side
    if len(shape) == 3 and shape[0] == 1:
        return shape[1], shape[2]
    raise ValueError(f"the decoder ends in shape {shape}, not in one grey picture (1, height, width)")


# --- the program's twin in Python -------------------------------------------------------------------------


def _weight(W, op, *shape):
    return W[op["w"]:op["w"] + int(np.prod(shape))].reshape(shape)


def _bias(W, op, n):
    return W[op["b"]:op["b"] + n]


def _twin_conv(op, W, x):
    x = x.reshape(-1, *op["from"])
    out, into = op["to"][0], op["from"][0]
    settings = {"stride": op["stride"], "padding": op["padding"], "bias": _bias(W, op, out)}
    if op["op"] == "conv":
        return F.conv2d(x, _weight(W, op, out, into, *op["kernel"]), **settings)
    weight = _weight(W, op, into, out, *op["kernel"])
    return F.conv_transpose2d(x, weight, **settings, output_padding=op["extra"])


def _twin_norm(op, W, x):
    x, bias = x.reshape(len(x), op["channels"], -1), _bias(W, op, op["channels"])
    if op["op"] == "group_norm":
        return F.group_norm(x, op["groups"], _weight(W, op, op["channels"]), bias, op["eps"])
    return x * _weight(W, op, op["channels"], 1) + bias[:, None]


TWINS = {
    "linear": lambda op, W, x: F.linear(
        x.flatten(1), _weight(W, op, op["out"], op["in"]), _bias(W, op, op["out"])),
    "conv": _twin_conv,
    "conv_transpose": _twin_conv,
    "affine": _twin_norm,
    "group_norm": _twin_norm,
    "pixel_shuffle": lambda op, W, x: F.pixel_shuffle(x.reshape(-1, *op["from"]), op["factor"]),
    "upsample": lambda op, W, x: x.reshape(-1, *op["from"]).repeat_interleave(op["factor"][0], 2)
                                  .repeat_interleave(op["factor"][1], 3),
    "tanh": lambda op, W, x: x.tanh(),
    "sigmoid": lambda op, W, x: x.sigmoid(),
    "relu": lambda op, W, x: x.relu(),
    "leaky_relu": lambda op, W, x: F.leaky_relu(x, op["slope"]),
    "silu": lambda op, W, x: F.silu(x),
    "gelu": lambda op, W, x: F.gelu(x),
    "gelu_tanh": lambda op, W, x: F.gelu(x, approximate="tanh"),
    "half": lambda op, W, x: 0.5 * (x + 1),
}


def run_program(program, x):
    """What the browser computes, in torch: x (B, inputs) -> pictures (B, H, W) in [0, 1]."""
    W = torch.from_numpy(program.weights.astype(np.float32))
    x = x.float()
    with torch.no_grad():
        for op in program.ops:
            x = TWINS[op["op"]](op, W, x)
    return x.reshape(-1, *program.shape).clamp(0, 1)


# --- the widgets ------------------------------------------------------------------------------------------


class _Picture(anywidget.AnyWidget):
    """What both kinds of picture have in common: the file that draws them."""

    _esm = (HERE / "widgets.js").read_text(encoding="utf-8")
    _css = (HERE / "widgets.css").read_text(encoding="utf-8")
    view = traitlets.Unicode().tag(sync=True)


class DecoderPicture(_Picture):
    """The picture of a LatentExplorer.  Its traits z0, z1, ... are what the sliders are linked to."""

    view = traitlets.Unicode("decoder").tag(sync=True)
    ops = traitlets.List().tag(sync=True)
    weights = traitlets.Bytes().tag(sync=True)
    shape = traitlets.List().tag(sync=True)
    base = traitlets.List().tag(sync=True)
    dims = traitlets.List().tag(sync=True)
    limits = traitlets.List().tag(sync=True)
    gaussian = traitlets.Bool(True).tag(sync=True)
    embedding = traitlets.List().tag(sync=True)
    how = traitlets.Unicode("add").tag(sync=True)
    label = traitlets.Int(0).tag(sync=True)
    classes = traitlets.List().tag(sync=True)
    size = traitlets.Int(168).tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)

    def __init__(self, *, base, dims, **settings):
        start = {f"z{i}": float(base[dim]) for i, dim in enumerate(dims)}
        self.add_traits(**{name: traitlets.Float(value).tag(sync=True) for name, value in start.items()})
        super().__init__(base=base, dims=dims, **settings, **start)


class FramePicture(_Picture):
    """The picture of a FrameSlider or GridSlider: frame number stride * index + offset."""

    view = traitlets.Unicode("frames").tag(sync=True)
    frames = traitlets.List().tag(sync=True)
    columns = traitlets.Int(1).tag(sync=True)
    captions = traitlets.List().tag(sync=True)
    alts = traitlets.List().tag(sync=True)
    width = traitlets.Int(168).tag(sync=True)
    stride = traitlets.Int(1).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)
    offset = traitlets.Int(0).tag(sync=True)


def _panel(picture, controls, caption):
    """Picture and controls side by side, one below the other on a narrow screen."""
    if caption:
        note = ipywidgets.Label(caption)
        note.add_class("genmed-caption")
        controls = [*controls, note]
    column = ipywidgets.VBox(controls, layout=ipywidgets.Layout(flex="1 1 240px", max_width="420px"))
    return [picture, column], ipywidgets.Layout(display="flex", flex_flow="row wrap")


def _wide(descriptions):
    """The looks of sliders that stand together: labels of one width, so that their tracks line up."""
    width = f"{max(map(len, descriptions), default=0) * 0.62 + 0.6:.1f}em"
    return {"style": {"description_width": width}, "layout": {"width": "100%"}}


def _choice(names, description, looks):
    """A slider over names."""
    options = [(str(name), i) for i, name in enumerate(names)]
    return ipywidgets.SelectionSlider(options=options, description=description, **looks)


class LatentExplorer(ipywidgets.Box):
    """Sliders over the coordinates of z, beside the picture that the trained decoder makes of them.

    decoder: nn.Sequential or list of layers from (B, d) to one grey picture; see `compile_decoder` for
    `output` and for the layers that run (at most MAX_WEIGHTS weights, float16).  z0 (d,): where to start,
    default 0.  z_range: sliders run from -z_range to z_range, or a pair (low, high).  sliders: which
    coordinates get one, default the first MAX_SLIDERS; `names` labels them, default z[0], z[1], ...  Sliders
    move by `step`, and the coordinates they hold are rounded to it: what they say is what is drawn.
    A conditional decoder takes a label y: `embedding` (K, d') is added to z (join="add") or set behind it
    ("concat"); with n_classes or class_names alone the label goes in as a one-hot vector, set behind z.
    """

    def __init__(self, decoder, *, z0=None, z_range=3.0, n_classes=None, class_names=None, embedding=None,
                 join=None, label=0, size=168, sliders=None, names=None, step=0.05, output="auto", caption="",
                 alt="Picture decoded from"):
        embedding, class_names, join = _labels(n_classes, class_names, embedding, join)
        extra = embedding.shape[1] if embedding is not None and join == "concat" else 0
        start = None if z0 is None else [float(v) for v in torch.as_tensor(z0).flatten()]
        inputs = None if start is None else len(start) + extra
        self.program = compile_decoder(decoder, inputs=inputs, output=output)
        start = [0.0] * (self.program.inputs - extra) if start is None else start
        if embedding is not None and join == "add" and embedding.shape[1] != len(start):
            raise ValueError(f"an embedding of width {embedding.shape[1]} cannot be added to a code of "
                             f"{len(start)}: use join='concat'")
        low, high = (-z_range, z_range) if np.isscalar(z_range) else z_range
        dims = list(range(min(len(start), MAX_SLIDERS)) if sliders is None else sliders)
        names = [f"z[{dim}]" for dim in dims] if names is None else list(names)
        self.grid = float(low), float(step)
        start = self._on_grid(start, dims)
        self.picture = DecoderPicture(
            base=start, dims=dims, ops=self.program.ops, shape=list(self.program.shape),
            weights=self.program.weights.astype("<f2").tobytes(), limits=[float(low), float(high), float(step)],
            gaussian=bool(np.isscalar(z_range)), embedding=[] if embedding is None else embedding.tolist(),
            how=join, label=int(label), classes=class_names, size=size, alt=alt)
        looks = _wide([*names, "class"] if class_names else names)
        self.sliders = [
            ipywidgets.FloatSlider(value=start[dim], min=min(low, start[dim]), max=max(high, start[dim]),
                                   step=step, description=name, readout_format=".2f", **looks)
            for dim, name in zip(dims, names, strict=True)]
        links = [((slider, "value"), (self.picture, f"z{i}")) for i, slider in enumerate(self.sliders)]
        self.class_slider = None
        if class_names:
            self.class_slider = _choice(class_names, "class", looks)
            self.class_slider.index = int(label)
            links.append(((self.class_slider, "index"), (self.picture, "label")))
        self.links = [ipywidgets.jslink(*link) for link in links]
        children, layout = _panel(self.picture, [*filter(None, [self.class_slider]), *self.sliders], caption)
        super().__init__(children, layout=layout)
        self.add_class("genmed-panel")

    @classmethod
    def between(cls, decoder, a, b, *, name="t", **settings):
        """One slider that walks in a straight line from code a (t = 0) to code b (t = 1)."""
        a, b = (torch.as_tensor(code).detach().cpu().flatten().float() for code in (a, b))
        line = nn.Linear(1, len(a))
        with torch.no_grad():
            line.weight.copy_((b - a)[:, None])
            line.bias.copy_(a)
        return cls([line, decoder], z0=[0.0], z_range=(0.0, 1.0), names=[name], step=0.01, **settings)

    def _on_grid(self, z, dims):
        """Round the coordinates that have sliders to places where a slider can stand."""
        low, step = self.grid
        return [round(low + round((v - low) / step) * step, 6) if i in dims else v for i, v in enumerate(z)]

    @property
    def z(self):
        """The code now shown, (d,)."""
        z = torch.tensor(self.picture.base)
        for slider, dim in zip(self.sliders, self.picture.dims, strict=True):
            z[dim] = slider.value
        return z

    @property
    def y(self):
        """The label now shown, or None for a decoder without one."""
        return None if self.class_slider is None else self.class_slider.index

    def decode(self, z=None, y=None):
        """What the browser draws: z (d,) or (B, d), default the sliders' -> (H, W) or (B, H, W) in [0, 1]."""
        z = self.z if z is None else torch.as_tensor(z, dtype=torch.float32).detach().cpu()
        y = (self.y or 0) if y is None else y
        codes = z.reshape(-1, len(self.picture.base))
        if self.picture.embedding:
            vector = torch.tensor(self.picture.embedding)[torch.as_tensor(y)].expand(len(codes), -1)
            codes = codes + vector if self.picture.how == "add" else torch.cat([codes, vector], 1)
        pictures = run_program(self.program, codes)
        return pictures[0] if z.dim() == 1 else pictures

    def show(self, z=None, y=None):
        """Move the sliders to code z (d,), to the nearest step, and label y; returns the picture there."""
        if y is not None and self.class_slider is not None:
            self.class_slider.index = self.picture.label = int(y)
        if z is not None:
            z = self._on_grid([float(v) for v in torch.as_tensor(z).flatten()], self.picture.dims)
            self.picture.base = z
            for i, (slider, dim) in enumerate(zip(self.sliders, self.picture.dims, strict=True)):
                slider.value = z[dim]
                setattr(self.picture, f"z{i}", slider.value)  # the link itself runs in the browser only
        return self.decode()


def _labels(n_classes, class_names, embedding, join):
    """Settle what the label slider shows and what the label adds to the code: (K, d') or None."""
    if isinstance(embedding, nn.Embedding):
        embedding = embedding.weight
    if embedding is None and not (n_classes or class_names):
        return None, [], "add"
    if embedding is None:
        embedding, join = torch.eye(n_classes or len(class_names)), join or "concat"
    embedding, join = torch.as_tensor(embedding).detach().cpu().float(), join or "add"
    if join not in ("add", "concat"):
        raise ValueError(f"join must be 'add' or 'concat', not {join!r}")
    class_names = [str(name) for name in (class_names or range(len(embedding)))]
    if len(class_names) != len(embedding):
        raise ValueError(f"{len(class_names)} class names for an embedding of {len(embedding)} classes")
    return embedding, class_names, join


def _png(frame):
    """PNG bytes of one picture: (H, W), (1, H, W) or (H, W, 3), uint8 or float in [0, 1] (clipped)."""
    if isinstance(frame, bytes):
        return frame
    if isinstance(frame, torch.Tensor):
        frame = frame.detach().cpu().float().numpy() if frame.is_floating_point() else frame.cpu().numpy()
    frame = np.asarray(frame)
    if frame.ndim == 3 and frame.shape[0] == 1:
        frame = frame[0]
    if frame.ndim != 2 and frame.shape[2:] != (3,):
        raise ValueError(f"a frame must be (H, W), (1, H, W) or (H, W, 3), not {frame.shape}")
    if frame.dtype != np.uint8:
        if not np.isfinite(frame).all():
            raise ValueError("a frame holds NaN or infinity")
        frame = np.round(255 * np.clip(frame.astype(np.float64), 0, 1)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG", optimize=True)
    return file.getvalue()


def _encode(frames, captions):
    """Frames, or rows of frames to show side by side -> PNGs in order, and how many make one step."""
    rows = [list(frame) if isinstance(frame, (list, tuple)) else [frame] for frame in frames]
    if not rows or len({len(row) for row in rows}) != 1:
        raise ValueError("frames must not be empty, and every step must have the same number of pictures")
    if captions and len(captions) != len(rows[0]):
        raise ValueError(f"{len(captions)} captions for {len(rows[0])} pictures side by side")
    pngs = [_png(frame) for row in rows for frame in row]
    size = sum(map(len, pngs))
    if size > MAX_FRAME_BYTES:
        raise ValueError(f"{len(pngs)} frames take {size / 1e6:.1f} MB, and one widget may add "
                         f"{MAX_FRAME_BYTES / 1e6} MB to a page: keep fewer frames, or make them smaller")
    return pngs, len(rows[0])


class _Frames(ipywidgets.Box):
    """What FrameSlider and GridSlider share: a FramePicture and a way to read its frames back."""

    def _build(self, frames, captions, alts, width, controls, links, caption, stride=1):
        pngs, columns = frames
        self.picture = FramePicture(frames=pngs, columns=columns, captions=[str(c) for c in captions or []],
                                    alts=alts, width=width, stride=stride)
        for slider, trait in links:
            setattr(self.picture, trait, slider.index if hasattr(slider, "index") else slider.value)
        self.links += [ipywidgets.jslink((slider, "index" if hasattr(slider, "index") else "value"),
                                         (self.picture, trait)) for slider, trait in links]
        children, layout = _panel(self.picture, controls, caption)
        super().__init__(children, layout=layout)
        self.add_class("genmed-panel")

    @property
    def nbytes(self):
        """How much the frames add to a page, before its base64."""
        return sum(map(len, self.picture.frames))

    def _at(self, place):
        """The picture at one place, uint8; a list of them where several stand side by side."""
        columns = self.picture.columns
        pngs = self.picture.frames[place * columns:(place + 1) * columns]
        pictures = [np.array(Image.open(io.BytesIO(png))) for png in pngs]
        return pictures[0] if columns == 1 else pictures


class FrameSlider(_Frames):
    """A slider, with Play, over ready-made pictures: noise steps, a path of samples, a run for each beta.

    frames: one (H, W), (1, H, W) or (H, W, 3) picture a step, uint8 or float in [0, 1] (clipped), or PNG
    bytes; or a list of such pictures a step, shown side by side under `captions`.  labels: what the slider
    says at each step, default its number.  interval in ms; width of one picture in px.
    ValueError where the frames take over MAX_FRAME_BYTES as PNG.
    """

    def __init__(self, frames, *, labels=None, description="step", start=0, play=True, interval=150,
                 width=168, captions=None, caption=""):
        pngs = _encode(frames, captions)
        steps = len(pngs[0]) // pngs[1]
        labels = [str(label) for label in (range(steps) if labels is None else labels)]
        if len(labels) != steps:
            raise ValueError(f"{len(labels)} labels for {steps} frames")
        self.slider = _choice(labels, description, _wide([description]))
        self.slider.index = range(steps)[start]
        self.links, controls = [], [self.slider]
        self.play = None
        if play:
            self.play = ipywidgets.Play(value=self.slider.index, min=0, max=steps - 1, interval=interval)
            self.links.append(ipywidgets.jslink((self.play, "value"), (self.slider, "index")))
            controls = [self.slider, self.play]
        alts = [f"{description} {label}" for label in labels]
        self._build(pngs, captions, alts, width, controls, [(self.slider, "index")], caption)

    def frame(self, step=None):
        """The picture at a step, default the slider's, as uint8; a list where several stand side by side."""
        return self._at(self.slider.index if step is None else range(len(self.slider.options))[step])

    def show(self, step):
        """Move the slider to a step; returns the picture there."""
        self.slider.index = self.picture.index = range(len(self.slider.options))[step]
        return self.frame()


class GridSlider(_Frames):
    """Two sliders that pick one picture out of a table: class by style, beta by coordinate.

    frames: R rows of C pictures, each as in FrameSlider, and with its budget.  rows, columns: what the two
    sliders say at each place; descriptions: the sliders' names.
    """

    def __init__(self, frames, *, rows=None, columns=None, descriptions=("row", "column"), start=(0, 0),
                 width=168, caption=""):
        table = [list(row) for row in frames]
        if not table or len({len(row) for row in table}) != 1:
            raise ValueError("frames must be rows of equal length, and at least one")
        pngs = _encode([frame for row in table for frame in row], None)
        names = [[str(v) for v in (range(n) if given is None else given)]
                 for given, n in ((rows, len(table)), (columns, len(table[0])))]
        given, wanted = [len(axis) for axis in names], [len(table), len(table[0])]
        if given != wanted:
            raise ValueError(f"names for {given} rows and columns, but frames for {wanted}")
        looks = _wide(descriptions)
        self.sliders = [_choice(axis, name, looks) for axis, name in zip(names, descriptions, strict=True)]
        for slider, place in zip(self.sliders, start, strict=True):
            slider.index = range(len(slider.options))[place]
        alts = [f"{descriptions[0]} {r}, {descriptions[1]} {c}" for r in names[0] for c in names[1]]
        self.links = []
        self._build(pngs, None, alts, width, self.sliders,
                    list(zip(self.sliders, ("index", "offset"), strict=True)), caption, stride=len(table[0]))

    def frame(self, row=None, column=None):
        """The picture in a row and column, default the sliders', as uint8 (H, W)."""
        row, column = (slider.index if place is None else range(len(slider.options))[place]
                       for slider, place in zip(self.sliders, (row, column), strict=True))
        return self._at(row * self.picture.stride + column)

    def show(self, row, column):
        """Move both sliders; returns the picture there."""
        for slider, place in zip(self.sliders, (row, column), strict=True):
            slider.index = range(len(slider.options))[place]
        self.picture.index, self.picture.offset = (slider.index for slider in self.sliders)
        return self.frame()
