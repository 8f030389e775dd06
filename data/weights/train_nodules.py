"""Train the hallucination meter's detector of nodules on phantoms alone, and store it as float16.

    python data/weights/train_nodules.py        about ten minutes on one CPU core; needs no data

Each patient is filmed twice, with a nodule and without, so that nothing but the nodule tells both films apart. A fifth
of the patients is filmed without ribs, a fifth at hospital B. Films are turned, zoomed, shifted, mirrored, exposed
otherwise, noisy and softened as for the segmenter.
"""

import genmed_core  # noqa: F401  (first: sets how OpenMP threads wait)
import torch
from torch.nn import functional as F

from genmed_core import kernels, metrics, runtime, train
from genmed_core.audit import views
from genmed_core.hallucinations import detector
from genmed_core.synthetic import pairs, phantom

SEED, PATIENTS, CHECKED, STEPS, BATCH = 0, 700, 200, 3000, 32
generator = torch.Generator().manual_seed(SEED)
WIDE, WEIGHT = 1.5, 30.0  # of the target's peak, pixels; of a centre against the ground


def patients(n, seed):
    """Films of n patients with a nodule, then without (2n, 1, 64, 64), and the discs of the first n."""
    labels, factors = phantom.cxr_patients(n, seed=seed)
    with_one = pairs.edited(phantom.with_nodules(factors), cage=1.0)
    kind = torch.arange(n) // 4 % 5  # each with all classes
    soft, elsewhere = pairs.edited(with_one, cage=0.0), pairs.at_hospital_b(with_one)
    for where, other in ((kind == 0, soft), (kind == 1, elsewhere)):
        with_one = {name: torch.where(where, other[name], column) for name, column in with_one.items()}
    without = pairs.edited(with_one, nodule=0.0)
    films = [phantom.draw(labels, factors) for factors in (with_one, without)]
    return torch.cat(films), phantom.nodules(with_one)[1]


def peaks(discs):
    """Targets (n, 1, 64, 64): 1 at a disc's centre, falling off around it."""
    side = torch.arange(64.0)
    row, column = ((side - discs[:, k, None]).square() for k in (0, 1))
    return torch.exp(-(row[:, :, None] + column[:, None]) / (2 * WIDE**2))[:, None]


def otherwise(films):
    """Films of another exposure, half of them noisy, a quarter softened."""
    n = len(films)
    films = torch.where(torch.rand(n, 1, 1, 1, generator=generator) < 0.25, views.softened(films, 0.8), films)
    films = views.exposed(films, generator, strength=0.7, noise=0.0)
    noise = 0.04 * (2 * torch.rand(n, 1, 1, 1, generator=generator) - 1).clamp_min(0)
    return (films + noise * torch.randn(films.shape, generator=generator)).clamp(0, 1)


def loss_fn(batch):
    pose = views.random_pose(len(batch.x), generator, turn=10, zoom=1.15, shift=0.08)
    both = views.placed(torch.cat([batch.x, targets[batch.y]], 1), pose)
    films, target = otherwise(both[:, :1]), both[:, 1:]
    with runtime.autocast("cpu"):
        logits = model(films).float()
    return F.binary_cross_entropy_with_logits(logits, target, weight=1 + WEIGHT * target), {}


def checked(model, films, discs):
    """Nodules found in films that were not trained on, and marks in as many films without any."""
    score, n = detector.scores(films, model.eval()), len(discs)
    best = detector.seen_near(score[:n], torch.arange(n), discs[:, :2], discs[:, 2] + detector.NEAR)
    return int((best >= detector.SURE).sum()), len(detector.marks(score[n:]).film)


if __name__ == "__main__":
    images, discs = patients(PATIENTS, 300 + SEED)
    targets = torch.cat([peaks(discs), torch.zeros(PATIENTS, 1, 64, 64)])
    torch.manual_seed(SEED)
    model = detector.Detector()
    step = kernels.TrainStep(loss_fn, torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01), model=model,
                             batches=kernels.Batches(images, torch.arange(2 * PATIENTS), batch_size=BATCH, seed=SEED),
                             seed=SEED, ema=0.995, schedule=kernels.linear_decay(0.05))
    history = train.fit(step, runtime.budget(STEPS), title="detector")
    found, false = checked(step.ema_model, *patients(CHECKED, 900 + SEED))
    path = metrics.save_weights(step.ema_model, "nodule_detector", made_by="python data/weights/train_nodules.py",
                                steps=step.count, films=2 * PATIENTS, seconds=round(history.seconds), source="phantom",
                                machine=runtime.machine(), found=found, lesions=CHECKED, false_marks=false)
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, {metrics.parameter_count(model):,} parameters, "
          f"{step.count:,} steps of {BATCH}, {history.seconds:.0f} s; finds {found} of {CHECKED} nodules, "
          f"{false / CHECKED:.2f} false marks in a film without")
