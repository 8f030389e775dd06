"""Shares of a batch: the rows that one of several processes takes, or a part of a batch too large for memory.

Random numbers are drawn for the whole batch from one stream, and each share keeps its own rows. So the shares
together see the noise that one process with the whole batch would have seen, and every process draws the same
amount: their streams never part.
"""

from contextlib import contextmanager, nullcontext

import torch
from torch import distributed
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# what draws numbers of a given size; what draws one for each element of its arguments; what fills a tensor
_SIZED = {torch.randn, torch.rand, torch.randint}
_LIKE = {torch.randn_like, torch.rand_like, torch.randint_like, torch.bernoulli, torch.normal, F.dropout, F.dropout2d,
         torch.Tensor.bernoulli}
_FILLING = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.bernoulli_, torch.Tensor.exponential_,
            torch.Tensor.random_}

_shares = []


class _WholeBatchNoise(TorchFunctionMode):
    """Inside, random tensors with a dimension as long as the share are drawn for the whole batch, and cut."""

    def __init__(self, start, stop, total):
        super().__init__()
        self.start, self.length, self.total = start, stop - start, total

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _SIZED:
            return self._sized(func, args, kwargs)
        if func in _LIKE or func in _FILLING:
            return self._elementwise(func, args, kwargs)
        return func(*args, **kwargs)

    def _sized(self, func, args, kwargs):
        """randn(B, 3), randn((B, 3)), randint(0, 10, (B, 3)), and the same with size=."""
        bounds = ()
        if func is torch.randint:
            bounds, args = [a for a in args if isinstance(a, int)], [a for a in args if not isinstance(a, int)]
        size = tuple(kwargs["size"] if "size" in kwargs else args[0] if args and not isinstance(args[0], int) else args)
        axis = self._axis(size)
        if axis is not None:
            size = (*size[:axis], self.total, *size[axis + 1 :])
        out = func(*bounds, **{**kwargs, "size": size})
        return out if axis is None else out.narrow(axis, self.start, self.length)

    def _elementwise(self, func, args, kwargs):
        """randn_like(x), bernoulli(p), dropout(x): on x among zeros, which stand for the other shares' rows."""
        ours = args[0] if args else kwargs["input"]
        axis = self._axis(ours.shape)
        if axis is None:
            return func(*args, **kwargs)
        among = [self._embed(a, ours.shape, axis) for a in args]
        out = func(*among, **{k: self._embed(v, ours.shape, axis) for k, v in kwargs.items()})
        out = out.narrow(axis, self.start, self.length)
        return ours.copy_(out) if func in _FILLING else out

    def _axis(self, shape):
        return next((i for i, n in enumerate(shape) if n == self.length), None)

    def _embed(self, x, shape, axis):
        if not isinstance(x, torch.Tensor) or x.shape != shape:
            return x
        whole = x.new_zeros((*shape[:axis], self.total, *shape[axis + 1 :]))
        return whole.slice_scatter(x, axis, self.start, self.start + self.length)


@contextmanager
def rows(start, stop, total):
    """Inside, a loss works on the rows start..stop of a batch of `total`, with their part of its noise."""
    _shares.append((start, stop, total))
    try:
        with nullcontext() if stop - start == total else _WholeBatchNoise(start, stop, total):
            yield
    finally:
        _shares.pop()


def place(B):
    """Where B rows stand in the whole batch -> (number of the first, size of the whole); (0, B) outside `rows`."""
    if not _shares or _shares[-1][1] - _shares[-1][0] != B:
        return 0, B  # a batch of its own
    return _shares[-1][0], _shares[-1][2]


def parts(start, stop, count):
    """The rows start..stop in `count` parts, as equal as can be -> list of (start, stop)."""
    edges = [start + (stop - start) * i // count for i in range(count + 1)]
    return list(zip(edges, edges[1:]))


# --- several processes --------------------------------------------------------------------------------------


def processes():
    """How many processes train together (torchrun starts them); 1 outside a process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank():
    """The number of this process, from 0."""
    return distributed.get_rank() if processes() > 1 else 0


def average(values):
    """The mean of a tensor over all processes."""
    if processes() == 1:
        return values
    values = values.clone()
    distributed.all_reduce(values)
    return values / processes()


def anywhere(flag, device="cpu"):
    """Whether the flag is set in any process: all of them must ask."""
    if processes() == 1:
        return flag
    return bool(average(torch.tensor(float(flag), device=device)) > 0)


def from_first(value):
    """The first process's value, in every process; what the others pass is not looked at."""
    box = [value]
    if processes() > 1:
        distributed.broadcast_object_list(box)
    return box[0]


class SharedLoss(torch.nn.Module):
    """A loss and the parameters it trains, as the module that DistributedDataParallel wants.

    Its hooks average the gradients of these parameters over all processes while the backward pass still runs, and
    its making gives every process the weights of the first.
    """

    def __init__(self, loss_fn, parameters):
        super().__init__()
        self.loss_fn, self.learned = loss_fn, torch.nn.ParameterList(parameters)

    def forward(self, batch):
        return self.loss_fn(batch)
