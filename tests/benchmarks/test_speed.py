"""What the training kernels promise of their speed, on this machine: measured once, then held to it.

    make bench, make bench-gpu        write speed_<device>.json, and from it chapters/speed.md
    GENMED_BENCH=stored make bench    only holds the figures that are stored to the promises

The losses of the three loops are first held against each other: one that computed something else would prove nothing.
"""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import speed  # noqa: E402
import speed_page  # noqa: E402
import steps  # noqa: E402

from genmed_core import runtime  # noqa: E402

BOOK = {"chapter's batch": 2.4, "diffusion": 1.7}
PLAIN, DIFFUSERS, OF_THE_PEAK, LOST = 1.0, 3.0, 0.5, 3.0
ON_A_GPU = {"book": 50.0, "ddpm": 5.0, "seconds": 2.0}
on_a_gpu = pytest.mark.skipif(runtime.device().type != "cuda", reason="a bar for GPUs")


@pytest.fixture(scope="module")
def table():
    device = runtime.device()
    result = speed.result_file(device)
    if os.environ.get("GENMED_BENCH") == "stored":
        return json.loads(result.read_text())
    known = json.loads(result.read_text()).get("parity") if result.exists() else None
    measured = speed.measure() | ({"parity": known} if known else {})  # from `make parity`
    result.write_text(json.dumps(measured, indent=1) + "\n")
    speed_page.write()
    print(f"measured in {measured['took']:.0f} s on {measured['machine']}")
    return measured


def losses(name, ways, x, y, calls=3):
    """Every player's loss on one batch, a few times over, from one seed."""
    lesson = steps.lesson(name, x.device, ways)
    torch.manual_seed(1)
    return [sum(player.loss(x, y)).item() for _ in range(calls) for player in lesson.players
            for _ in range(player.repeats)]


@pytest.mark.parametrize("name", steps.CHAPTERS)
def test_the_loops_compute_one_loss(name):
    device, g = runtime.device(), torch.Generator().manual_seed(0)
    shape = steps.SHAPES[steps.lesson(name, "cpu", steps.PLAIN).data]
    x, y = (torch.rand(64, *shape, generator=g) > 0.8).float(), torch.randint(0, 4, (64,), generator=g)
    x, y = x.to(device), y.to(device)
    plain = losses(name, steps.PLAIN, x, y)
    assert losses(name, steps.BOOK, x, y) == pytest.approx(plain, rel=1e-5)
    for bf16, tolerance in ((False, {"rel": 1e-5}), (True, {"rel": 0.02, "abs": 1e-3})):
        ways = speed.ours_ways(device, bf16, jumps=False)  # a jump draws other numbers; see the next test
        assert losses(name, ways, x, y) == pytest.approx(plain, **tolerance)


def test_a_jump_is_as_hard_as_a_walk():
    """The mean loss of simple diffusion's untrained network, which the noise alone decides, is that of the walk."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(512, 1, 28, 28, generator=g), torch.randint(0, 10, (512,), generator=g)
    walked, jumped = (losses("diffusion", speed.ours_ways("cpu", False, jumps=jumps), x, y, calls=25)
                      for jumps in (False, True))
    assert sum(jumped) == pytest.approx(sum(walked), rel=0.01)


def test_the_vae_against_the_books_loop(table):
    assert table["chapters"]["vae"]["chapter's batch"]["book"] >= BOOK["chapter's batch"]


def test_simple_diffusion_against_the_books_loop(table):
    assert table["chapters"]["diffusion"]["ratios"]["book"] >= BOOK["diffusion"]


@pytest.mark.parametrize("name", steps.CHAPTERS)
def test_never_slower_than_a_plain_loop(table, name):
    assert table["chapters"][name]["ratios"]["plain"] >= PLAIN


def test_the_unet_against_diffusers(table):
    if "diffusers" not in table["chapters"]["ddpm"]["ratios"]:
        pytest.skip("diffusers is not installed; it is no dependency of this project")
    assert table["chapters"]["ddpm"]["ratios"]["diffusers"] >= DIFFUSERS


@on_a_gpu
@pytest.mark.parametrize("name", steps.IN_THE_BOOK)
def test_a_gpu_leaves_the_books_loop_far_behind(table, name):
    assert table["chapters"][name]["ratios"]["book"] >= ON_A_GPU["book"]


@on_a_gpu
def test_a_gpus_unet_against_a_plain_loop(table):
    assert table["chapters"]["ddpm"]["ratios"]["plain"] >= ON_A_GPU["ddpm"]


@on_a_gpu
def test_a_gpu_takes_the_books_whole_training_of_the_vae_in_two_seconds(table):
    assert table["book's training"]["seconds"]["training"] < ON_A_GPU["seconds"]


@pytest.mark.skipif(runtime.device().type != "cpu", reason="a bar for processors")
def test_the_vae_comes_near_what_the_machine_can_multiply(table):
    """In its best form, the larger batch; the page tells how far the chapter's own is."""
    fastest = max(entry["rate"]["median"] for what, entry in table["tried"]["VAE, batch 512"].items()
                  if what.startswith(("as it is", "batch")))
    assert fastest * table["chapters"]["vae"]["flops per image-step"] >= OF_THE_PEAK * table["peak"]["fp32"]


@pytest.mark.parametrize("name", steps.CHAPTERS)
def test_a_busy_core_costs_at_most_a_factor_of_three(table, name):
    if "contention" not in table:
        pytest.skip("measured on processors")
    assert table["contention"][name]["ours"] <= LOST
