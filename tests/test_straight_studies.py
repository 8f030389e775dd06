"""The studies of straight paths: what a network is told and asked on either path, and which pairs it learns from."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent / "benchmarks" / "studies"))
import latents  # noqa: E402
import straighter  # noqa: E402

from genmed_core import chapters, diffusion, kernels  # noqa: E402
from genmed_core import flow_matching as flow  # noqa: E402

X0, EPS = torch.randn(2, 4, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Knows(nn.Module):
    """A network that knows its pictures and their noise, and keeps what it was told."""

    null = 10

    def forward(self, x_t, k, y):
        self.told = x_t, k
        return X0 - EPS


def test_a_network_of_the_straight_path_answers_on_chapter_9s():
    schedule, net, t = diffusion.Schedule.cosine(1000), Knows(), torch.tensor([3, 300, 700, 990])
    z = diffusion.q_sample(X0, t, EPS, schedule)
    v = latents.OnItsPath(net, schedule)(z, t, torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(v, diffusion.target(X0, EPS, t, schedule, predicts="v"), rtol=0, atol=1e-5)
    x_t, k = net.told
    times = flow.time_of_step(t, schedule)
    torch.testing.assert_close(x_t, flow.interpolate(X0, EPS, times), rtol=0, atol=1e-5)
    torch.testing.assert_close(1 - (k + 1) / 1000, times, rtol=0, atol=1e-6)


@pytest.mark.parametrize("noise, loss", [(EPS, 0.0), (-EPS, (2 * EPS).square().mean().item())])
def test_reflow_learns_from_the_pairs_that_it_is_given(noise, loss):
    batch = kernels.Batch(torch.cat([noise, X0], 1), torch.zeros(4, dtype=torch.long))
    found, _ = straighter.loss_of(Knows(), paired=True)(batch)
    assert found.item() == pytest.approx(loss, abs=1e-6)


def test_without_pairs_the_noise_is_drawn_anew():
    batch = kernels.Batch((X0 + 1) / 2, torch.zeros(4, dtype=torch.long))
    losses = {straighter.loss_of(Knows(), paired=False)(batch)[0].item() for _ in range(3)}
    assert len(losses) == 3 and min(losses) > 0.1


def test_the_studies_replace_lines_that_chapter_9_still_holds():
    cell = next(c.source for c in chapters.cells(latents._films.CHAPTER) if "def latent_loss" in c.source)
    source = latents.changed(cell, latents.STRAIGHT)
    assert "flow_matching.interpolate" in source and "q_sample" not in source
