"""The training kernels: batches, the step in its modes, several players, averages, schedules."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from training_steps import autoencoder, distance, gan, weights, wgan_gp

from genmed_core import kernels, runtime, train

# --- batches ----------------------------------------------------------------------------------------------


def test_an_epoch_visits_every_row_once_and_epochs_differ(digits_like):
    images, labels = digits_like
    batches = kernels.Batches(images, labels, batch_size=50, device="cpu")
    assert len(batches) == 10  # 512 // 50: the incomplete batch is left out
    first, second = batches.take(10), batches.take(10)
    assert first.unique().numel() == 500 and second.unique().numel() == 500
    assert not torch.equal(first, second)


def test_taking_many_batches_at_once_gives_the_same_stream(digits_like):
    images, labels = digits_like
    one, many = (kernels.Batches(images, labels, batch_size=50, device="cpu", seed=3) for _ in range(2))
    assert torch.equal(torch.cat([one.take(1) for _ in range(25)]), torch.cat([many.take(7), many.take(18)]))


def test_the_order_of_the_data_does_not_depend_on_the_global_generator(digits_like):
    images, labels = digits_like
    orders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        torch.rand(seed)
        orders.append(kernels.Batches(images, labels, batch_size=64, device="cpu", seed=5).take(8))
    assert torch.equal(*orders)


def test_batches_are_scaled_labelled_and_transformed(digits_like):
    images, labels = digits_like
    batches = kernels.Batches(images, labels, batch_size=512, device="cpu", transform=lambda x: (x > 0.5).float())
    index = batches.take(1)[0]
    x, y = batches.gather(index)
    assert torch.equal(x, (images[index] > 127).float()) and torch.equal(y, labels[index])
    latents = torch.randn(512, 4, 2, 2)
    assert torch.equal(kernels.Batches(latents, batch_size=8, device="cpu").gather(torch.arange(8)).x, latents[:8])


@pytest.mark.parametrize("size", [0, 513])
def test_a_batch_size_that_does_not_fit_is_named(digits_like, size):
    with pytest.raises(ValueError, match=f"batch_size={size} does not fit 512 images"):
        kernels.Batches(*digits_like, batch_size=size)


def test_shapes_that_do_not_fit_are_named(digits_like):
    images, labels = digits_like
    with pytest.raises(ValueError, match=r"labels \(100,\): expected \(512,\)"):
        kernels.Batches(images, labels[:100], batch_size=8)


# --- the Bernoulli loss -----------------------------------------------------------------------------------


def test_the_bernoulli_loss_equals_float64_for_all_logits():
    logits = torch.cat([torch.linspace(-60, 60, 241), torch.randn(500) * 5]).view(-1, 1, 1, 1)
    x = torch.rand_like(logits)
    exact = F.binary_cross_entropy_with_logits(logits.double(), x.double(), reduction="none").flatten()
    assert torch.allclose(kernels.bernoulli_nll(logits, x).double(), exact, rtol=1e-6, atol=1e-6)


def test_the_gradient_of_the_bernoulli_loss_is_the_one_autograd_finds():
    logits, x = torch.randn(6, 1, 5, 5, dtype=torch.float32, requires_grad=True), torch.rand(6, 1, 5, 5)
    weight = torch.rand(6)
    (ours,) = torch.autograd.grad((weight * kernels.bernoulli_nll(logits, x)).sum(), logits)
    torchs = F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)
    (theirs,) = torch.autograd.grad((weight * torchs).sum(), logits)
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("pixels", [1, 7, 113, 784])
def test_the_bernoulli_loss_multiplies_likelihoods_without_leaving_float32(pixels):
    logits, x = torch.zeros(2, pixels), torch.ones(2, pixels)  # 1/2 each: the smallest factors there are
    assert torch.allclose(kernels.bernoulli_nll(logits, x), torch.full((2,), pixels * math.log(2)))


@pytest.fixture
def threads_seen(monkeypatch):
    """-> start(model, **options): a TrainStep on a machine of four cores, and the threads its steps ran on."""
    monkeypatch.delenv("GENMED_THREADS")
    monkeypatch.setattr(runtime, "threads_at_most", lambda: 4)

    def start(model, **options):
        seen = []

        def loss_fn(batch):
            seen.append(torch.get_num_threads())
            return model(batch.x).square().mean(), {}

        batches = kernels.Batches(torch.zeros(8, 1, 28, 28, dtype=torch.uint8), batch_size=4, device="cpu")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return kernels.TrainStep(loss_fn, optimizer, batches=batches, model=model, **options), seen

    return start


def test_a_training_tries_its_threads_and_leaves_the_rest_alone(threads_seen, monkeypatch):
    before = torch.get_num_threads()
    step, seen = threads_seen(nn.Conv2d(1, 1, 3))
    clock = iter(range(10_000))  # every reading a second later: each step is a block of its own
    now = lambda: next(clock) / (1 if torch.get_num_threads() > 1 else 2)  # noqa: E731
    monkeypatch.setattr(kernels.modes.time, "perf_counter", now)
    train.fit(step, 20, reports=2)
    assert set(seen) == {1, 4} and torch.get_num_threads() == before


def test_threads_that_were_asked_for_are_kept(threads_seen, monkeypatch):
    step, seen = threads_seen(nn.Conv2d(1, 1, 3), threads=2)
    step.run(3)
    monkeypatch.setenv("GENMED_THREADS", "3")
    step, also = threads_seen(nn.Linear(28, 1))
    step.run(3)
    assert seen == [2, 2, 2] and also == [3, 3, 3]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_threads_are_given_back_when_a_step_fails(threads_seen, monkeypatch, error):
    before, model = torch.get_num_threads(), nn.Linear(28, 1)
    step, seen = threads_seen(model, threads=3)
    step.run(1)
    monkeypatch.setattr(model, "forward", lambda x: (_ for _ in ()).throw(error()))
    with pytest.raises(error):
        train.fit(step, 5)
    assert seen[-1] == 3 != before and torch.get_num_threads() == before


def test_each_of_several_processes_takes_its_share_of_the_cores(threads_seen, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(kernels.shares, "processes", lambda: 2)
    monkeypatch.setattr(kernels.shares, "rank", lambda: 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(kernels.step, "_shared", lambda updates, model: updates)
    step, _ = threads_seen(nn.Conv2d(1, 1, 3))
    assert step.threads_used.governor is None and step.threads == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert kernels.threads.usual_threads(step.model) == 4, "torchrun or the reader has said so"


def test_the_bernoulli_loss_refuses_to_broadcast():
    with pytest.raises(ValueError, match=r"logits .4, 1. and x .4, 3. must have one shape"):
        kernels.bernoulli_nll(torch.zeros(4, 1), torch.zeros(4, 3))


# --- one player -------------------------------------------------------------------------------------------


def test_a_step_equals_a_hand_written_loop(digits_like):
    """The kernel adds nothing to the arithmetic: the same weights, bit for bit, as ten plain lines."""
    images, labels = digits_like
    model, step = autoencoder(images, labels)
    step.rates.schedule = None
    twin = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=3e-3)
    batches = kernels.Batches(images, labels, batch_size=32, device="cpu", seed=0)
    train.fit(step, 40)
    torch.manual_seed(0)
    for _ in range(40):
        x = batches.next().x
        loss = F.mse_loss(twin(x + 0.1 * torch.randn_like(x)), x.flatten(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(weights(model), weights(twin))


@pytest.mark.parametrize("make", [autoencoder, gan])
def test_compiled_and_eager_agree_over_100_steps(digits_like, make):
    ends, logs = {}, {}
    for mode in ("eager", "compile"):
        _, step = make(*digits_like, mode=mode)
        logs[mode] = train.fit(step, 100, reports=5).logs
        assert step.mode == mode
        ends[mode] = weights(step.model)
    assert distance(ends["compile"], ends["eager"]) < 1e-3  # RMSprop and Adam enlarge rounding while moments are young
    for name, values in logs["eager"].items():
        assert logs["compile"][name] == pytest.approx(values, rel=1e-3, abs=1e-5)


def test_a_gradient_inside_the_loss_leaves_the_other_network_compiled(digits_like, capsys):
    ends = {}
    for mode in ("eager", "compile"):
        _, step = wgan_gp(*digits_like, mode=mode)
        train.fit(step, 20)
        ends[mode] = weights(step.model)
    said = capsys.readouterr().out
    assert step.mode == "compile" and list(step.running.forwards) == ["G"]
    assert "double backward); compiled instead: G; left as they are: D." in said
    assert distance(ends["compile"], ends["eager"]) < 1e-3
    assert "forward" not in vars(step.model["G"]), "between steps the networks are as they were"


def test_players_that_share_a_tensor_are_compiled_by_their_networks(digits_like, capsys):
    """The second player's backward pass needs what the first one's frees, when each loss is a single compiled node."""
    ends = {}
    for mode in ("eager", "compile"):
        _, step = gan(*digits_like, mode=mode, critic_steps=1, shared=True)
        logs = train.fit(step, 50, reports=5).logs
        ends[mode] = weights(step.model), logs["generator"]
    assert step.mode == "compile" and set(step.running.forwards) == {"G", "D"}
    assert "second time" in (said := capsys.readouterr().out) and "compiled instead: G, D." in said
    assert distance(ends["compile"][0], ends["eager"][0]) < 1e-3
    assert ends["compile"][1] == pytest.approx(ends["eager"][1], rel=1e-3)


def test_an_error_in_the_loss_itself_is_not_taken_for_the_compilers(digits_like, monkeypatch, capsys):
    monkeypatch.setattr(torch, "compile", lambda f, **_: f)
    _, step = autoencoder(*digits_like, mode="compile")
    broken = lambda batch: (batch.x @ batch.x[:, :, :1], {})  # noqa: E731
    step.updates[0].loss_fn = step.running.losses[id(step.updates[0])] = broken
    with pytest.raises(RuntimeError, match="(?i)size|shape|expected"):
        train.fit(step, 2)
    assert "torch.compile" not in capsys.readouterr().out


def test_a_loss_that_cannot_be_compiled_runs_eagerly_and_says_so(digits_like, monkeypatch, capsys):
    def no_compiler(f, **_):
        def broken(batch):
            raise torch._dynamo.exc.TorchDynamoException("no C++ compiler here\nlong trace")
        return broken

    monkeypatch.setattr(torch, "compile", no_compiler)
    model, step = autoencoder(*digits_like, mode="compile")
    reference, plain = autoencoder(*digits_like)
    train.fit(step, 20)
    train.fit(plain, 20)
    assert "cannot handle this loss (no C++ compiler here); running eagerly" in capsys.readouterr().out
    assert torch.equal(weights(model), weights(reference))


def test_graph_mode_without_a_gpu_says_so(digits_like, capsys):
    _, step = autoencoder(*digits_like, mode="graph")
    assert step.mode == "eager" and "needs a CUDA GPU" in capsys.readouterr().out


def test_an_unknown_mode_lists_the_choices(digits_like):
    with pytest.raises(ValueError, match="auto, eager, compile, graph"):
        autoencoder(*digits_like, mode="fast")


def test_the_noise_of_a_step_does_not_depend_on_what_the_notebook_draws(digits_like):
    results = []
    for draws in (0, 17):
        model, step = autoencoder(*digits_like)
        train.fit(step, 10)
        torch.randn(draws)
        before = torch.get_rng_state()
        step.total = 20
        train.fit(step, 20)
        assert torch.equal(before, torch.get_rng_state()), "training must leave the reader's generator alone"
        results.append(weights(model))
    assert torch.equal(*results)


def test_the_schedule_reaches_every_group_and_ends_at_zero(digits_like):
    _, step = autoencoder(*digits_like)
    step.total, rates = 20, []
    for _ in range(20):
        step.run(1)
        rates.append(step.updates[0].optimizer.param_groups[0]["lr"])
    assert rates[0] == 0 and max(rates) == pytest.approx(3e-3) and rates[-1] == pytest.approx(3e-3 / 18)


@pytest.mark.parametrize("schedule, middle", [
    (kernels.linear_decay(0.1), 0.5 / 0.9), (kernels.linear_decay(0.1, flat=0.5), 1.0),
    (kernels.cosine_decay(0.0), 0.5), (kernels.linear_decay(0.0, flat=1), 1.0),
])
def test_schedules_at_their_known_points(schedule, middle):
    assert schedule(0.5) == pytest.approx(middle)
    assert all(0 <= schedule(i / 100) <= 1 for i in range(101))
    if schedule(0.2) != schedule(0.9):
        assert schedule(1.0) == pytest.approx(0, abs=1e-12)


# --- moving average ---------------------------------------------------------------------------------------


def test_the_moving_average_follows_its_closed_form(digits_like):
    model, step = autoencoder(*digits_like, ema=0.9)
    average = weights(step.ema_model)
    for i in range(1, 31):
        step.total = 30
        step.run(1)
        decay = min(0.9, (1 + i) / (10 + i))
        average = decay * average + (1 - decay) * weights(model)
    assert distance(weights(step.ema_model), average) < 1e-6
    assert distance(weights(model), average) > 1e-3


def test_without_ema_the_average_is_the_model(digits_like):
    model, step = autoencoder(*digits_like)
    assert step.ema_model is model


def test_the_average_of_buffers_follows_the_model(digits_like):
    models, step = gan(*digits_like, ema=0.9)
    step.run(5)
    assert torch.equal(step.ema_model["G"][1].running_mean, models["G"][1].running_mean)


# --- several players --------------------------------------------------------------------------------------


def test_each_player_moves_only_its_own_weights(digits_like):
    models, step = gan(*digits_like)
    step.updates[1].optimizer.param_groups[0]["lr"] = 0.0
    generator, critic = (weights(nn.Sequential(*models[k])).clone() for k in "GD")
    step.run(3)
    moved = weights(models["G"]) - generator
    learned = list(models["G"].parameters())
    assert torch.equal(torch.cat([p.detach().double().flatten() for p in learned]), torch.cat(
        [p.detach().double().flatten() for p in gan(*digits_like)[0]["G"].parameters()]))
    assert moved.abs().sum() > 0  # the BatchNorm statistics follow the data
    assert distance(weights(models["D"]), critic) > 1e-3


def test_a_critic_takes_its_repeats_on_fresh_batches(digits_like):
    models, step = gan(*digits_like, critic_steps=5)
    seen = []
    loss = step.updates[0].loss_fn
    step.updates[0].loss_fn = lambda batch: (seen.append(batch.x.clone()), loss(batch))[1]
    step.run(2)
    assert len(seen) == 10
    assert all(not torch.equal(a, b) for a, b in zip(seen, seen[1:]))
    assert step.images_per_step == 6 * 32


def test_weights_are_clipped_after_every_critic_step(digits_like):
    models, step = gan(*digits_like, clip=0.02)
    step.run(10)
    assert max(p.abs().max() for p in models["D"].parameters()) <= 0.02 + 1e-9


def test_logs_are_means_over_steps_and_repeats(digits_like):
    images, labels = digits_like
    model = nn.Linear(1, 1)
    calls = iter(range(100))

    def loss_fn(batch):
        value = torch.tensor(float(next(calls)))
        return model.weight.sum() * 0, {"value": value}

    update = kernels.Update(loss_fn, torch.optim.SGD(model.parameters(), lr=0.1), repeats=2)
    other = kernels.Update(lambda b: (model.bias.sum(), {}), torch.optim.SGD(model.parameters(), lr=0.1))
    batches = kernels.Batches(images, labels, batch_size=8, device="cpu")
    step = kernels.TrainStep([update, other], batches=batches, model=model)
    step.run(4)
    assert step.read_logs() == {"value": pytest.approx(3.5)}
    assert step.read_logs() == {}


def test_gradients_are_clipped_to_the_norm_asked_for(digits_like):
    images, labels = digits_like
    model = nn.Linear(64, 1)
    step = kernels.TrainStep(
        lambda b: (1e3 * model(b.x.flatten(1)).sum(), {}), torch.optim.SGD(model.parameters(), lr=1.0), model=model,
        batches=kernels.Batches(images, labels, batch_size=8, device="cpu"), clip_norm=0.5)
    before = weights(model)
    step.run(1)
    assert (weights(model) - before).norm() == pytest.approx(0.5, rel=1e-4)


def test_a_loss_without_an_optimizer_is_refused(digits_like):
    with pytest.raises(ValueError, match="give the optimizer"):
        kernels.TrainStep(lambda b: b, batches=kernels.Batches(*digits_like, batch_size=8), model=nn.Linear(1, 1))


def test_what_a_captured_step_saved_is_taken_up_without_a_gpu(digits_like):
    model, step = autoencoder(*digits_like)
    reference, plain = autoencoder(*digits_like)
    train.fit(step, 10)
    state = step.state_dict()
    for group in state["optimizers"][0]["param_groups"]:
        group.update(lr=torch.tensor(group["lr"]), capturable=True)  # as on a GPU
    step.load_state_dict(state)
    train.fit(plain, 10)
    for s in (step, plain):
        train.fit(s, 20)
    assert torch.equal(weights(model), weights(reference))


class DtypesMultiplied(TorchDispatchMode):
    """Notes the number types of the matrix products below it."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.seen.append(args[-1].dtype)
        return function(*args, **(kwargs or {}))

    def __init__(self):
        super().__init__()
        self.seen = []


