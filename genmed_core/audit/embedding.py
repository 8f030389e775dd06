"""A learned fingerprint: a network that knows an image again when it is turned, zoomed or mirrored.

It is trained inside the audit, on the real images alone, by contrast: two random views of an image
belong together, views of different images do not (NT-Xent, Chen et al. 2020, eq. 1; Dar et al. 2024
found memorised patients of latent diffusion models so). Training and held-out images take part
alike, or the one kind would be known better than the other, and a difference say nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from genmed_core.audit.neighbours import local_contrast, small
from genmed_core.audit.views import exposed, placed, random_pose

STEPS, BATCH, WIDTH = 400, 192, 32
TEMPERATURE = 0.1


def network(width: int = WIDTH) -> nn.Sequential:
    """Fingerprints (B, 1, 32, 32) -> (B, 128), about 0.2 million weights."""
    def block(channels: int, out: int, stride: int) -> list[nn.Module]:
        conv = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        return [conv, nn.BatchNorm2d(out), nn.ReLU()]

    return nn.Sequential(*block(1, width // 2, 1), *block(width // 2, width, 2),
                         *block(width, 2 * width, 2), *block(2 * width, 2 * width, 2),
                         nn.Flatten(), nn.Linear(32 * width, 128))


class Embedding(NamedTuple):
    """A trained network, and how well it knows held-out images again."""

    network: nn.Sequential
    validation: dict[str, float]

    @torch.no_grad()
    def __call__(self, images: torch.Tensor, batch: int = 500) -> torch.Tensor:
        """uint8 (N, 1, 64, 64) -> unit vectors (N, 128)."""
        parts = [self.network(local_contrast(small(x))) for x in images.split(batch)]
        return F.normalize(torch.cat(parts), dim=1)


def nt_xent(a: torch.Tensor, b: torch.Tensor, temperature: float = TEMPERATURE) -> torch.Tensor:
    """Chen et al. 2020, eq. 1: a, b (B, d), two views of every image -> scalar."""
    z = F.normalize(torch.cat([a, b]), dim=1)
    alike = z @ z.T / temperature
    alike = alike.fill_diagonal_(-torch.inf)
    other = torch.arange(len(z)).roll(len(a))
    return F.cross_entropy(alike, other)


def train_embedding(train: torch.Tensor, held_out: torch.Tensor, *, seed: int = 0,
                    steps: int = STEPS, tell: Callable[[float], object] = float) -> Embedding:
    """An Embedding of real images, uint8 (N, 1, 64, 64) each. The same seed gives the same one.

    tell(share): called after every step, with the share of them that is done.
    """
    images = small(torch.cat([train, held_out]))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network()
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    size = min(BATCH, len(images))
    for step in range(steps):
        x = images[torch.randperm(len(images), generator=generator)[:size]]
        views = [local_contrast(exposed(placed(x, random_pose(size, generator)), generator))
                 for _ in range(2)]
        a, b = net(torch.cat(views)).chunk(2)
        loss = nt_xent(a, b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        tell((step + 1) / steps)
    net.eval()
    return Embedding(net, known_again(net, train, held_out, generator))


def known_again(net: nn.Sequential, train: torch.Tensor, held_out: torch.Tensor,
                generator: torch.Generator, most: int = 500) -> dict[str, float]:
    """Share of turned and zoomed copies of held-out images whose nearest image is their original.

    Turned up to 12 degrees, zoomed up to 15 %; all other images distract. "among_first": whose
    original is among the first eight.
    """
    embed = Embedding(net, {})
    x = held_out[:most].float() / 255
    copies = placed(x, random_pose(len(x), generator, turn=12, zoom=1.15))
    copies = (255 * copies).round().to(torch.uint8)
    likeness = embed(copies) @ embed(torch.cat([held_out, train])).T
    own = likeness.diagonal()[:, None]
    rank = (likeness > own).sum(1)
    return {"nearest": (rank == 0).float().mean().item(),
            "among_first": (rank < 8).float().mean().item(),
            "copies": len(x), "distractors": len(train) + len(held_out) - 1}
