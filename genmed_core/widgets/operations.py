"""What runs in the browser: how each operation of torch is written down, and its twin in torch.

LOWERINGS maps the name of an ATen operation, as a network calls it, to a function that writes it
down as one or two of the engine's own.  TWINS computes those in torch; OPS in engine.js does the
same in the browser.  A network of other operations needs one `add_operation` here and one entry of
OPS there.

The batch is always one image: the engine runs an operation for one image after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Number
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from genmed_core.widgets.compile import Recorder

HUGE = 1e38  # where a clamp has no end
LOWERINGS: dict[str, Callable] = {}
TWINS: dict[str, Callable[..., Tensor]] = {}


def add_operation(*names: str, lower: Callable[..., None], **twins: Callable[..., Tensor]) -> None:
    """Teach the compiler an operation.

    names: of the ATen operation, as in torch.ops.aten; lower(recorder, out, *its arguments) writes
    it down by recorder.emit.  Each further keyword names an operation of the engine and gives its
    twin, twin(op, *values) -> value, where op holds the settings that emit was given.
    """
    LOWERINGS.update(dict.fromkeys(names, lower))
    TWINS.update(twins)


# --- products -----------------------------------------------------------------------------------


def _linear(r: Recorder, out: Tensor, x: Tensor, w: Tensor, b: Tensor | None = None) -> None:
    """x (..., I) and a weight (O, I) of the network -> (..., O)."""
    if r.depends(w):
        r.emit("matmul", [x, r.moved(w, w.t())], out, batch=1)
    else:
        r.emit("linear", [x, w, *([] if b is None else [b])], out)


def _mm(r: Recorder, out: Tensor, a: Tensor, b: Tensor) -> None:
    if r.depends(b):
        r.emit("matmul", [a, b], out, batch=1)
    else:
        _linear(r, out, a, r.transposed(b))


def _addmm(r: Recorder, out: Tensor, bias: Tensor, a: Tensor, b: Tensor, **factors: Any) -> None:
    if factors or r.depends(b) or r.depends(bias):
        raise NotImplementedError
    _linear(r, out, a, r.transposed(b), bias)


def _bmm(r: Recorder, out: Tensor, a: Tensor, b: Tensor) -> None:
    r.emit("matmul", [a, b], out, batch=len(a))


add_operation("linear", lower=_linear, linear=lambda op, x, w, b=None: F.linear(x, w, b))
add_operation("mm", lower=_mm)
add_operation("addmm", lower=_addmm)
add_operation("bmm", lower=_bmm, matmul=lambda op, a, b: a @ b)


def _convolution(r: Recorder, out: Tensor, x: Tensor, w: Tensor, b: Tensor | None,
                 stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
                 transposed: bool, extra: Sequence[int], groups: int) -> None:
    if x.ndim != 4 or r.depends(w) or (transposed and (groups > 1 or max(dilation) > 1)):
        raise NotImplementedError
    ins = [x, w, *([] if b is None else [b])]
    r.emit("conv_transpose" if transposed else "conv", ins, out, stride=list(stride),
           padding=list(padding), dilation=list(dilation), groups=groups, extra=list(extra))


add_operation(
    "convolution", lower=_convolution,
    conv=lambda op, x, w, b=None: F.conv2d(x, w, b, op["stride"], op["padding"], op["dilation"],
                                           op["groups"]),
    conv_transpose=lambda op, x, w, b=None: F.conv_transpose2d(
        x, w, b, op["stride"], op["padding"], op["extra"]))


def _pool(kind: str) -> Callable:
    def lower(r: Recorder, out: Any, x: Tensor, kernel: Sequence[int], stride: Sequence[int] = (),
              padding: Sequence[int] = (0, 0), *rest: Any) -> None:
        out = out[0] if isinstance(out, tuple) else out
        counts_edge = kind == "max" or max(padding) == 0
        if not counts_edge or _pooled(x, kernel, stride or kernel, padding) != out.shape[2:]:
            raise NotImplementedError
        r.emit("pool", [x], out, kind=kind, kernel=list(kernel), stride=list(stride or kernel),
               padding=list(padding))
    return lower


def _pooled(x: Tensor, kernel: Sequence[int], stride: Sequence[int],
            padding: Sequence[int]) -> tuple[int, ...]:
    """The picture that a pooling leaves, without dilation or rounding up."""
    sides = zip(x.shape[2:], kernel, stride, padding)
    return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in sides)


def _adaptive(r: Recorder, out: Tensor, x: Tensor, size: Sequence[int]) -> None:
    if any(n % m for n, m in zip(x.shape[2:], size)):
        raise NotImplementedError
    _pool("mean")(r, out, x, [n // m for n, m in zip(x.shape[2:], size)])


def _pool_twin(op: dict, x: Tensor) -> Tensor:
    pool = F.max_pool2d if op["kind"] == "max" else F.avg_pool2d
    return pool(x, op["kernel"], op["stride"], op["padding"])


add_operation("max_pool2d_with_indices", lower=_pool("max"), pool=_pool_twin)
add_operation("avg_pool2d", lower=_pool("mean"))
add_operation("_adaptive_avg_pool2d", lower=_adaptive)

# --- normalisation ------------------------------------------------------------------------------


def _group_norm(r: Recorder, out: Any, x: Tensor, w: Tensor | None, b: Tensor | None, N: int,
                C: int, HW: int, groups: int, eps: float) -> None:
    _normalise(r, out[0], x, w, b, n=C // groups * HW, per=HW, eps=eps)


def _layer_norm(r: Recorder, out: Any, x: Tensor, shape: Sequence[int], w: Tensor | None,
                b: Tensor | None, eps: float) -> None:
    _normalise(r, out[0], x, w, b, n=math.prod(shape), per=1, eps=eps)


def _normalise(r: Recorder, out: Tensor, x: Tensor, w: Tensor | None, b: Tensor | None, *, n: int,
               per: int, eps: float) -> None:
    """Each n values to mean 0 and spread 1; then `per` values after another share w and b."""
    ins = [x, w, b]
    if w is None and b is None:
        ins = [x]
    elif w is None or b is None:
        raise NotImplementedError
    r.emit("normalise", ins, out, n=n, per=per, eps=eps)


def _normalise_twin(op: dict, x: Tensor, w: Tensor | None = None,
                    b: Tensor | None = None) -> Tensor:
    y = x.reshape(-1, op["n"])
    y = F.layer_norm(y, y.shape[1:], eps=op["eps"])
    return y if w is None else _affine_twin(op, y, w, b)


def _batch_norm(r: Recorder, out: Any, x: Tensor, w: Tensor | None, b: Tensor | None,
                mean: Tensor | None, var: Tensor | None, training: bool, momentum: float,
                eps: float) -> None:
    """In evaluation, a scale and a shift for each channel; InstanceNorm2d measures its own."""
    pixels = math.prod(x.shape[2:])
    if training:
        _normalise(r, out[0], x, w, b, n=pixels, per=pixels, eps=eps)
        return
    scale = (var.double() + eps).rsqrt() * (1 if w is None else w.double())
    shift = (0 if b is None else b.double()) - mean.double() * scale
    r.emit("affine", [x, scale.float(), shift.float()], out[0], per=pixels)


def _affine_twin(op: dict, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    x = x.reshape(-1, w.numel(), op["per"])
    return x * w.reshape(-1, 1) + b.reshape(-1, 1)


add_operation("native_group_norm", lower=_group_norm, normalise=_normalise_twin)
add_operation("native_layer_norm", lower=_layer_norm)
add_operation("native_batch_norm", lower=_batch_norm, affine=_affine_twin)

# --- where the values go ------------------------------------------------------------------------


def _rearrange(function: Callable[..., Tensor]) -> Callable:
    """A lowering for an operation that only moves values: it is tried out on a tensor of places."""
    def lower(r: Recorder, out: Any, x: Tensor, *args: Any, **kwargs: Any) -> None:
        kwargs.pop("memory_format", None)
        moved = function(r.places(x), *args, **kwargs)
        several = isinstance(moved, (list, tuple))
        for one, result in zip(moved if several else [moved], out if several else [out]):
            r.rearranged(x, one, result)
    return lower


ATEN = torch.ops.aten
for _name in ("view", "_unsafe_view", "permute", "transpose", "t", "expand", "unsqueeze", "squeeze",
              "select", "slice", "split", "split_with_sizes", "unbind", "unfold", "alias",
              "detach"):
    add_operation(_name, lower=_rearrange(getattr(ATEN, _name)))
add_operation("clone", "contiguous", "_to_copy", "lift_fresh", "dropout",
              lower=_rearrange(lambda x, *args, **kwargs: x))


def _strided(x: Tensor, dims: Sequence[int], strides: Sequence[int], offset: int = 0) -> Tensor:
    x = x.contiguous()
    return x.as_strided(dims, strides, x.storage_offset() + offset)


def _shuffled(x: Tensor, s: int) -> Tensor:
    """torch.pixel_shuffle of a picture (1, C, H, W) as a view."""
    _, C, H, W = x.shape
    return x.view(C // s**2, s, s, H, W).permute(0, 3, 1, 4, 2)


def _unshuffled(x: Tensor, s: int) -> Tensor:
    _, C, H, W = x.shape
    return x.view(C, H // s, s, W // s, s).permute(0, 2, 4, 1, 3)


def _nearest(x: Tensor, size: Sequence[int], *scales: Any) -> Tensor:
    _, C, H, W = x.shape
    return x.view(C, H, 1, W, 1).expand(C, H, size[0] // H, W, size[1] // W)


def _separable(function: Callable[..., Tensor]) -> Callable:
    """A lowering for what works on rows and on columns alike, by one matrix for each."""
    def lower(r: Recorder, out: Tensor, x: Tensor, *args: Any) -> None:
        _, C, H, W = x.shape
        each_column = torch.eye(W).view(1, W, 1, W).expand(1, W, H, W)  # pictures of one column
        each_row = torch.eye(H).view(1, H, H, 1).expand(1, H, H, W)
        across, down = function(each_column, *args)[0, :, 0], function(each_row, *args)[0, :, :, 0]
        k = r.emit("linear", [x, across.t().contiguous()], (1, C, H, out.shape[3]))
        k = r.moved(k, torch.arange(C * H * out.shape[3]).view(C, H, -1).transpose(1, 2))
        k = r.emit("linear", [k, down.t().contiguous()], (1, C, out.shape[3], out.shape[2]))
        r.rearranged(k, torch.arange(out.numel()).view(C, out.shape[3], -1).transpose(1, 2), out)
    return lower


def _enlarged(r: Recorder, out: Tensor, x: Tensor, size: Sequence[int], *scales: Any) -> None:
    """By whole numbers the pixels are repeated; else by matrices."""
    whole = not any(n % m for n, m in zip(size, x.shape[2:]))
    lower = _rearrange(_nearest) if whole else _separable(ATEN.upsample_nearest2d)
    lower(r, out, x, size, *scales)


for _name in ("upsample_bilinear2d", "upsample_bicubic2d", "reflection_pad2d", "replication_pad2d"):
    add_operation(_name, lower=_separable(getattr(ATEN, _name)))
add_operation("pixel_shuffle", lower=_rearrange(_shuffled))
add_operation("pixel_unshuffle", lower=_rearrange(_unshuffled))
add_operation("upsample_nearest2d", lower=_enlarged,
              copy=lambda op, x: _strided(x, op["dims"], op["strides"], op["offset"]))


def _cat(r: Recorder, out: Tensor, parts: Sequence[Tensor], dim: int = 0) -> None:
    dim %= out.ndim
    r.emit("cat", list(parts), out, inner=[math.prod(p.shape[dim:]) for p in parts])


def _cat_twin(op: dict, *parts: Tensor) -> Tensor:
    return torch.cat([p.reshape(-1, n) for p, n in zip(parts, op["inner"])], 1)


def _pad(r: Recorder, out: Tensor, x: Tensor, pad: Sequence[int], value: float = 0) -> None:
    if x.ndim != 4 or len(pad) > 4:
        raise NotImplementedError
    r.emit("pad", [x], out, pad=[*pad, 0, 0][:4], value=value or 0)


add_operation("cat", "stack", lower=_cat, cat=_cat_twin)
add_operation("constant_pad_nd", lower=_pad,
              pad=lambda op, x: F.pad(x, op["pad"], value=op["value"]))

# --- labels -------------------------------------------------------------------------------------


def _embedding(r: Recorder, out: Tensor, w: Tensor, index: Tensor, *rest: Any) -> None:
    r.emit("embedding", [w, index], out)


def _gather(r: Recorder, out: Tensor, x: Tensor, dim: int, index: Tensor, **rest: Any) -> None:
    if dim % x.ndim != x.ndim - 1 or x.shape[:-1] != index.shape[:-1]:
        raise NotImplementedError
    r.emit("gather", [x, index], out)


def _one_hot(r: Recorder, out: Tensor, zeros: Tensor, dim: int, index: Tensor,
             value: float) -> None:
    one_a_row = dim % zeros.ndim == zeros.ndim - 1 and index.shape[-1] == 1
    if r.depends(zeros) or not one_a_row or value != 1 or (out != 0).sum() != index.numel():
        raise NotImplementedError
    r.emit("one_hot", [index], out, n=out.shape[-1])


add_operation("embedding", lower=_embedding, embedding=lambda op, w, i: w[i.reshape(-1).long()])
add_operation("gather", lower=_gather, gather=lambda op, x, i: x.gather(-1, i.long()))
add_operation("scatter", lower=_one_hot, one_hot=lambda op, i: F.one_hot(i.long(), op["n"]).float())

# --- pointwise ----------------------------------------------------------------------------------


def _pointwise(name: str, *settings: str, **defaults: Any) -> Callable:
    def lower(r: Recorder, out: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> None:
        r.emit(name, [x], out, **(defaults | dict(zip(settings, args)) | kwargs))
    return lower


def _gelu(r: Recorder, out: Tensor, x: Tensor, approximate: str = "none") -> None:
    r.emit("gelu" if approximate == "none" else "gelu_tanh", [x], out)


def _clamp(r: Recorder, out: Tensor, x: Tensor, low: Any = None, high: Any = None) -> None:
    r.emit("clamp", [x], out, low=-HUGE if low is None else low,
           high=HUGE if high is None else high)


def _power(r: Recorder, out: Tensor, x: Any, exponent: Any) -> None:
    if not isinstance(exponent, Number):
        raise NotImplementedError
    r.emit("power", [x], out, exponent=exponent)


def _applied(f: Callable) -> Callable[..., Tensor]:
    return lambda op, x: f(x)


for _name in ("sigmoid", "tanh", "relu", "silu", "exp", "log", "sin", "cos", "sqrt", "rsqrt", "abs",
              "reciprocal"):
    add_operation(_name, lower=_pointwise(_name), **{_name: _applied(getattr(ATEN, _name))})
add_operation("leaky_relu", lower=_pointwise("leaky_relu", "slope", slope=0.01),
              leaky_relu=lambda op, x: F.leaky_relu(x, op["slope"]))
add_operation("elu", lower=_pointwise("elu", "alpha", alpha=1.0),
              elu=lambda op, x: F.elu(x, op["alpha"]))
add_operation("gelu", lower=_gelu, gelu=lambda op, x: F.gelu(x),
              gelu_tanh=lambda op, x: F.gelu(x, approximate="tanh"))
add_operation("clamp", "hardtanh", lower=_clamp,
              clamp=lambda op, x: x.clamp(op["low"], op["high"]))
add_operation("clamp_min", lower=lambda r, out, x, low: _clamp(r, out, x, low))
add_operation("pow", lower=_power, power=lambda op, x: x ** op["exponent"])


def _arithmetic(name: str, scaled: Callable[[float], tuple[float, float]]) -> Callable:
    """Of two tensors, or of a tensor and a number: then factor * x + shift = scaled(number)."""
    def lower(r: Recorder, out: Tensor, a: Tensor, b: Any, alpha: float = 1) -> None:
        if isinstance(b, Tensor) and alpha == 1:
            r.broadcast(name, a, b, out)
        elif isinstance(b, Number) and alpha == 1:
            factor, shift = scaled(b)
            r.emit("scale", [a], out, factor=factor, shift=shift)
        else:
            raise NotImplementedError
    return lower


def _strided_pair(f: Callable) -> Callable[..., Tensor]:
    def twin(op: dict, a: Tensor, b: Tensor) -> Tensor:
        return f(*(_strided(x, op["dims"], s) for x, s in zip((a, b), op["strides"])))
    return twin


add_operation("add", lower=_arithmetic("add", lambda s: (1, s)), add=_strided_pair(torch.add),
              scale=lambda op, x: op["factor"] * x + op["shift"])
add_operation("sub", lower=_arithmetic("sub", lambda s: (1, -s)), sub=_strided_pair(torch.sub))
add_operation("mul", lower=_arithmetic("mul", lambda s: (s, 0)), mul=_strided_pair(torch.mul))
add_operation("div", lower=_arithmetic("div", lambda s: (1 / s, 0)), div=_strided_pair(torch.div))
add_operation("rsub", lower=_arithmetic("rsub", lambda s: (-1, s)),
              rsub=_strided_pair(lambda a, b: b - a))
add_operation("floor_divide", lower=_pointwise("floor_divide", "by"),
              floor_divide=lambda op, x: torch.floor(x / op["by"]))
add_operation("neg", lower=lambda r, out, x: r.emit("scale", [x], out, factor=-1, shift=0))

# --- over a dimension ---------------------------------------------------------------------------


def _softmax(r: Recorder, out: Tensor, x: Tensor, dim: int, *rest: Any) -> None:
    last = r.places(x).transpose(dim, -1)
    k = r.emit("softmax", [r.moved(x, last)], tuple(last.shape), n=x.shape[dim])
    r.rearranged(k, torch.arange(x.numel()).view(last.shape).transpose(dim, -1), out)


def _norm(r: Recorder, out: Tensor, x: Tensor, order: float = 2, dims: Any = None,
          keepdim: bool = False, **rest: Any) -> None:
    """The Euclidean length over some dimensions."""
    if order != 2:
        raise NotImplementedError
    k = r.emit("power", [x], tuple(x.shape), exponent=2)
    dims = sorted(d % x.ndim for d in (dims or range(x.ndim)))
    kept = [d for d in range(x.ndim) if d not in dims]
    k = r.emit("sum", [r.moved(k, r.places(x).permute(*kept, *dims))], tuple(out.shape),
               n=math.prod(x.shape[d] for d in dims))
    r.emit("sqrt", [k], out)


def _reduce(kind: str) -> Callable:
    def lower(r: Recorder, out: Tensor, x: Tensor, dims: Any = None, keepdim: bool = False, *,
              correction: float = 1, dtype: Any = None) -> None:
        dims = [dims] if isinstance(dims, int) else list(dims or range(x.ndim))
        dims = sorted(d % x.ndim for d in dims)
        n = math.prod(x.shape[d] for d in dims)
        kept = [d for d in range(x.ndim) if d not in dims]
        r.emit(kind, [r.moved(x, r.places(x).permute(*kept, *dims))], out, n=n,
               **({"correction": correction} if kind in ("var", "std") else {}))
    return lower


_REDUCED = {"mean": lambda op, x: x.mean(1), "sum": lambda op, x: x.sum(1),
            "amax": lambda op, x: x.amax(1), "amin": lambda op, x: x.amin(1),
            "logsumexp": lambda op, x: x.logsumexp(1),
            "var": lambda op, x: x.var(1, correction=op["correction"]),
            "std": lambda op, x: x.std(1, correction=op["correction"])}


def _by_rows(f: Callable) -> Callable[..., Tensor]:
    return lambda op, x: f(op, x.reshape(-1, op["n"]))


for _name, _function in _REDUCED.items():
    add_operation(_name, lower=_reduce(_name), **{_name: _by_rows(_function)})
add_operation("linalg_vector_norm", lower=_norm)
add_operation("_softmax", "_safe_softmax", lower=_softmax, softmax=lambda op, x: x.softmax(-1))