@pytest.mark.parametrize("shape", [(48, 96), (96, 48)])
def test_muon_without_bfloat16_is_torchs_to_rounding_and_multiplies_in_float32(monkeypatch, shape):
    ends, theirs = {}, torch.optim._muon._zeropower_via_newtonschulz
    for fast in (True, False):
        monkeypatch.setattr(runtime, "has_fast_bf16", lambda where=None, fast=fast: fast)
        torch.manual_seed(0)
        layer = nn.Linear(*shape, bias=False)
        step = kernels.TrainStep(lambda b, layer=layer: (layer(b.x).square().mean(), {}),
                                 torch.optim.Muon(layer.parameters(), lr=0.1), mode="eager", model=layer,
                                 batches=kernels.Batches(torch.rand(64, 1, 1, shape[0]), batch_size=32, device="cpu"))
        before = layer.weight.detach().clone()
        with DtypesMultiplied() as products:
            step.run(1)
        ends[fast] = layer.weight.detach() - before
        own = products.seen[-15:]  # five iterations of three products, after those of the loss
        assert own == 15 * [torch.bfloat16 if fast else torch.float32]
        assert torch.optim._muon._zeropower_via_newtonschulz is theirs
    assert (ends[True] - ends[False]).norm() < 0.01 * ends[True].norm() and ends[True].norm() > 0.01


