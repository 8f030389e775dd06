"""The U-Net step of chapter 8 against diffusers' UNet2DModel at an equal number of parameters, side by side.

    make bench        (skipped where diffusers is not installed; it is no dependency of this project)

Same images, batch, loss and optimiser; diffusers' network in float32 and in bfloat16, and the faster of the two
counts. Rounds are interleaved, so that another process slows all of them alike; the gate is on the ratio.
"""

import json
import statistics
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from genmed_core import data, diffusion, kernels, metrics, nets, runtime

ROUNDS, STEPS, BATCH, T = 5, 4, 64, 1000
RATIO = 3.0


class Theirs(nn.Module):
    """UNet2DModel with two levels, attention on the lower one, called as our U-Net is."""

    def __init__(self, unet):
        super().__init__()
        self.unet, self.null = unet, 10

    def forward(self, x, t, y):
        return self.unet(x, t, class_labels=y).sample.float()


def diffusers_unet():
    diffusers = pytest.importorskip("diffusers")
    return Theirs(diffusers.UNet2DModel(
        sample_size=28, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(24, 40),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8, num_class_embeds=11))


def training(model, images, device, bf16):
    """-> run(steps): Algorithm 1 on this model, through the project's own kernel."""
    schedule = diffusion.Schedule.cosine(T).to(device)
    model = model.to(device)

    def loss_fn(batch):
        x0 = 2 * batch.x - 1
        t = diffusion.stratified_timesteps(len(x0), T, device=x0.device)
        eps = torch.randn_like(x0)
        y = torch.where(torch.rand(len(x0), device=x0.device) < 0.1, model.null, batch.y)
        with runtime.autocast(x0.device, bf16):
            v_hat = model(diffusion.q_sample(x0, t, eps, schedule), t, y)
        return (diffusion.target(x0, eps, t, schedule, predicts="v") - v_hat).square().mean(), {}

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    batches = kernels.Batches(images, batch_size=BATCH, device=device)
    step = kernels.TrainStep(loss_fn, optimizer, batches=batches, model=model)
    return lambda steps: (step.run(steps), step.read_logs())


def interleaved(runs):
    """{name: run} -> {name: images per second of each round}, one round of each in turn."""
    rates = {name: [] for name in runs}
    for run in runs.values():
        run(2)
    for _ in range(ROUNDS):
        for name, run in runs.items():
            begin = time.perf_counter()
            run(STEPS)  # reading the logs waits for the device
            rates[name].append(STEPS * BATCH / (time.perf_counter() - begin))
    return rates


def test_the_unet_step_against_diffusers():
    theirs, device, images = diffusers_unet(), runtime.device(), data.digits("train")
    ours, count = metrics.parameter_count(nets.UNet()), metrics.parameter_count(theirs)
    assert abs(ours / count - 1) < 0.1, (ours, count)
    torch.manual_seed(0)
    runs = {"genmed": training(nets.UNet(), images, device, True),
            "diffusers, float32": training(theirs, images, device, False)}
    if runtime.has_fast_bf16():
        runs["diffusers, bfloat16"] = training(diffusers_unet(), images, device, True)
    rates = {name: statistics.median(r) for name, r in interleaved(runs).items()}
    ratio = rates["genmed"] / max(rate for name, rate in rates.items() if name != "genmed")
    table = {"machine": runtime.machine(), "n": ROUNDS, "batch": BATCH,
             "parameters": {"genmed": ours, "diffusers": count}, "images per second": rates,
             "ratio to the faster": ratio}
    for name, rate in rates.items():
        print(f"{name:22s} {rate:8,.0f} images/s   {rates['genmed'] / rate:5.2f} x")
    Path(__file__).with_name(f"ddpm_step_{device.type}.json").write_text(json.dumps(table, indent=1) + "\n")
    assert ratio >= RATIO, table
