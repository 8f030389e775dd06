"""The layers that run in the browser: how each is written down, and its operations in torch.

One `add_layer` a layer; its operations in JavaScript are the entries of OPS in widgets.js.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from genmed_core.widgets.compile import Compiler, add_layer
from genmed_core.widgets.twin import TWINS, bias, weight

# --- linear -------------------------------------------------------------------------------------


def _linear(c: Compiler, layer: nn.Linear) -> None:
    if c.shape != (layer.in_features,):
        raise ValueError(f"{layer} gets an input of shape {c.shape}: is that the size of code and "
                         "label? Pass z0 with as many numbers as the code has")
    out = layer.out_features
    c.add("linear", (out,), w=c.store(layer.weight, layer), b=c.store_bias(layer.bias, out, layer),
          **{"in": layer.in_features, "out": out})


def _linear_twin(op, weights, x):
    return F.linear(x.flatten(1), weight(weights, op, op["out"], op["in"]),
                    bias(weights, op, op["out"]))


add_layer(nn.Linear, compile=_linear, linear=_linear_twin)

# --- convolutions -------------------------------------------------------------------------------


def _padding(layer):
    """The padding as a pair of numbers, where it is given as a word."""
    if layer.padding == "valid":
        return 0, 0
    if layer.padding != "same":
        return tuple(layer.padding)
    if any(k % 2 == 0 for k in layer.kernel_size):
        raise ValueError(f"{layer}: padding='same' needs an odd kernel here")
    return tuple(k // 2 for k in layer.kernel_size)


def _convolved(layer, n, axis, padding):
    """How many pixels a convolution makes of n along an axis."""
    kernel, stride = layer.kernel_size[axis], layer.stride[axis]
    if isinstance(layer, nn.ConvTranspose2d):
        return (n - 1) * stride - 2 * padding + kernel + layer.output_padding[axis]
    return (n + 2 * padding - kernel) // stride + 1


def _convolution(c: Compiler, layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    before = c.expect_image(layer)
    if layer.groups != 1 or tuple(layer.dilation) != (1, 1) or layer.padding_mode != "zeros":
        raise ValueError(f"{layer}: groups, dilation and padding other than zeros do not run in "
                         "the browser")
    c.expect_channels(layer, layer.in_channels)
    padding, out = _padding(layer), layer.out_channels
    after = (out, *(_convolved(layer, before[1 + k], k, padding[k]) for k in (0, 1)))
    c.add("conv_transpose" if isinstance(layer, nn.ConvTranspose2d) else "conv", after,
          w=c.store(layer.weight, layer), b=c.store_bias(layer.bias, out, layer),
          kernel=layer.kernel_size, stride=layer.stride, padding=padding,
          extra=layer.output_padding, **{"from": before, "to": after})


def _conv_twin(op, weights, x):
    out, into = op["to"][0], op["from"][0]
    return F.conv2d(x.reshape(-1, *op["from"]), weight(weights, op, out, into, *op["kernel"]),
                    bias(weights, op, out), op["stride"], op["padding"])


def _conv_transpose_twin(op, weights, x):
    out, into = op["to"][0], op["from"][0]
    return F.conv_transpose2d(
        x.reshape(-1, *op["from"]), weight(weights, op, into, out, *op["kernel"]),
        bias(weights, op, out), op["stride"], op["padding"], op["extra"])


add_layer(nn.Conv2d, nn.ConvTranspose2d, compile=_convolution, conv=_conv_twin,
          conv_transpose=_conv_transpose_twin)

# --- normalisation ------------------------------------------------------------------------------


def _batch_norm(c: Compiler, layer: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    """In evaluation: a scale and a shift per channel, from the running statistics."""
    if layer.running_mean is None:
        raise ValueError(f"{layer} keeps no running statistics: its output for one picture is "
                         "undefined")
    c.expect_channels(layer, layer.num_features)
    scale = (layer.running_var + layer.eps).rsqrt()
    shift = -layer.running_mean * scale
    if layer.affine:
        scale, shift = scale * layer.weight, shift * layer.weight + layer.bias
    c.add("affine", w=c.store(scale, layer), b=c.store(shift, layer), channels=layer.num_features)


def _affine_twin(op, weights, x):
    x = x.reshape(len(x), op["channels"], -1)
    return x * weight(weights, op, op["channels"], 1) + bias(weights, op, op["channels"])[:, None]


add_layer(nn.BatchNorm1d, nn.BatchNorm2d, compile=_batch_norm, affine=_affine_twin)


def _group_norm(c: Compiler, layer: nn.GroupNorm) -> None:
    channels = layer.num_channels
    c.expect_channels(layer, channels)
    scale = layer.weight if layer.affine else torch.ones(channels)
    c.add("group_norm", w=c.store(scale, layer), b=c.store_bias(layer.bias, channels, layer),
          channels=channels, groups=layer.num_groups, eps=layer.eps)


def _group_norm_twin(op, weights, x):
    channels = op["channels"]
    return F.group_norm(x.reshape(len(x), channels, -1), op["groups"],
                        weight(weights, op, channels), bias(weights, op, channels), op["eps"])


add_layer(nn.GroupNorm, compile=_group_norm, group_norm=_group_norm_twin)

# --- where the pixels go ------------------------------------------------------------------------


def _pixel_shuffle(c: Compiler, layer: nn.PixelShuffle) -> None:
    before = channels, height, width = c.expect_image(layer)
    s = layer.upscale_factor
    if channels % s**2:
        raise ValueError(f"{layer} needs a multiple of {s**2} channels and gets {channels}")
    after = (channels // s**2, height * s, width * s)
    c.add("pixel_shuffle", after, factor=s, **{"from": before, "to": after})


def _pixel_shuffle_twin(op, weights, x):
    return F.pixel_shuffle(x.reshape(-1, *op["from"]), op["factor"])


add_layer(nn.PixelShuffle, compile=_pixel_shuffle, pixel_shuffle=_pixel_shuffle_twin)


def _pair(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def _upsample(c: Compiler, layer: nn.Upsample) -> None:
    before = c.expect_image(layer)
    if layer.mode != "nearest":
        raise ValueError(f"{layer}: only mode='nearest' runs in the browser")
    if layer.size is None:
        wanted = [n * f for n, f in zip(before[1:], _pair(layer.scale_factor), strict=True)]
    else:
        wanted = _pair(layer.size)
    factor = [int(after // n) for after, n in zip(wanted, before[1:], strict=True)]
    after = (before[0], before[1] * factor[0], before[2] * factor[1])
    if after[1:] != tuple(wanted) or min(factor) < 1:
        raise ValueError(f"{layer}: the enlargement of {before[1:]} has to be a whole number")
    c.add("upsample", after, factor=factor, **{"from": before, "to": after})


def _upsample_twin(op, weights, x):
    rows, columns = op["factor"]
    x = x.reshape(-1, *op["from"])
    return x.repeat_interleave(rows, 2).repeat_interleave(columns, 3)


add_layer(nn.Upsample, nn.UpsamplingNearest2d, compile=_upsample, upsample=_upsample_twin)


def _reshape(c: Compiler, layer: nn.Flatten | nn.Unflatten) -> None:
    """Values stay where they are in memory: only the shape moves on."""
    dim = layer.start_dim if isinstance(layer, nn.Flatten) else layer.dim
    if dim != 1:
        raise ValueError(f"{layer}: only dimension 1 can be flattened or unflattened")
    try:  # a meta tensor lets torch work out a -1 in the sizes
        c.shape = tuple(layer(torch.empty(1, *c.shape, device="meta")).shape[1:])
    except RuntimeError as error:
        raise ValueError(f"{layer} does not fit an input of shape {c.shape}") from error


add_layer(nn.Flatten, nn.Unflatten, compile=_reshape)

# --- pointwise ----------------------------------------------------------------------------------

add_layer(nn.Dropout, nn.Dropout2d, nn.Identity, compile=lambda c, layer: None)
add_layer(nn.Tanh, compile=lambda c, layer: c.add("tanh"), tanh=lambda op, weights, x: x.tanh())
add_layer(nn.Sigmoid, compile=lambda c, layer: c.add("sigmoid"),
          sigmoid=lambda op, weights, x: x.sigmoid())
add_layer(nn.ReLU, compile=lambda c, layer: c.add("relu"), relu=lambda op, weights, x: x.relu())
add_layer(nn.LeakyReLU,
          compile=lambda c, layer: c.add("leaky_relu", slope=layer.negative_slope),
          leaky_relu=lambda op, weights, x: F.leaky_relu(x, op["slope"]))
add_layer(nn.SiLU, compile=lambda c, layer: c.add("silu"), silu=lambda op, weights, x: F.silu(x))
add_layer(nn.GELU,
          compile=lambda c, layer: c.add("gelu" if layer.approximate == "none" else "gelu_tanh"),
          gelu=lambda op, weights, x: F.gelu(x),
          gelu_tanh=lambda op, weights, x: F.gelu(x, approximate="tanh"))
TWINS["half"] = lambda op, weights, x: 0.5 * (x + 1)  # a tanh picture, -1..1, to 0..1
