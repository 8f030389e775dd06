"""The loop: resuming, interruption, faults. Every fault leaves the last good state and a message with a remedy."""

import errno
import os
import signal

import pytest
import torch
from torch import nn
from training_steps import autoencoder, cvae, distance, gan, unet, weights, wgan_gp

from genmed_core import train


@pytest.mark.parametrize("make, options", [(autoencoder, {"ema": 0.9}), (gan, {"ema": 0.9})])
def test_a_resumed_run_equals_an_uninterrupted_one_exactly(digits_like, make, options):
    whole, step = make(*digits_like, **options)
    history = train.fit(step, 60, reports=6)

    _, stopped = make(*digits_like, **options)
    with pytest.raises(ZeroDivisionError):  # the process dies right after the third report
        train.fit(stopped, 60, reports=6, checkpoint="run.pt", callback=lambda s, _: s.count == 30 and 1 / 0)
    _, resumed = make(*digits_like, **options)  # a new process
    with torch.no_grad():
        for p in resumed.model.parameters():  # with other initial weights
            p.add_(0.1)
    rest = train.fit(resumed, 60, reports=6, checkpoint="run.pt")

    assert torch.equal(weights(resumed.model), weights(step.model))
    assert torch.equal(weights(resumed.ema_model), weights(step.ema_model))
    assert rest.steps == history.steps and rest.logs == history.logs


def test_history_records_every_report(digits_like):
    _, step = autoencoder(*digits_like)
    history = train.fit(step, 95, reports=10)
    assert history.steps == [*range(10, 95, 10), 95]
    assert len(history["mse"]) == len(history.steps) and history["mse"][-1] < 0.8 * history["mse"][0]
    assert history.images == 95 * 32 and history.images_per_second > 0


def test_the_stop_button_keeps_everything_and_fit_goes_on(digits_like, capsys):
    reference, whole = autoencoder(*digits_like)
    train.fit(whole, 60, reports=60)
    model, step = autoencoder(*digits_like)
    press = lambda s, _: s.count == 20 and os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(train.TrainingStopped, match="stopped after step 20 of 60. The step keeps its weights"):
        train.fit(step, 60, reports=60, callback=press)
    assert step.count == 20 and len(step.history.steps) == 20
    assert "step 20 of 60, 0 s, stopped" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is handler, "the reader's own handler comes back"
    history = train.fit(step, 60, reports=60)
    assert history.steps == list(range(1, 61)) and torch.equal(weights(model), weights(reference))


def test_an_interrupt_in_the_middle_of_a_step_finishes_the_step(digits_like):
    model, step = autoencoder(*digits_like)
    loss, calls = step.updates[0].loss_fn, []

    def pressed_inside(batch):
        calls.append(1)
        if len(calls) == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(batch)

    step.updates[0].loss_fn = pressed_inside
    with pytest.raises(train.TrainingStopped):
        train.fit(step, 50, reports=2)
    reference, plain = autoencoder(*digits_like)
    plain.total = 50
    plain.run(7)
    assert step.count == 7 and torch.equal(weights(model), weights(reference))


def test_fitting_a_finished_step_says_so(digits_like, capsys):
    _, step = autoencoder(*digits_like)
    train.fit(step, 5)
    train.fit(step, 5)
    assert "already trained for 5 steps" in capsys.readouterr().out


def test_nan_restores_the_last_good_weights_and_names_remedies(digits_like):
    model, step = autoencoder(*digits_like)
    good = {}
    loss, calls = step.updates[0].loss_fn, []

    def breaks(batch):
        calls.append(1)
        value, logs = loss(batch)
        return (value * float("nan") if len(calls) > 25 else value), logs

    step.updates[0].loss_fn = breaks
    with pytest.raises(train.TrainingDiverged, match=r"loss.* became NaN .* step 30.*back at step 20.*learning rate"):
        train.fit(step, 100, reports=10, callback=lambda s, _: good.update({s.count: weights(model)}))
    assert step.count == 20 and torch.equal(weights(model), good[20])


