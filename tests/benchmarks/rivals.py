"""The textbook's loop and a plain PyTorch loop, in a process of their own that knows nothing of genmed_core.

speed.py starts `python rivals.py images.pt device` and sends lines of JSON, {"loop": ..., "chapter": ..., "threads": n
or 0, "seconds": s}; each is answered by {"images": image-steps taken, "seconds": time}, or {"absent": why}. So the
rivals run as they would for somebody who had never heard of this project: threads that spin, memory that is returned.

    book        a DataLoader over a Python list of [array, label] pairs, .item() on every part of the loss, every step
    plain       the data set as one float tensor on the device, batches cut from a permutation
    dataloader  the same with a DataLoader over a TensorDataset
    diffusers   the plain loop on diffusers' UNet2DModel; "diffusers, bf16" the same under autocast
    ours        no rival: ours, in a process whose memory speed.py has asked the C library to handle in its own way
"""

import functools
import json
import sys
import time
from types import SimpleNamespace

import steps
import torch
from torch.utils.data import DataLoader, TensorDataset


def endless(loader, device):
    while True:
        for x, y in loader:
            yield x.view(len(x), 1, 28, 28).to(device), y.to(device)  # the book's rows of 784


class Data:
    """The images in the forms that the loops ask for, each made once: {name: {"images": ..., "labels": ...}}."""

    def __init__(self, path, device):
        self.sets, self.device = torch.load(path), device

    @functools.cache  # noqa: B019  (one object, as long as the process lives)
    def floats(self, name, binary):
        images = self.sets[name]["images"]
        return (images > 128).float() if binary else images if images.is_floating_point() else images / 255

    @functools.cache  # noqa: B019
    def pairs(self, name, binary):
        rows = self.floats(name, binary).flatten(1).numpy()
        return [[row, label] for row, label in zip(rows, self.sets[name]["labels"].tolist())]

    def loader(self, lesson, form):
        of = lesson.data, lesson.binary
        pairs = self.pairs(*of) if form == "book" else TensorDataset(self.floats(*of), self.sets[of[0]]["labels"])
        return endless(DataLoader(pairs, batch_size=lesson.batch, shuffle=True, drop_last=True), self.device)

    def cut(self, lesson):
        images, labels = self.floats(lesson.data, lesson.binary), self.sets[lesson.data]["labels"]
        images, labels = images.to(self.device), labels.to(self.device)
        while True:
            order = torch.randperm(len(images), device=self.device)
            for rows in order.split(lesson.batch):
                if len(rows) == lesson.batch:
                    yield images[rows], labels[rows]


def loop(lesson, batches, items):
    """-> step(): one training step of the chapter, one fresh batch for each repeat of the first player."""
    averaged = None
    if lesson.ema:
        average = torch.optim.swa_utils.get_ema_multi_avg_fn(lesson.ema)
        averaged = torch.optim.swa_utils.AveragedModel(lesson.model, multi_avg_fn=average)
    totals = {}

    def step():
        x, y = next(batches)
        for number, player in enumerate(lesson.players):
            for repeat in range(player.repeats * lesson.walk):
                if repeat and lesson.walk == 1:
                    x, y = next(batches)
                parts = player.loss(x, y)
                player.optimizer.zero_grad()
                sum(parts[1:], parts[0]).backward()
                player.optimizer.step()
                if player.after:
                    player.after()
                for k, part in enumerate(parts):
                    value = part.item() if items else part.detach()
                    totals[number, k] = totals.get((number, k), 0.0) + value
        if averaged is not None:
            averaged.update_parameters(lesson.model)

    return step


def image_steps(lesson):
    """Images times optimiser steps in one training step."""
    return lesson.batch * lesson.walk * sum(p.repeats for p in lesson.players)


class Rivals:
    """The loops by name, made when first asked for."""

    def __init__(self, data):
        self.data, self.made, self.threads = data, {}, torch.get_num_threads()

    def ours(self, chapter, batch):
        """-> run(seconds), with this project loaded into the process."""
        import speed

        lesson = steps.lesson(chapter, self.data.device, speed.ours_ways(self.data.device, batch=batch))
        return speed.contestant(lesson, speed.training(lesson, SimpleNamespace(**self.data.sets["digits"]),
                                                       self.data.device))

    def make(self, name, chapter, batch):
        if name.startswith("diffusers"):
            ways = steps.Ways(amp=lambda: torch.autocast(self.data.device.type, torch.bfloat16, name.endswith("bf16")))
            torch.manual_seed(0)
            lesson = steps.ddpm(self.data.device, ways, steps.Theirs())
        else:
            ways = steps.BOOK if name == "book" else steps.PLAIN
            lesson = steps.lesson(chapter, self.data.device, steps.Ways(**(vars(ways) | {"batch": batch})))
        batches = self.data.loader(lesson, name) if name in ("book", "dataloader") else self.data.cut(lesson)
        step = loop(lesson, batches, items=name == "book")
        for _ in range(2):
            step()
        return step, image_steps(lesson)

    def answer(self, asked):
        key = asked["loop"], asked["chapter"], asked.get("batch")
        if asked["loop"] == "ours":
            self.made[key] = run = self.made.get(key) or self.ours(*key[1:])
            return {"images": run(asked["seconds"]) * asked["seconds"], "seconds": asked["seconds"]}
        torch.set_num_threads(asked["threads"] or self.threads)
        if key not in self.made:
            try:
                self.made[key] = self.make(*key)
            except ImportError as err:
                return {"absent": str(err)}
        step, images = self.made[key]
        return timed(step, images, asked["seconds"], self.data.device, 20 if self.data.device.type == "cuda" else 1)


def timed(step, images, seconds, device, together=1):
    """Repeat step() for `seconds`: -> image-steps taken and the time they took.

    A GPU is waited for after so many steps together, so that a loop that does not wait by itself may run ahead.
    """
    taken, begin = 0, time.perf_counter()
    while True:
        for _ in range(together):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken, passed = taken + together * images, time.perf_counter() - begin
        if passed >= seconds:
            return {"images": taken, "seconds": passed}


def main():
    path, device = sys.argv[1:]
    rivals = Rivals(Data(path, torch.device(device)))
    print(json.dumps({"threads": rivals.threads}), flush=True)
    for line in sys.stdin:
        print(json.dumps(rivals.answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
