"""A trained network becomes a program for the browser.

The network runs once, on one example, and every ATen operation that its inputs reach is written
down: a short list of operations over numbered registers, beside one block of weights.  What depends
on no input (a frequency table, a transposed weight) is computed here, once.  So any module or
function of tensors will do whose operations are in operations.py, with skips and several inputs and
outputs; its path must not depend on its input's values.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genmed_core.widgets.operations import LOWERINGS
from genmed_core.widgets.twin import run, run_one

MAX_BYTES = 2_000_000  # of weights; a page carries them as text, a third larger
FLOAT16_MAX = 65504
INT8_FROM = 1024  # numbers that a matrix has at least before it is kept in bytes
BLOCK = 128  # numbers in a row that share a scale
OUTPUTS = ("logits", "tanh", "unit")
WITHOUT_VALUES = {"full_like", "zeros_like", "ones_like", "empty_like", "new_full", "new_zeros",
                  "new_ones", "new_empty"}


class Program(NamedTuple):
    """A network ready for the browser.

    graph: registers (shape; view [base, offset] or data, the type of a constant; block, how many
    bytes share a scale), ops over them, inputs by name and outputs, as JSON can hold it.  weights:
    the constants one after another, scales before their bytes.
    """

    graph: dict[str, Any]
    weights: bytes

    def shape(self, name: str | None = None) -> list[int]:
        """The shape (1, ...) of an input, or of the first output."""
        k = self.graph["outputs"][0] if name is None else self.graph["inputs"][name]
        return self.graph["registers"][k]["shape"]

    def run(self, **inputs: Any) -> tuple[Tensor, ...]:
        """What the browser computes: inputs by name, each (B, ...) -> each output (B, ...)."""
        return run(self, **inputs)


class Unsupported(NamedTuple):
    """An operation that the browser does not have, and the layer that asked for it."""

    operation: str
    layer: str


class InFull(TorchDispatchMode):
    """Everything in float32, whatever a network or an autocast asks for."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: that would import torch._dynamo, which takes seconds and serves nothing here."""
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        kwargs = dict(kwargs or {})
        if kwargs.get("dtype") in (torch.bfloat16, torch.float16, torch.float64):
            kwargs["dtype"] = torch.float32
        return self.called(func, args, kwargs)

    def called(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """The operation's result."""
        return func(*args, **kwargs)


class Recorder(InFull):
    """Writes down every operation that a tensor reaches which was given to `input`."""

    def __init__(self) -> None:
        super().__init__()
        self.registers: list[dict[str, Any]] = []
        self.ops: list[dict[str, Any]] = []
        self.inputs: dict[str, int] = {}
        self.constants: dict[int, tuple[Tensor, str]] = {}  # register -> value, layer
        self.layer = "the network"
        self._register_of: dict[int, int] = {}  # id of a tensor -> register
        self._dependent: set[int] = set()
        self._unsupported: dict[int, Unsupported] = {}
        self._kept: list[Tensor] = []  # so that no id comes twice

    def input(self, name: str, x: Tensor) -> None:
        """Begin with this tensor, (1, ...)."""
        self.inputs[name] = self._new(x.shape, x)

    def depends(self, x: Any) -> bool:
        """Whether a value depends on an input of the network."""
        return id(x) in self._dependent

    def called(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """Call an operation, and write it down where an input reaches it."""
        touched = [x for x in tree_leaves((args, kwargs))
                   if self.depends(x) or id(x) in self._unsupported]
        result = func(*args, **kwargs)
        name = func._schema.name.split("::")[1]
        if touched and name not in WITHOUT_VALUES:
            trouble = next(filter(None, (self._unsupported.get(id(x)) for x in touched)), None)
            trouble = trouble or self._lower(name, result, args, kwargs)
            for x in filter(torch.is_tensor, tree_leaves(result)):
                self._keep(x)
                self._unsupported.pop(id(x), None)
                if trouble or id(x) not in self._register_of:
                    self._unsupported[id(x)] = trouble or Unsupported(name, self.layer)
        return result

    def _lower(self, name: str, result: Any, args: tuple, kwargs: dict) -> Unsupported | None:
        """Write one operation down; what is wrong where that cannot be."""
        base = name if name in LOWERINGS else name.rstrip("_")  # relu_ is relu, and renames x
        try:
            LOWERINGS[base](self, result, *args, **kwargs)
        except (KeyError, TypeError, NotImplementedError):
            return Unsupported(name, self.layer)
        return None

    def emit(self, op: str, ins: Sequence[Tensor | int], out: Tensor | Sequence[int],
             **settings: Any) -> int:
        """Write down one operation of the engine; out: its result, or only the result's shape."""
        registers = [self.register(x) for x in ins]
        is_result = isinstance(out, Tensor)
        shape, result = (out.shape, out) if is_result else (out, None)
        k = self._new(shape, result)
        self.ops.append({"op": op, "in": registers, "out": k, **settings})
        return k

    def register(self, x: Tensor | int) -> int:
        """Where a value is: a register's number stands for itself, a new tensor is a constant."""
        if isinstance(x, int):
            return x
        if id(x) not in self._register_of:
            k = self._new(x.shape, x, dependent=False)
            self.constants[k] = x.detach().cpu().float().clone(), self.layer
        return self._register_of[id(x)]

    def transposed(self, w: Tensor) -> Tensor:
        """A constant matrix, transposed: one and the same tensor for one and the same matrix."""
        return self._keep(w.t())

    def places(self, x: Tensor) -> Tensor:
        """The place in memory of each of a value's numbers, shaped like the value."""
        return torch.arange(x.numel()).view(x.shape)

    def moved(self, x: Tensor | int, places: Tensor) -> Tensor | int:
        """A value's numbers in another order, as a register: `places` is a view of self.places."""
        k = self.register(x)
        whole = places.numel() == math.prod(self.registers[k]["shape"])
        if places.is_contiguous() and whole:
            return k
        return self._copied(x, places, places.shape)

    def rearranged(self, x: Tensor | int, places: Tensor, out: Tensor) -> None:
        """The result `out` holds numbers of x: a view of its register where they lie in a row."""
        if not places.is_contiguous():
            self._copied(x, places, out)
        elif isinstance(x, Tensor) and places.shape == x.shape == out.shape:
            self._register_of[id(self._keep(out))] = self.register(x)
            self._dependent.add(id(out))
        else:
            k = self._new(out.shape, out)
            self.registers[k]["view"] = [self.register(x), places.storage_offset()]

    def _copied(self, x: Tensor | int, places: Tensor, out: Any) -> int:
        dims, (strides,) = merged(places.shape, [places.stride()])
        return self.emit("copy", [x], out, dims=dims, strides=strides,
                         offset=places.storage_offset())

    def broadcast(self, op: str, a: Tensor, b: Tensor, out: Tensor) -> None:
        """An operation of two tensors, each read by strides that are 0 where it is repeated."""
        strides = [self.places(x).expand(out.shape).stride() for x in (a, b)]
        dims, strides = merged(out.shape, strides)
        self.emit(op, [a, b], out, dims=dims, strides=strides)

    def outputs(self, results: Sequence[Tensor]) -> list[int]:
        """The registers of a network's results; ValueError where the browser cannot make one."""
        for x in results:
            trouble = self._unsupported.get(id(x))
            if trouble is not None:
                how = " in a form that is not there" if trouble.operation in LOWERINGS else ""
                raise ValueError(
                    f"{trouble.layer} does not run in the browser: it calls {trouble.operation}"
                    f"{how}. Build the network of what does (widgets.LOWERINGS names it), or teach "
                    "the browser one more operation by widgets.add_operation")
            if not self.depends(x):
                raise ValueError("an output of the network does not depend on its inputs")
        return [self.register(x) for x in results]

    def _new(self, shape: Sequence[int], x: Tensor | None, dependent: bool = True) -> int:
        self.registers.append({"shape": [int(n) for n in shape]})
        if x is not None:
            self._register_of[id(self._keep(x))] = len(self.registers) - 1
            if dependent:
                self._dependent.add(id(x))
        return len(self.registers) - 1

    def _keep(self, x: Tensor) -> Tensor:
        self._kept.append(x)
        return x


def merged(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list, list[list]]:
    """Dimensions that can be walked as one are made one -> sizes, and strides of each operand."""
    dims: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for n, *each in zip(shape, *strides):
        if n == 1:
            continue
        if dims and all(s[-1] == e * n for s, e in zip(steps, each)):
            dims[-1] *= n
            for s, e in zip(steps, each):
                s[-1] = e
        else:
            dims.append(int(n))
            for s, e in zip(steps, each):
                s.append(int(e))
    return dims or [1], [s or [0] for s in steps]


# --- compile ------------------------------------------------------------------------------------


def compile_network(network: Callable, *, int8: bool = False, max_bytes: int = MAX_BYTES,
                    **examples: Tensor) -> Program:
    """Turn a trained network into a `Program` that runs in the browser.

    network: a module, or a function of tensors whose modules are in evaluation, on the device of
    the examples.
    examples: its inputs by name, in order, each (B, ...), as it is called: floats, or int64 labels
    and steps in their range.  Results: a tensor or a tuple of them, each (B, ...).
    Matrices and kernels are kept in float16, or, with int8, in a byte a number and a scale for each
    BLOCK; vectors in float32.  What that costs, over whole films of 25 steps from the same noise:
    chapter 8's guided digits move by 0.7 of 255 grey levels on average, 60 at most, so that their
    page has float16, as the file of weights has.  A network that is `rounded` before it is
    measured, as the denoisers of chapters 7 and 9, loses nothing on the page.
    Modules run as in evaluation.
    Raises ValueError on an operation that the browser does not have and names its layer, on a
    network that mixes the images of a batch or chooses its path by their values, and on weights
    that are not finite, beyond float16, or more than max_bytes.
    """
    network = _ready(network)
    if isinstance(network, nn.Module):
        examples = {name: x.cpu() for name, x in examples.items()}
    first = {name: x[:1].clone() for name, x in examples.items()}
    recorder = Recorder()
    results = _recorded(recorder, network, first)
    graph, constants = _pruned(recorder, recorder.outputs(results))
    _compare(network, graph, {k: value for k, (value, _) in constants.items()}, examples)
    return Program(graph, _packed(graph, constants, int8, max_bytes))


def _ready(network: Callable) -> Callable:
    """A copy in evaluation, on the CPU, in float32; a function is taken as it is."""
    if not isinstance(network, nn.Module):
        return network
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is None:
            raise ValueError(f"{layer} keeps no running statistics: its output for one picture is "
                             "undefined")
    return copy.deepcopy(network).cpu().float().eval().requires_grad_(False)


def _recorded(recorder: Recorder, network: Callable, first: dict[str, Tensor]) -> list[Tensor]:
    def entered(module: nn.Module, inputs: Any) -> None:
        if not list(module.children()):
            recorder.layer = str(module)

    hook = register_module_forward_pre_hook(entered)
    for name, x in first.items():
        recorder.input(name, x)
    try:
        with recorder:
            return _called(network, first)
    except RuntimeError as error:
        shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in first.items())
        why = str(error).strip().splitlines()[0]
        raise ValueError(f"the network does not run on {shapes}: {recorder.layer} says: "
                         f"{why}") from error
    finally:
        hook.remove()


def _called(network: Callable, inputs: dict[str, Tensor]) -> list[Tensor]:
    """The network's results as a list, by plain products where attention has a fused kernel."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            result = network(*inputs.values())
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return [x for x in tree_leaves(result) if isinstance(x, Tensor)]


def _pruned(recorder: Recorder, outputs: list[int]) -> tuple[dict, dict[int, tuple[Tensor, str]]]:
    """The graph without what no output needs, its registers numbered anew; and its constants."""
    needed, ops = set(outputs), []

    def need(k: int) -> None:
        needed.add(k)
        if "view" in recorder.registers[k]:
            need(recorder.registers[k]["view"][0])

    for k in outputs:
        need(k)
    for op in reversed(recorder.ops):
        if op["out"] in needed:
            ops.append(op)
            for k in op["in"]:
                need(k)
    needed |= set(recorder.inputs.values())
    new = {k: i for i, k in enumerate(sorted(needed))}
    registers = [dict(recorder.registers[k]) for k in sorted(needed)]
    for register in registers:
        if "view" in register:
            register["view"] = [new[register["view"][0]], register["view"][1]]
    graph = {"registers": registers,
             "ops": [op | {"in": [new[k] for k in op["in"]], "out": new[op["out"]]}
                     for op in reversed(ops)],
             "inputs": {name: new[k] for name, k in recorder.inputs.items()},
             "outputs": [new[k] for k in outputs]}
    return graph, {new[k]: c for k, c in recorder.constants.items() if k in new}


def _compare(network: Callable, graph: dict, constants: dict[int, Tensor],
             examples: dict[str, Tensor]) -> None:
    """ValueError unless the program is the network, on a batch of the examples and of noise.

    The example that was recorded comes last, so that another one chooses a path.
    """
    generator = torch.Generator().manual_seed(0)
    batch = {name: torch.cat([x[1:], torch.randn(x.shape, generator=generator).to(x)
                              if x.is_floating_point() else x, x[:1]])
             for name, x in examples.items()}
    with InFull():
        wanted = _called(network, batch)
    B = len(next(iter(batch.values())))
    each = [run_one(graph, constants, {name: x[k:k + 1].cpu().float() for name, x in batch.items()})
            for k in range(B)]
    for want, *got in zip(wanted, *each):
        off = (torch.cat(got) - want.cpu()).abs().max().item() if len(want) == B else math.inf
        if off > 1e-3 * (1 + want.abs().max().item()):
            raise ValueError(f"the program differs from the network by {off:.2g}: does it mix the "
                             "images of a batch, draw random numbers, or choose its path by its "
                             "input's values?")


def _packed(graph: dict, constants: dict[int, tuple[Tensor, str]], int8: bool,
            max_bytes: int) -> bytes:
    """The constants in the order of their registers; says in each register how it is kept."""
    parts = []
    for k, (value, layer) in sorted(constants.items()):
        _check_finite(value, layer)
        matrix = sum(n > 1 for n in value.shape) >= 2
        kind = ("<i1" if int8 and _fills_bytes(value) else "<f2") if matrix else "<f4"
        graph["registers"][k]["data"] = kind
        if kind == "<i1":
            graph["registers"][k]["block"] = BLOCK
            scale, value = _in_bytes(value)
            parts.append(scale.numpy().astype("<f4").tobytes())
        parts.append(value.numpy().astype(kind).tobytes())
    weights = b"".join(parts)
    if len(weights) > max_bytes:
        raise ValueError(f"the network's weights take {len(weights):,} bytes, too many for one "
                         f"page, which has {max_bytes:,}: show a narrower one, keep them by "
                         "int8=True, or precompute pictures for FrameSlider")
    return weights


def _fills_bytes(value: Tensor) -> bool:
    """Whether int8 keeps it in bytes: a matrix, and large enough for scales to be worth it."""
    return sum(n > 1 for n in value.shape) >= 2 and value.numel() >= INT8_FROM


def _in_bytes(value: Tensor) -> tuple[Tensor, Tensor]:
    """The scale of each BLOCK of numbers that lie in a row, and all numbers in it, -127..127."""
    blocks = nn.functional.pad(value.flatten(), (0, -value.numel() % BLOCK)).view(-1, BLOCK)
    scale = blocks.abs().amax(1, keepdim=True).clamp(min=1e-30) / 127
    return scale[:, 0], (blocks / scale).round().flatten()[:value.numel()]


@torch.no_grad()
def rounded(network: Any, step: int = 1) -> Any:
    """A copy, its weights rounded to what int8=True keeps: the page then has the copy itself.

    network: a module, or a tensor (a table of embeddings, say).  float32, on its device.
    step: use every step-th level of a byte only, so that what is kept packs into fewer bits.
    """
    network = copy.deepcopy(network)
    for value in network.parameters() if isinstance(network, nn.Module) else [network]:
        if _fills_bytes(value):
            scale, whole = _in_bytes(value)
            whole = (step * (whole / step).round()).clamp(-127, 127)
            value.copy_((whole * scale.repeat_interleave(BLOCK)[:len(whole)]).view_as(value))
    return network


def _check_finite(value: Tensor, layer: str) -> None:
    if not value.isfinite().all():
        raise ValueError(f"a weight of {layer} is not finite: did training diverge?")
    largest = value.abs().max().item() if value.numel() else 0
    if largest > FLOAT16_MAX:
        raise ValueError(f"a weight of {layer} is {largest:.3g}, beyond float16's {FLOAT16_MAX}: "
                         "train with weight decay or a smaller learning rate")


# --- decoders -----------------------------------------------------------------------------------


class Picture(nn.Module):
    """A decoder and what brings its output to one grey picture (B, H, W) in 0..1."""

    def __init__(self, decoder: nn.Module, output: str) -> None:
        super().__init__()
        self.decoder, self.output = decoder, output

    def forward(self, z: Tensor) -> Tensor:
        x = self.decoder(z)
        x = x.reshape(len(x), *_picture_shape(x.shape[1:]))
        return {"logits": torch.sigmoid, "tanh": lambda x: (x + 1) / 2}.get(self.output, _same)(x)


def _same(x: Tensor) -> Tensor:
    return x


def flatten(decoder: Any) -> list:
    """A decoder's layers in order, out of nested nn.Sequential and lists."""
    if isinstance(decoder, (nn.Sequential, nn.ModuleList, list, tuple)):
        return [layer for child in decoder for layer in flatten(child)]
    return [decoder]


def compile_decoder(decoder: nn.Module | list, *, inputs: int | None = None, output: str = "auto",
                    **settings: Any) -> Program:
    """Turn a trained decoder into a `Program` from "z" to one picture with values in 0..1.

    decoder: module or list of layers, from a vector (B, inputs) to one grey picture, (B, H*W) of a
    square picture or (B, 1, H, W).  output: "logits" (a sigmoid is applied), "tanh" (-1..1 is
    mapped to 0..1), "unit" (already 0..1); "auto" reads it off the last layer.
    settings, and what is refused: see `compile_network`.
    """
    layers = flatten(decoder)
    if not layers:
        raise ValueError("the decoder has no layers")
    if output not in ("auto", *OUTPUTS):
        raise ValueError(f"output must be 'auto', 'logits', 'tanh' or 'unit', not {output!r}")
    if inputs is None and not isinstance(layers[0], nn.Linear):
        raise ValueError("the decoder does not begin with nn.Linear: pass z0, for the code's size")
    inputs = layers[0].in_features if inputs is None else inputs
    if isinstance(layers[0], nn.Linear) and layers[0].in_features != inputs:
        raise ValueError(f"{layers[0]} gets {inputs} numbers: is that the size of code and label? "
                         "Pass z0 with as many numbers as the code has")
    if output == "auto":
        output = {nn.Sigmoid: "unit", nn.Tanh: "tanh"}.get(type(layers[-1]), "logits")
    network = Picture(nn.Sequential(*_merged(layers)), output)
    return compile_network(network, z=torch.zeros(1, inputs), **settings)


def _merged(layers: list) -> list:
    """Linear maps in a row as one, where that has fewer numbers: a panel before a decoder."""
    merged = layers[:1]
    for layer in layers[1:]:
        first = merged[-1]
        linear = type(first) is type(layer) is nn.Linear
        if (linear and layer.in_features == first.out_features and layer.out_features
                * first.in_features < layer.weight.numel() + first.weight.numel()):
            merged[-1] = _product(first, layer)
        else:
            merged.append(layer)
    return merged


def _product(first: nn.Linear, second: nn.Linear) -> nn.Linear:
    """The linear map that does what two in a row do."""
    weight = second.weight.detach().cpu().double()
    shift = [0 if layer.bias is None else layer.bias.detach().cpu().double()
             for layer in (first, second)]
    # skip_init draws no random numbers: what a chapter draws later stays the same
    product = nn.utils.skip_init(nn.Linear, first.in_features, second.out_features)
    product.requires_grad_(False)
    product.weight.copy_(weight @ first.weight.detach().cpu().double())
    product.bias.copy_(weight @ (shift[0] + weight.new_zeros(first.out_features)) + shift[1])
    return product


def _picture_shape(shape: Sequence[int]) -> tuple[int, int]:
    side = round(shape[0] ** 0.5)
    if len(shape) == 1 and side**2 == shape[0]:
        return side, side
    if len(shape) == 3 and shape[0] == 1:
        return shape[1], shape[2]
    raise ValueError(f"the decoder ends in shape {tuple(shape)}, not in one grey picture "
                     "(1, height, width)")