def short_of_memory(step, rows, after=0):
    """Let the first loss fail as a GPU would when it gets more than `rows` images, from the call `after` on."""
    loss, calls = step.updates[0].loss_fn, []

    def limited(batch):
        calls.append(len(batch.x))
        if len(batch.x) > rows and len(calls) > after:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return loss(batch)

    step.updates[0].loss_fn = limited
    return calls


def test_out_of_memory_halves_the_batch_and_changes_nothing_where_no_noise_is_drawn(digits_like, capsys):
    reference, plain = autoencoder(*digits_like, noise=0.0, ema=0.9)
    whole = train.fit(plain, 30, reports=3)
    model, step = autoencoder(*digits_like, noise=0.0, ema=0.9)
    short_of_memory(step, rows=8, after=15)
    history = train.fit(step, 30, reports=3)
    said = capsys.readouterr().out
    assert "out of memory on cpu at batch_size=32; each batch now passes in 2 parts" in said and "4 parts" in said
    assert history.steps == whole.steps and history.images == whole.images
    for name, values in whole.logs.items():
        assert history[name] == pytest.approx(values, rel=1e-4)
    assert distance(weights(model), weights(reference)) < 2e-3  # Adam enlarges rounding while moments are young
    assert distance(weights(step.ema_model), weights(plain.ema_model)) < 2e-3


