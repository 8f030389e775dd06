"""Training kernels: one optimisation step, run eagerly, compiled, or captured as a CUDA graph.

A chapter writes `loss_fn(batch) -> (scalar loss, dict of detached scalars)`. `Batches` keeps the data set on
the device as uint8 and gathers batches by an on-device permutation; `TrainStep` runs gather, forward,
backward, optimiser and moving average in one of three modes with the same arithmetic. Nothing in a step waits
for the device: losses add up there and are read once per report.
"""

import copy
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from genmed_core import runtime
from genmed_core.kernels import cuda_graphs, shares
from genmed_core.kernels.threads import Governor

MODES = ("auto", "eager", "compile", "graph")


class Batch(NamedTuple):
    """What a loss function receives: images x (B, C, H, W) float in [0, 1] and labels y (B,) int64."""

    x: Tensor
    y: Tensor


class _BernoulliNLL(torch.autograd.Function):
    """Sum over pixels of -log p(x | logits), with its gradient in closed form: sigmoid(logits) - x."""

    @staticmethod
    def forward(ctx, logits, x):
        ctx.save_for_backward(logits, x)
        loss = torch.addcmul(torch.relu(logits), logits, x, value=-1).flatten(1).sum(1)
        # what is left, log(1 + exp(-|logits|)), is -log sigmoid(|logits|), and every such factor is 1/2 or more:
        # up to 112 of them are multiplied without leaving float32's range, and share one logarithm
        likely = logits.abs().sigmoid_().flatten(1)
        group = max(g for g in range(1, 113) if likely.shape[1] % g == 0)
        return loss - likely.unflatten(1, (-1, group)).prod(2).log_().sum(1)

    @staticmethod
    def backward(ctx, grad):
        logits, x = ctx.saved_tensors
        shape = [-1] + [1] * (logits.ndim - 1)
        return torch.sigmoid(logits).sub_(x).mul_(grad.view(shape)), None


def bernoulli_nll(logits, x):
    """-log p(x | z) of independent Bernoulli pixels, nats per image; differentiable in the logits.

    logits, x (B, ...) of one shape -> (B,). x lies in [0, 1]; for grey pixels this is a cross-entropy, not a
    likelihood. Equal to torch's binary_cross_entropy_with_logits within 1e-6 a pixel, and faster where logarithms
    are slow: it takes one for 112 pixels.
    """
    if logits.shape != x.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and x {tuple(x.shape)} must have one shape")
    return _BernoulliNLL.apply(logits.to(torch.promote_types(logits.dtype, torch.float32)), x)