@pytest.mark.parametrize("make", [lambda p: torch.optim.Muon(p, lr=0.1), lambda p: torch.optim.SGD(p, 0.1, 0.9)])
def test_an_optimiser_whose_rate_is_a_number_follows_a_schedule_in_a_graph(digits_like, make):
    """What a captured step does with Muon and SGD, done here without a graph: the schedule's share of a full step.

    Muon computes in bfloat16, which enlarges rounding to some thousandths; so it is held against no schedule at all.
    """
    ends = {}
    for mode, schedule in (("eager", True), ("graph", True), ("graph", False)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64, bias=False))
        step = kernels.TrainStep(
            lambda b, model=model: ((model(b.x) - b.x.flatten(1)).square().mean(), {}), make(model.parameters()),
            batches=kernels.Batches(*digits_like, batch_size=32, device="cpu"), model=model,
            schedule=kernels.linear_decay(0.3) if schedule else None, mode="eager")
        step.total = 20
        if mode == "graph":
            step.running = kernels.modes.Captured(step)
            step.running._prepare()
            step.running.record(step.batches.take(20), 20)
        else:
            step.run(20)
        ends[mode, schedule] = weights(model)
    eager, graph, unscheduled = ends.values()
    assert distance(graph, eager) < 0.05 * distance(unscheduled, eager)
