"""What slips past the audit: training films in disguises that it neither searches for nor plants.

    make study STUDY=audit_slips                              about three minutes of one core
    python tests/benchmarks/studies/audit_slips.py --table    prints the table of the stored figures

One division of the phantoms (number 9; the study `audit_truth` reports 1 to 8), learned once. Forty training films
in each disguise, every one judged alone, by the bars for 500 samples: is it called a copy, and of its own original?
For those of two films either counts. "Likeness" is the median correlation of local contrast at the best pose.
"""

import argparse
import io
import json
from pathlib import Path

import audit_truth
import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional as F

from genmed_core import audit, runtime
from genmed_core.audit.attacks import copies
from genmed_core.audit.intervals import share
from genmed_core.audit.views import no_pose, placed, softened

JSON = audit_truth.OUTPUT.with_name("audit_slips.json")
DIVISION, PLANTED = 9, 40


def bent(amplitude):
    """Every place moved by a smooth random field, `amplitude` pixels in the root of its mean square."""
    def change(x, generator):
        field = torch.randn(len(x), 2, 64, 64, generator=generator)
        field = softened(field.flatten(0, 1)[:, None], 6.0)[:, 0].unflatten(0, (len(x), 2))
        field = field / field.square().mean((1, 2, 3), keepdim=True).sqrt() * amplitude / 32
        grid = F.affine_grid(torch.eye(2, 3).expand(len(x), 2, 3), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid + field.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)
    return change


def posed(turn=0.0, zoom=1.0, shift=0.0, blur=0.0):
    """Turned (degrees), enlarged, shifted (pixels to the right and down) and softened (pixels)."""
    def change(x, _):
        n = len(x)
        pose = no_pose(n)._replace(turn=torch.full((n,), turn), zoom=torch.full((n,), zoom),
                                   shift=torch.full((n, 2), shift / 64))
        return softened(placed(x, pose), blur) if blur else placed(x, pose)
    return change


def stretched(x, _):
    """A tenth wider and a tenth less high."""
    matrix = torch.tensor([[1 / 1.1, 0.0, 0.0], [0.0, 1.1, 0.0]]).expand(len(x), 2, 3)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def erased(side):
    """A grey square over each film, in a place of its own."""
    def change(x, generator):
        x = x.clone()
        for image, (top, left) in zip(x, torch.randint(8, 57 - side, (len(x), 2), generator=generator).tolist()):
            image[:, top:top + side, left:left + side] = 0.5
        return x
    return change


def one_by_one(change):
    """A change of a PIL picture, for each film."""
    def changed(x, _):
        pictures = [change(Image.fromarray(image[0].numpy())) for image in (255 * x).round().to(torch.uint8)]
        return torch.from_numpy(np.stack([np.asarray(p) for p in pictures]))[:, None].float() / 255
    return changed


def as_jpeg(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=10)
    return Image.open(buffer).convert("L")


def joined(axis):
    """One half of a film beside the other half of the next."""
    def change(x, _):
        keep = torch.arange(64) < 32
        keep = keep.view((-1, 1) if axis == 2 else (1, -1))
        return torch.where(keep, x, x.roll(1, 0))
    return change


SLIPS = {
    "JPEG of quality 10": one_by_one(as_jpeg),
    "16 by 16 pixels, enlarged": lambda x, _: F.interpolate(F.avg_pool2d(x, 4), scale_factor=4, mode="bilinear"),
    "eight grey levels": lambda x, _: (7 * x).round() / 7,
    "gamma 0.4": lambda x, _: x**0.4,
    "gamma 2.5": lambda x, _: x**2.5,
    "histogram made even": one_by_one(ImageOps.equalize),
    "negative": lambda x, _: 1 - x,
    "a grey square of 16 pixels": erased(16),
    "a grey square of 28 pixels": erased(28),
    "bent by 1 pixel": bent(1.0),
    "bent by 2 pixels": bent(2.0),
    "bent by 3 pixels": bent(3.0),
    "stretched by a tenth": stretched,
    "turned by 8, enlarged by 10 %, shifted by 3, softened": posed(8.0, 1.1, 3.0, 1.0),
    "turned by 20 degrees": posed(20.0),
    "turned by 90 degrees": lambda x, _: x.rot90(1, (2, 3)),
    "shifted by 8 pixels": posed(shift=8.0),
    "three parts of it and one of another": lambda x, _: 0.75 * x + 0.25 * x.roll(1, 0),
    "left half of one, right half of another": joined(3),
    "upper half of one, lower half of another": joined(2),
}


def measured():
    """{disguise: planted, called copies of their own originals, with interval, and their likeness}."""
    images = audit_truth.phantoms()[0]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(DIVISION))
    train, held = order[:audit_truth.TRAIN], order[audit_truth.TRAIN:audit_truth.TRAIN + audit_truth.HELD]
    known = audit.Known(images[train], images[held], np.random.default_rng(DIVISION))
    neighbours = audit.Neighbours(known, images[train[:2]], np.random.default_rng(DIVISION))
    bar, rows, found = copies.bars(neighbours, 500), torch.arange(PLANTED), {}
    for number, (name, change) in enumerate(SLIPS.items()):
        x = change(images[train[rows]].float() / 255, torch.Generator().manual_seed(number))
        match = neighbours.match((255 * x.clamp(0, 1)).round().to(torch.uint8), "train")
        right = torch.from_numpy(match.which) == rows
        if "another" in name:
            right |= torch.from_numpy(match.which) == rows.roll(1)
        hits = int((torch.from_numpy(copies.is_copy(match, bar)) & right).sum())
        found[name] = share(hits, PLANTED) | {"planted": PLANTED, "found": hits, "nearest": int(right.sum()),
                                              "likeness": float(np.median(match.likeness))}
    return {"division": DIVISION, "strangers": float(np.median(neighbours.matched("held-out", "train").likeness)),
            "disguises": found}


def table(stored):
    """The figures as Markdown."""
    lines = ["| disguise | called a copy | % (95 %) | its own film fits best | likeness |", "|:--|--:|--:|--:|--:|"]
    for name, one in stored["disguises"].items():
        lines.append(f"| {name} | {one['found']} of {one['planted']} | {audit_truth.percent(one)} | "
                     f"{one['nearest']} of {one['planted']} | {one['likeness']:.2f} |")
    return "\n".join([*lines, f"| *no copy: held-out films* | | | | {stored['strangers']:.2f} |"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", type=Path, default=JSON)
    parser.add_argument("--table", action="store_true", help="only print the stored table")
    options = parser.parse_args()
    if not options.table:
        found = {"machine": runtime.machine(), **measured()}
        options.output.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(table(json.loads(options.output.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