class Batches:
    """An endless stream of shuffled batches from a data set that lives on the device.

    images: an ImageSet, or a tensor (N, C, H, W) or (N, H, W): uint8 (scaled to [0, 1] as it is gathered) or
    float (used as it is, for latents). `transform` maps x (B, C, H, W) to x on the device, for binarising or
    augmenting. Every epoch is a fresh permutation from its own generator, so the order of the data does not
    depend on the model; the incomplete last batch of an epoch is left out.
    sharded: each of several processes keeps only its own share of the images and shuffles within it, for a data
    set that does not fit on one device. `batch_size` is that of the whole batch in any case.
    Raises ValueError for shapes and sizes that do not fit.
    """

    def __init__(self, images, labels=None, *, batch_size, device=None, seed=0, transform=None, sharded=False):
        if hasattr(images, "images"):
            images, labels = images.images, images.labels
        if images.ndim == 3:
            images = images[:, None]
        if labels is None:
            labels = torch.zeros(len(images), dtype=torch.int64)
        if images.ndim != 4 or len(labels) != len(images):
            raise ValueError(f"images {tuple(images.shape)} and labels {tuple(labels.shape)}: "
                             "expected (N, C, H, W) and (N,)")
        if not 1 <= batch_size <= len(images):
            raise ValueError(f"batch_size={batch_size} does not fit {len(images)} images: choose 1 to {len(images)}")
        world = shares.processes()
        if batch_size % world:
            raise ValueError(f"batch_size={batch_size} cannot be shared by {world} processes: choose a multiple")
        self.device = _indexed(torch.device(device) if device is not None else runtime.device())
        self.sharded = sharded and world > 1
        if self.sharded:  # equal shares, so that one permutation serves every process
            images, labels = (v[shares.rank() :: world][: len(v) // world] for v in (images, labels))
        self.images, self.labels = images.to(self.device), labels.to(self.device)
        self.batch_size, self.transform = batch_size, transform
        self._rows = batch_size // world if self.sharded else batch_size
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self._order, self._position = None, 0

    def __len__(self):
        """Batches in one epoch."""
        return len(self.images) // self._rows

    def take(self, count):
        """Row numbers of the next `count` batches, (count, B) int64 on the device; B of this process if sharded."""
        rows = []
        while count:
            if self._order is None or self._position == len(self):
                self._order = torch.randperm(len(self.images), generator=self._generator, device=self.device)
                self._position = 0
            n = min(count, len(self) - self._position)
            start = self._position * self._rows
            rows.append(self._order[start : start + n * self._rows].view(n, self._rows))
            self._position, count = self._position + n, count - n
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def gather(self, index):
        """The batch of the rows `index` (B,) int64."""
        x = self.images.index_select(0, index)
        if x.dtype == torch.uint8:
            # on a GPU one pass: true division of uint8 gives float32; a processor is quicker in two, to the same bits
            x = x.float().div_(255) if x.device.type == "cpu" else x / 255
        if self.transform is not None:
            x = self.transform(x)
        return Batch(x, self.labels.index_select(0, index))

    def next(self):
        """The next batch: what a hand-written training loop would ask for."""
        return self.gather(self.take(1)[0])

    def state_dict(self):
        order = None if self._order is None else self._order.cpu()
        return {"order": order, "position": self._position, "generator": self._generator.get_state()}

    def load_state_dict(self, state):
        order = state["order"]
        if order is not None and len(order) != len(self.images):
            raise ValueError(f"this state was saved with {len(order)} images, the data set has {len(self.images)}")
        self._order = None if order is None else order.to(self.device)
        self._position = state["position"]
        self._generator.set_state(state["generator"])


@dataclass
class Update:
    """One player's part of a training step: a loss, its optimiser, and what follows.

    repeats: optimiser steps in each training step, every one on a fresh batch (a WGAN critic takes five).
    clip_norm: largest norm of the gradient. after: called after each optimiser step (to clip weights, say).
    Only the optimiser's own parameters receive gradients, so players need not be frozen by hand.
    """

    loss_fn: Callable[[Batch], tuple[Tensor, dict]]
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer]
    repeats: int = 1
    clip_norm: float | None = None
    after: Callable[[], None] | None = None

    @property
    def optimizers(self):
        one = isinstance(self.optimizer, torch.optim.Optimizer)
        return [self.optimizer] if one else list(self.optimizer)

    @property
    def parameters(self):
        return [p for o in self.optimizers for group in o.param_groups for p in group["params"]]


def constant():
    """Schedule of the learning rate: always 1."""
    return lambda p: 1.0


def linear_decay(warmup=0.05, flat=0.0):
    """Rise over the first `warmup` share of training, hold until `flat`, then fall linearly to zero.

    Returns a function of progress p in [0, 1] giving the factor on the learning rate.
    """
    start = max(warmup, flat)
    return lambda p: p / warmup if p < warmup else min(1.0, (1 - p) / (1 - start))


def cosine_decay(warmup=0.05):
    """Rise over the first `warmup` share of training, then fall to zero along half a cosine."""
    return lambda p: p / warmup if p < warmup else 0.5 * (1 + math.cos(math.pi * (p - warmup) / (1 - warmup)))


class TrainStep:
    """A chapter's training step in one of the modes eager, compile or graph.

    loss_fn: a loss function (then `optimizer` is its optimiser) or a list of `Update`s taken in turn.
    model: the module, or a dict of modules, that training changes: saved, restored and averaged as a whole.
    schedule: factor on every learning rate as a function of progress in [0, 1] (`linear_decay()`, ...).
    ema: decay of an exponential moving average of the weights, kept in `ema_model`.
    mode: "eager" always works; "compile" is torch.compile; "graph" replays a captured CUDA graph of
    `steps_per_launch` steps; "auto" is graph on a GPU, else eager. Where a loss cannot be compiled as a whole (players
    share a tensor, a gradient stands inside), those networks are that can; one that cannot be compiled or captured at
    all is run eagerly. A sentence says so, and why. Under torchrun each process takes its share of every batch,
    eagerly, and gradients are averaged (`genmed_core.distributed`).
    seed: of the noise drawn inside the loss function, a stream of its own.
    threads: processor threads of a step. By default an eager step on a processor times itself with one thread and
    with all, and keeps what is faster (`threads.Governor`). The last digits of its sums then depend on the choice;
    give a number here, or set GENMED_THREADS, for runs that agree to the last bit.
    """

    def __init__(self, loss_fn, optimizer=None, *, batches, model, schedule=None, ema=None, clip_norm=None,
                 mode="auto", steps_per_launch=8, seed=0, threads=None):
        if mode not in MODES:
            raise ValueError(f"mode={mode!r}: choose one of {', '.join(MODES)}")
        if callable(loss_fn):
            if optimizer is None:
                raise ValueError("give the optimizer that goes with the loss function")
            loss_fn = [Update(loss_fn, optimizer, clip_norm=clip_norm)]
        self.updates, self.batches, self.device = list(loss_fn), batches, batches.device
        self.model = nn.ModuleDict(model) if isinstance(model, dict) else model
        self.schedule = schedule
        self.count, self.total = 0, 1
        self._parts, self._processes = 1, shares.processes()
        self._losses = [u.loss_fn for u in self.updates] if self._processes == 1 else self._shared_losses()
        self._ema_decay, self._ema = ema, copy.deepcopy(self.model).requires_grad_(False) if ema else None
        if mode == "auto":
            mode = "graph" if self.device.type == "cuda" and self._processes == 1 else "eager"
        if mode == "graph" and self.device.type != "cuda":
            mode = self._fall_back("a CUDA graph needs a CUDA GPU")
        if self._processes > 1 and mode != "eager":
            mode = self._fall_back("several processes average their gradients between the operations of a step")
        self.mode, self._launch = mode, steps_per_launch
        self._governor = self._find_governor() if threads is None else None
        self._threads = threads or self._usual_threads()
        self._graphs, self._captured_total, self._compiled = {}, None, False
        self._compiled_forwards = {}  # network -> its compiled forward, where losses are not compiled as wholes
        if mode == "compile":
            runtime.has_fast_bf16()  # before a compiler follows a loss into it
            self._losses = [_compile(f) for f in self._losses]
        self._optimizers = [o for u in self.updates for o in u.optimizers]
        self._base_lr = [[float(g["lr"]) for g in o.param_groups] for o in self._optimizers]
        self._sums, self._summed = {}, 0
        self._check_devices()
        self._noise, self._streaming = _seeded_noise(seed, self.device), False

    @property
    def ema_model(self):
        """The moving average of the model, for sampling and evaluation; the model itself without `ema`."""
        return self.model if self._ema is None else self._ema

    @property
    def images_per_step(self):
        return self.batches.batch_size * sum(u.repeats for u in self.updates)

    @property
    def threads(self):
        """Processor threads of the next step."""
        return self._governor.threads if self._governor else self._threads

    def run(self, steps, should_stop=lambda: False):
        """Take `steps` training steps, fewer when `should_stop()` turns true between two of them."""
        done = 0
        with _torch_threads(self.threads) as use:
            while done < steps and not should_stop():
                n = self._launch if self.mode == "graph" and steps - done >= self._launch else 1
                if self.mode == "graph":
                    self._replay(n)
                else:
                    use(self.threads)
                    begin = time.perf_counter()
                    self._set_learning_rates(self.count)
                    self._step(self.batches.take(self._batches_per_step))
                    if self._governor:
                        self._governor.tell(time.perf_counter() - begin)
                self.count, done = self.count + n, done + n
                self._summed += n
        return done

    def read_logs(self):
        """Means of the logged values since the last reading; the one place that waits for the device."""
        if not self._summed:
            return {}
        values = shares.average(torch.stack([s.float() for s in self._sums.values()])).tolist()
        means = dict(zip(self._sums, (v / self._summed for v in values)))
        for total in self._sums.values():
            total.zero_()
        self._summed = 0
        return means

    @contextmanager
    def noise_stream(self):
        """Inside, torch's global generators carry on this step's own stream; outside they are untouched."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            _set_noise(self._noise, self.device)
            self._streaming = True
            try:
                yield
            finally:
                self._noise, self._streaming = _get_noise(self.device), False

    def _find_governor(self):
        """Where threads are free to be chosen: not for compiled steps, which are compiled anew for each number."""
        most = runtime.threads_at_most()
        free = not runtime.threads_asked() and self.device.type == "cpu" and self.mode == "eager"
        return Governor(most) if free and most > 1 and self._processes == 1 else None

    def _usual_threads(self):
        """Without a choice: what GENMED_THREADS asks for, else one for short operations, else a share of all."""
        if asked := runtime.threads_asked():
            return asked
        if not _has_convolutions(self.model):
            return 1
        mine = "OMP_NUM_THREADS" in os.environ  # set for each of several processes, by torchrun or by hand
        return max(1, torch.get_num_threads() // (1 if mine else self._processes))

    # --- one step -----------------------------------------------------------------------------------------

    @property
    def _batches_per_step(self):
        return sum(u.repeats for u in self.updates)

    def _step(self, rows):
        """One training step on the batches of `rows` (batches per step, B)."""
        if self.mode == "compile" and not self._compiled:
            return self._first_compiled(rows)
        row = iter(rows)
        with _replaced_forwards(self._compiled_forwards):
            for number, update in enumerate(self.updates):
                for _ in range(update.repeats):
                    self._update(number, update, next(row))
        if self._ema is not None:
            self._update_ema()

    def _update(self, number, update, index):
        if self._parts > 1 or self._processes > 1:
            loss, logs = self._differentiate_shares(number, update, index)
        else:
            loss, logs = self._differentiate(number, update, self.batches.gather(index))
        if update.clip_norm is not None:
            nn.utils.clip_grad_norm_(update.parameters, update.clip_norm)
        for o in update.optimizers:
            self._move(o)
        if update.after is not None:
            with torch.no_grad():
                update.after()
        self._accumulate({"loss": loss.detach(), **logs} if len(self.updates) == 1 else logs, update.repeats)

    def _move(self, optimizer):
        """One step of an optimiser, in a graph also of one whose rate is a number that cannot follow a schedule.

        Such a one (Muon, SGD) steps at its full rate and is drawn back to the schedule's share of the way: its steps
        are proportional to the rate.
        """
        if self.mode != "graph" or self.schedule is None or "capturable" in optimizer.defaults:
            return optimizer.step()
        with torch.no_grad():
            moving = [p for group in optimizer.param_groups for p in group["params"]]
            before = [p.clone() for p in moving]
            optimizer.step()
            way = torch._foreach_sub(moving, before)
            torch._foreach_mul_(way, self._scheduled)
            torch._foreach_copy_(moving, torch._foreach_add(before, way))

    def _differentiate(self, number, update, batch):
        """The loss of one player, its gradients left in its parameters."""
        loss, logs = self._losses[number](batch)
        for o in update.optimizers:
            o.zero_grad(set_to_none=True)
        # with one player every leaf is its own; with two, the other player's weight gradients are not computed
        loss.backward(inputs=update.parameters if len(self.updates) > 1 else None)
        return loss, logs

    def _differentiate_shares(self, number, update, index):
        """The same gradients from this process's share of the batch, in parts taken one after the other."""
        B, rank = self.batches.batch_size, shares.rank()
        first, last = B * rank // self._processes, B * (rank + 1) // self._processes
        at = first if self.batches.sharded else 0  # where `index` begins in the whole batch
        means, noise = {}, _get_noise(self.device)
        for o in update.optimizers:
            o.zero_grad(set_to_none=True)
        for start, stop in shares.parts(first, last, self._parts):
            _set_noise(noise, self.device)  # every part draws the noise of the whole batch, and takes its own rows
            with shares.rows(start, stop, B):
                loss, logs = self._losses[number](self.batches.gather(index[start - at : stop - at]))
            share = (stop - start) / (last - first)
            (loss * share).backward(inputs=update.parameters if len(self.updates) > 1 else None)
            for name, value in {None: loss.detach(), **logs}.items():
                means[name] = means.get(name, 0.0) + value * share
        return means.pop(None), means

    def _shared_losses(self):
        if _normalises_batches(self.model):
            print("note: batch normalisation here takes its mean and variance over each process's share of a batch.")
        wrap = nn.parallel.DistributedDataParallel
        return [wrap(shares.SharedLoss(u.loss_fn, u.parameters)) for u in self.updates]

    def halve(self):
        """Take each batch in twice as many parts and add up their gradients: a mean loss stays the same.

        Raises RuntimeError, naming the setting to change, where that would be another step.
        """
        B, parts = self.batches.batch_size, 2 * self._parts
        why = None
        if len(self.updates) > 1 or self.updates[0].repeats > 1:
            why = "several updates take turns in a step"
        elif _normalises_batches(self.model):
            why = "batch normalisation needs the whole batch at once"
        elif self._processes > 1:
            why = "several processes share it already"
        elif parts > B:
            why = "even single images are too large"
        if why is not None:
            raise RuntimeError(f"out of memory on {self.device} at batch_size={B}: give Batches a smaller batch_size "
                               f"and run the cell again. The batch cannot be taken in parts, since {why}.")
        self._parts = parts
        if self.mode == "graph":
            self._release_graph()
        if self.mode == "compile":
            self._losses, self._compiled_forwards = [u.loss_fn for u in self.updates], {}
        self.mode = "eager"
        print(f"note: out of memory on {self.device} at batch_size={B}; each batch now passes in {parts} parts, "
              "eagerly. Their gradients add up, so a loss that is a mean over the batch stays the same.")

    def _first_compiled(self, rows):
        """The first compiled step: of whole losses; else of those networks that can be compiled; else eager.

        Every attempt begins from the same state and the same noise; the last one is the step that counts.
        """
        before, self._compiled = (self._snapshot(), _get_noise(self.device)), True
        why = self._failure(rows)
        if why is None:
            return
        self._losses = [u.loss_fn for u in self.updates]
        networks = dict(self.model.named_children()) if isinstance(self.model, nn.ModuleDict) else {"model": self.model}
        forwards, able = {name: _compile(net.forward) for name, net in networks.items()}, {}
        for name, forward in forwards.items():
            self._start_over(before, {networks[name]: forward})
            if self._failure(rows) is None:
                able[name] = forward
        self._start_over(before, {networks[name]: forward for name, forward in able.items()})
        if able and self._failure(rows) is None:
            rest = [name for name in networks if name not in able]
            print(f"note: torch.compile cannot handle this loss as a whole ({why}); compiled instead: "
                  f"{', '.join(able)}{'; left as they are: ' + ', '.join(rest) if rest else ''}.")
            return
        self._start_over(before, {})
        self.mode = "eager"
        self._step(rows)  # what is wrong with the loss itself, compiled or not, is raised here
        self._fall_back(f"torch.compile cannot handle this loss ({why})")

    def _failure(self, rows):
        """Take a step -> why a compiler could not, or None."""
        try:
            self._step(rows)
        except torch.OutOfMemoryError:
            raise
        except (torch._dynamo.exc.TorchDynamoException, RuntimeError) as err:
            return _first_line(err)
        return None

    def _start_over(self, before, forwards):
        """Back to the state and noise `before`, with these compiled forwards."""
        kept, noise = before
        self._restore(kept)
        _set_noise(noise, self.device)
        self._compiled_forwards = forwards

    def _accumulate(self, logs, repeats):
        for name, value in logs.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros((), device=self.device)
            self._sums[name] += value / repeats if repeats > 1 else value

    @torch.no_grad()
    def _update_ema(self):
        """Average the weights with a decay that starts near 0 and rises to `ema`, so early steps count little."""
        i = self._counter + 1 if self.mode == "graph" else self.count + 1
        warm = (1 + i) / (10 + i)
        weight = 1 - (warm.clamp(max=self._ema_decay) if torch.is_tensor(warm) else min(self._ema_decay, warm))
        averaged, current = list(self._ema.parameters()), list(self.model.parameters())
        if torch.is_tensor(weight):
            change = torch._foreach_sub(current, averaged)
            torch._foreach_mul_(change, weight)
            torch._foreach_add_(averaged, change)
        else:
            torch._foreach_lerp_(averaged, current, weight)
        for kept, new in zip(self._ema.buffers(), self.model.buffers()):
            kept.copy_(new)

    def _factor(self, step):
        return 1.0 if self.schedule is None else max(0.0, self.schedule(min(1.0, step / max(1, self.total))))

    def _set_learning_rates(self, step):
        if self.schedule is None:
            return
        factor = self._factor(step)
        for o, rates in zip(self._optimizers, self._base_lr):
            for group, rate in zip(o.param_groups, rates):
                group["lr"] = rate * factor

    # --- CUDA graph ---------------------------------------------------------------------------------------

    def _replay(self, steps):
        if self._captured_total != self.total:
            self._prepare_for_capture()
        if steps not in self._graphs:
            try:
                self._graphs[steps] = self._capture(steps)
            except torch.OutOfMemoryError:
                raise
            except Exception as err:  # whatever a student's loss does that a graph cannot hold
                self.mode = self._fall_back(f"this step cannot be captured ({_first_line(err)})")
                self._release_graph()
                for _ in range(steps):
                    self._set_learning_rates(self.count)
                    self._step(self.batches.take(self._batches_per_step))
                    self.count += 1
                self.count -= steps
                return
        graph, rows = self._graphs[steps]
        rows.copy_(self.batches.take(len(rows)))
        self._counter.fill_(self.count)
        graph.replay()

    def _capture(self, steps):
        """Capture `steps` training steps into one graph; weights, moments and noise end as they began."""
        shape = steps * self._batches_per_step, self.batches.batch_size
        rows = torch.zeros(shape, dtype=torch.int64, device=self.device)
        kept, noise = self._snapshot(), _get_noise(self.device)
        try:
            graph, _ = cuda_graphs.capture(lambda: self._captured_steps(rows, steps), self.device,
                                      rehearse=lambda: self._captured_steps(rows, 1))
        finally:
            self._restore(kept)
            _set_noise(noise, self.device)
        return graph, rows

    def _captured_steps(self, rows, steps):
        per = self._batches_per_step
        for i in range(steps):
            self._scheduled = self._table.index_select(0, self._counter.view(1))[0]
            for o, rates in zip(self._optimizers, self._base_lr):
                for group, rate in zip(o.param_groups, rates):
                    if torch.is_tensor(group["lr"]):
                        group["lr"].copy_(rate * self._scheduled)
            self._step(rows[i * per : (i + 1) * per])
            self._counter.add_(1)

    def _prepare_for_capture(self):
        self._graphs, self._captured_total = {}, self.total  # a graph reads the table made for one total
        factors = [self._factor(i) for i in range(self.total + self._launch + 1)]
        self._table = torch.tensor(factors, device=self.device)
        self._counter = torch.zeros((), dtype=torch.int64, device=self.device)
        for o, rates in zip(self._optimizers, self._base_lr):
            for group, rate in zip(o.param_groups, rates):
                if "capturable" not in o.defaults:
                    group["lr"] = rate
                    continue
                group["capturable"] = True
                if not torch.is_tensor(group["lr"]):
                    group["lr"] = torch.tensor(float(group["lr"]), device=self.device)
            for state in o.state.values():
                if torch.is_tensor(state.get("step")):
                    state["step"] = state["step"].to(self.device)

    def _release_graph(self):
        self._graphs, self._captured_total = {}, None
        for o, rates in zip(self._optimizers, self._base_lr):
            for group, rate in zip(o.param_groups, rates):
                group["lr"] = rate

    def _tensors(self):
        """Every tensor that a step changes, by name."""
        found = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        if self._ema is not None:
            found |= {f"ema.{k}": v for k, v in self._ema.state_dict().items()}
        for n, o in enumerate(self._optimizers):
            for m, p in enumerate(p for g in o.param_groups for p in g["params"]):
                found |= {f"opt{n}.{m}.{k}": v for k, v in o.state.get(p, {}).items() if torch.is_tensor(v)}
        return found | {f"sum.{k}": v for k, v in self._sums.items()}

    def _snapshot(self):
        return {name: tensor.detach().clone() for name, tensor in self._tensors().items()}

    @torch.no_grad()
    def _restore(self, kept):
        for name, tensor in self._tensors().items():
            if name in kept:
                tensor.copy_(kept[name])
            else:
                tensor.zero_()  # optimiser moments and sums that did not exist yet start from zero

    # --- saving -------------------------------------------------------------------------------------------

    def state_dict(self):
        """Everything that decides how training goes on, so that a resumed run equals an uninterrupted one."""
        noise = _get_noise(self.device) if self._streaming else self._noise
        state = {
            "count": self.count, "model": self.model.state_dict(), "batches": self.batches.state_dict(),
            "optimizers": [o.state_dict() for o in self._optimizers], "noise": noise,
            "sums": dict(self._sums), "summed": self._summed,
        }
        if self._ema is not None:
            state["ema"] = self._ema.state_dict()
        return copy.deepcopy(state)

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        if self._ema is not None:
            self._ema.load_state_dict(state["ema"])
        for o, saved in zip(self._optimizers, state["optimizers"], strict=True):
            o.load_state_dict(saved)
            for group in o.param_groups if self.mode != "graph" else []:  # saved by a captured step, on a GPU
                group |= {"lr": float(group["lr"])} | ({"capturable": False} if "capturable" in group else {})
        self.batches.load_state_dict(state["batches"])
        self.count, self._noise, self._summed = state["count"], state["noise"], state["summed"]
        self._sums = {k: v.to(self.device).clone() for k, v in state["sums"].items()}
        self._graphs, self._captured_total = {}, None
        if self._streaming:
            _set_noise(self._noise, self.device)

    # --- messages -----------------------------------------------------------------------------------------

    def _fall_back(self, why):
        print(f"note: {why}; running eagerly, which gives the same result.")
        return "eager"

    def _check_devices(self):
        for name, p in self.model.named_parameters():
            if p.device.type != self.device.type:
                raise ValueError(
                    f"parameter {name} is on {p.device}, the data on {self.device}: move the model with "
                    f"model.to({str(self.device)!r}) before making its optimizer"
                )


def _compile(function):
    """torch.compile with the random numbers of eager steps, dealt out in the order of eager memory.

    In another layout randn_like would put them at other places.
    """
    return torch.compile(function, dynamic=False, options={"fallback_random": True, "layout_optimization": False})


@contextmanager
def _replaced_forwards(forwards):
    """Inside, every network of {network: function} computes its forward pass by that function."""
    for network, forward in forwards.items():
        network.forward = forward
    try:
        yield
    finally:
        for network in forwards:
            del network.forward


def _has_convolutions(model):
    return any(isinstance(m, nn.modules.conv._ConvNd) for m in model.modules())


def _normalises_batches(model):
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


@contextmanager
def _torch_threads(count):
    """Inside, torch computes on `count` processor threads, and on another number after use(number)."""
    before = torch.get_num_threads()

    def use(number):
        if number != torch.get_num_threads():
            torch.set_num_threads(number)

    use(count)
    try:
        yield use
    finally:
        torch.set_num_threads(before)


def _indexed(device):
    """The device with its number, so that devices compare equal."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _first_line(err):
    text = str(err).strip().splitlines()
    return text[0][:160] if text else type(err).__name__


def _get_noise(device):
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_noise(state, device):
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _seeded_noise(seed, device):
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        return _get_noise(device)