@pytest.mark.parametrize("make", [unet, cvae])
def test_parts_of_a_batch_draw_noise_of_their_own_of_the_same_distribution(digits_like, make):
    ends = []
    for parts in (1, 4):
        _, step = make(*digits_like, bf16=False)
        for _ in range(parts // 2):
            step.halve()
        ends.append(train.fit(step, 60, reports=2).logs)
    for name, values in ends[0].items():
        assert ends[1][name] != values, "the parts saw the whole batch's noise"
        assert ends[1][name][-1] == pytest.approx(values[-1], rel=0.1), name


def with_batch_norm(images, labels):
    _, step = autoencoder(images, labels)
    step.model.add_module("norm", nn.BatchNorm1d(64))
    return None, step


@pytest.mark.parametrize("make, why", [(autoencoder, "even single images are too large"), (wgan_gp, "several updates"),
                                       (with_batch_norm, "batch normalisation needs the whole batch")])
def test_out_of_memory_names_the_setting_to_change(digits_like, make, why):
    _, step = make(*digits_like)
    before = weights(step.model)
    short_of_memory(step, rows=0)
    with pytest.raises(RuntimeError, match=f"batch_size=32: give Batches a smaller batch_size.*{why}"):
        train.fit(step, 10)
    assert step.count == 0 and torch.equal(weights(step.model), before)


def test_an_error_in_the_loss_leaves_the_last_good_state_and_says_so(digits_like):
    reference, plain = autoencoder(*digits_like)
    train.fit(plain, 40, reports=4)
    model, step = autoencoder(*digits_like)
    loss, calls = step.updates[0].loss_fn, []

    def fails_once(batch):
        calls.append(1)
        if len(calls) == 27:
            raise ValueError("a slip of the reader's")
        return loss(batch)

    step.updates[0].loss_fn = fails_once
    with pytest.raises(ValueError, match="slip") as caught:
        train.fit(step, 40, reports=4)
    assert step.count == 20 and "back at step 20" in caught.value.__notes__[0]
    train.fit(step, 40, reports=4)
    assert torch.equal(weights(model), weights(reference)), "going on equals never having failed"


@pytest.fixture
def stop_button():
    """Python's own handler of Ctrl-C: a process begun in the background of a shell starts without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_stop_button_pressed_twice_gives_way_in_the_middle_of_a_step(digits_like, stop_button):
    model, step = autoencoder(*digits_like)
    loss, good = step.updates[0].loss_fn, {}

    def hangs(batch):
        if step.count == 13:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return loss(batch)

    step.updates[0].loss_fn = hangs
    with pytest.raises(KeyboardInterrupt) as caught:
        train.fit(step, 50, reports=10, callback=lambda s, _: good.update({s.count: weights(model)}))
    assert step.count == 10 and torch.equal(weights(model), good[10])
    assert "back at step 10, the last good one; train.fit with the same step" in caught.value.__notes__[0]


def test_a_disk_that_fills_up_in_the_middle_of_a_checkpoint_keeps_the_old_one(digits_like, monkeypatch, capsys):
    from genmed_core import runtime

    _, step = autoencoder(*digits_like)
    train.fit(step, 10, reports=1, checkpoint="run.pt")
    path = runtime.runs_dir() / "run.pt"
    whole = path.read_bytes()

    class Filling:
        """A file on a disk with room for 5,000 bytes."""

        def __init__(self, file):
            self.file, self.room = file, 5_000

        def write(self, data):
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

        def flush(self):
            self.file.flush()

    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, file: save(state, Filling(file)))
    train.fit(step, 20, reports=2, checkpoint="run.pt")
    said = capsys.readouterr().out
    assert "run.pt not saved at step 20" in said and path.read_bytes() == whole
    assert [p.name for p in path.parent.iterdir()] == ["run.pt"]
    _, again = autoencoder(*digits_like)
    train.load_checkpoint(again, path)
    assert again.count == 10


def test_a_full_disk_does_not_end_training_and_keeps_the_last_checkpoint(digits_like, monkeypatch, capsys):
    from genmed_core import runtime

    _, step = autoencoder(*digits_like)
    train.fit(step, 10, reports=1, checkpoint="run.pt")
    path = runtime.runs_dir() / "run.pt"
    whole = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    train.fit(step, 20, reports=2, checkpoint="run.pt")
    said = capsys.readouterr().out
    assert "run.pt not saved at step 20 (No space left on device)" in said and "GENMED_RUNS" in said
    assert path.read_bytes() == whole and step.count == 20
    assert [p.name for p in path.parent.iterdir()] == ["run.pt"], "no half-written file stays behind"


@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b"<html>not found</html>", lambda b: b""])
def test_a_damaged_checkpoint_is_named_with_a_remedy(digits_like, spoil):
    from genmed_core import runtime

    _, step = autoencoder(*digits_like)
    train.fit(step, 10, checkpoint="run.pt")
    path = runtime.runs_dir() / "run.pt"
    path.write_bytes(spoil(path.read_bytes()))
    _, fresh = autoencoder(*digits_like)
    with pytest.raises(train.CheckpointError, match=r"run.pt is not a whole genmed checkpoint: name another"):
        train.fit(fresh, 10, checkpoint="run.pt")


def test_a_checkpoint_of_another_model_is_refused_and_nothing_changes(digits_like):
    _, step = autoencoder(*digits_like)
    train.fit(step, 10, checkpoint="run.pt")
    models, other = gan(*digits_like)
    before = weights(other.model)
    with pytest.raises(train.CheckpointError, match="belongs to another training: model: .* and 15 more; optimizers"):
        train.fit(other, 10, checkpoint="run.pt")
    assert torch.equal(weights(other.model), before) and other.count == 0


def test_a_checkpoint_of_another_data_set_is_refused(digits_like):
    images, labels = digits_like
    _, step = autoencoder(images, labels)
    train.fit(step, 10, checkpoint="run.pt")
    _, other = autoencoder(images[:256], labels[:256])
    with pytest.raises(train.CheckpointError, match="number of images 512 in the file, 256 here; other images"):
        train.fit(other, 10, checkpoint="run.pt")


def test_the_progress_bar_is_plain_html_in_its_last_state():
    bar = train.ProgressBar(200, "VAE <b>")
    bar.__enter__()
    bar.update(200, "loss 1.5")
    bundle = bar.bundle()
    assert '<progress max="200" value="200"' in bundle["text/html"] and "&lt;b&gt;" in bundle["text/html"]
    assert "step 200 of 200" in bundle["text/plain"] and "loss 1.5" in bundle["text/plain"]
