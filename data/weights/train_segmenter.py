"""Train the audit's segmenter of chest films on phantoms alone, and store it as float16.

    python data/weights/train_segmenter.py        about three minutes on one CPU core; needs no data

The phantom knows where lungs and heart lie. Films and outlines are turned, zoomed, shifted and mirrored together; films
are exposed otherwise, shaded, softened and partly covered, for real ones differ from phantoms in more than anatomy.
"""

import genmed_core  # noqa: F401  (first: sets how OpenMP threads wait)
import torch
from torch.nn import functional as F

from genmed_core import kernels, metrics, runtime, train
from genmed_core.audit import anatomy, views
from genmed_core.synthetic import phantom

SEED, FILMS, STEPS, BATCH = 0, 1600, 2000, 32
generator = torch.Generator().manual_seed(SEED)


def placed(films, organs):
    """Both in the same new pose, (B, 1, 64, 64) and (B, 3, 64, 64); a mirrored film's lungs change names."""
    pose = views.random_pose(len(films), generator, turn=12, zoom=1.25, shift=0.1)
    both = views.placed(torch.cat([films, organs], 1), pose)
    films, organs = both[:, :1], both[:, 1:]
    return films, torch.where(pose.mirrored.view(-1, 1, 1, 1), organs[:, [1, 0, 2]], organs)


def disturbed(films):
    """Films of another exposure, shaded from side to side, some softened, some with a patch of one grey on them."""
    n = len(films)
    films = torch.where(torch.rand(n, 1, 1, 1, generator=generator) < 0.3, views.softened(films, 0.8), films)
    films = views.exposed(films, generator, strength=1.5, noise=0.06)
    slope = 0.25 * (2 * torch.rand(2, n, 1, 1, 1, generator=generator) - 1)
    side = torch.linspace(-1, 1, 64)
    films = films + slope[0] * side + slope[1] * side[:, None]
    corner, size = (torch.randint(a, b, (2, n, 1, 1, 1), generator=generator) for a, b in ((0, 60), (2, 16)))
    row, column = torch.arange(64)[:, None], torch.arange(64)
    patch = (row >= corner[0]) & (row < corner[0] + size[0]) & (column >= corner[1]) & (column < corner[1] + size[1])
    patch = patch & (torch.rand(n, 1, 1, 1, generator=generator) < 0.4)
    return torch.where(patch, torch.rand(n, 1, 1, 1, generator=generator), films).clamp(0, 1)


def loss_fn(batch):
    films, shares = placed(batch.x, organs[batch.y])
    with runtime.autocast("cpu"):
        logits = model(disturbed(films))
    target = torch.cat([1 - shares.sum(1, keepdim=True), shares], 1).clamp(0, 1)
    return F.cross_entropy(logits.float(), target), {}


if __name__ == "__main__":
    images, _, factors = phantom.cxr_phantom(FILMS, seed=100 + SEED)
    organs = phantom.organs(factors)
    torch.manual_seed(SEED)
    model = anatomy.Segmenter()
    step = kernels.TrainStep(loss_fn, torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01), model=model,
                             batches=kernels.Batches(images, torch.arange(FILMS), batch_size=BATCH, seed=SEED),
                             seed=SEED, ema=0.995, schedule=kernels.linear_decay(0.05))
    history = train.fit(step, runtime.budget(STEPS), title="segmenter")
    path = metrics.save_weights(step.ema_model, "chest_segmenter", made_by="python data/weights/train_segmenter.py",
                                steps=step.count, films=FILMS, seconds=round(history.seconds), source="phantom",
                                machine=runtime.machine())
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, {metrics.parameter_count(model):,} parameters, "
          f"{step.count:,} steps of {BATCH}, {history.seconds:.0f} s")
