"""The U-Net: what its parts compute, what the samplers hand it, and that nothing in it is dead."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from genmed_core import diffusion, metrics, nets


def awake(module, seed=0):
    """The module with random weights in place of the zeros that it starts from."""
    torch.manual_seed(seed)
    for p in module.parameters():
        nn.init.normal_(p, std=0.1)
    return module


def noisy(B=4, size=28, channels=1, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(B, channels, size, size, generator=g), torch.randint(0, 1000, (B,), generator=g)


def test_time_embedding_is_sines_and_cosines_at_falling_frequencies():
    t = torch.tensor([0, 1, 999])
    e = nets.time_embedding(t, 64)
    assert e.shape == (3, 64) and e.dtype == torch.float32
    for row, step in zip(e.tolist(), t.tolist()):
        for k in range(32):
            angle = step / 10_000 ** (k / 32)
            assert row[k] == pytest.approx(math.sin(angle), abs=2e-4)
            assert row[32 + k] == pytest.approx(math.cos(angle), abs=2e-4)
    everything = nets.time_embedding(torch.arange(1000), 64)
    apart = torch.cdist(everything, everything) + 9 * torch.eye(1000)
    assert apart.min() > 0.05, "every step has an embedding of its own"


def test_blocks_begin_as_what_they_bypass():
    x, e = torch.randn(2, 16, 7, 7), torch.randn(2, 12)
    assert torch.equal(nets.ResidualBlock(16, 16, 12)(x, e), x)
    assert torch.equal(nets.SelfAttention(16)(x), x)
    wider = nets.ResidualBlock(16, 24, 12)
    torch.testing.assert_close(wider(x, e), wider.short_cut(x))


def test_a_block_is_its_formula_with_eight_groups():
    block, x, e = awake(nets.ResidualBlock(16, 24, 12)), torch.randn(2, 16, 5, 6), torch.randn(2, 12)

    def norm(layer, x):
        return F.group_norm(x, 8, layer.weight, layer.bias)

    scale, shift = (e @ block.modulate.weight.T + block.modulate.bias)[:, :, None, None].split(24, dim=1)
    h = block.conv1(F.silu(norm(block.norm1, x)))
    expected = block.short_cut(x) + block.conv2(F.silu(norm(block.norm2, h) * (1 + scale) + shift))
    torch.testing.assert_close(block(x, e), expected)
    assert {m.num_groups for m in nets.UNet().modules() if isinstance(m, nn.GroupNorm)} == {8}


def test_the_bridge_carries_what_the_middle_does_not():
    model, (x, t) = awake(nets.UNet()), noisy()
    nn.init.zeros_(model.grow[0].weight)
    nn.init.zeros_(model.grow[0].bias)
    assert (model(x, t) - model(x.flip(3), t)).abs().max() > 1e-3


def test_a_generator_draws_by_its_label_and_within_its_range():
    g, z = nets.DigitGenerator(width=8, classes=3).eval(), torch.randn(2, 64)
    a, b = g(z, torch.tensor([0, 0])), g(z, torch.tensor([1, 1]))
    assert (a - b).abs().max() > 1e-3
    for p in g.parameters():
        p.data *= 20
    assert g(z, torch.tensor([0, 2])).abs().max() <= 1


def test_attention_is_the_softmax_of_scaled_products():
    attention, x = awake(nets.SelfAttention(16, heads=2)), torch.randn(3, 16, 4, 5)
    normed = F.group_norm(x, 8, attention.norm.weight, attention.norm.bias)
    places = normed.flatten(2).transpose(1, 2)
    q, k, v = attention.qkv(places).split(16, dim=2)
    heads = []
    for part in (slice(0, 8), slice(8, 16)):
        weight = (q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(8)).softmax(-1)
        heads.append(weight @ v[..., part])
    expected = x + attention.out(torch.cat(heads, 2)).transpose(1, 2).view(3, 16, 4, 5)
    torch.testing.assert_close(attention(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options, shape", [
    ({}, (1, 28, 28)), ({"channels": 4, "patch": 1, "widths": (16, 24)}, (4, 16, 16)),
    ({"patch": 4, "classes": 3}, (1, 64, 64)), ({"patch": 1, "widths": (8, 16)}, (1, 28, 28)),
])
def test_the_output_has_the_shape_of_the_image(options, shape):
    x, t = torch.randn(2, *shape), torch.tensor([0, 999])
    out = nets.UNet(**options)(x, t)
    assert out.shape == x.shape and out.dtype == torch.float32 and (out == 0).all(), "begins at zero"
    assert awake(nets.UNet(**options))(x, t).std() > 0


def test_it_has_fewer_than_a_million_parameters():
    assert metrics.parameter_count(nets.UNet()) == 318_596 < 1_000_000


def test_no_label_is_the_null_label_and_labels_matter():
    model, (x, t) = awake(nets.UNet()), noisy()
    null = torch.full((4,), model.null)
    assert model.null == 10 and torch.equal(model(x, t), model(x, t, null))
    a, b = model(x, t, torch.full((4,), 3)), model(x, t, torch.full((4,), 4))
    assert (a - b).abs().max() > 1e-3
    for y in (null + 1, null - 11, null.float(), null[:, None]):
        with pytest.raises(ValueError, match=r"labels must be int64 \(B,\) from 0 to 10"):
            model(x, t, y)


@pytest.mark.parametrize("make, said", [
    (lambda: nets.UNet()(torch.zeros(2, 1, 30, 30), torch.zeros(2).long()), "multiples of 4"),
    (lambda: nets.UNet()(torch.zeros(28, 28), torch.zeros(28).long()), r"x is \(28, 28\)"),
    (lambda: nets.UNet(widths=(32, 60)), r"widths=\(32, 60\): give two multiples of 8"),
    (lambda: nets.UNet(widths=(8, 16, 32)), "widths"), (lambda: nets.UNet(heads=3), "heads=3: choose a divisor"),
    (lambda: nets.UNet(embedding=130)(torch.zeros(2, 1, 28, 28), torch.zeros(2).long()), "width=65: give an even"),
    (lambda: nets.time_embedding(torch.zeros(2), 0), "width=0"),
    (lambda: nets.shift_augment(torch.zeros(2, 1, 4, 4), -1), "pixels=-1"),
    (lambda: nets.shift_augment(torch.zeros(28, 28)), r"x \(28, 28\) must be"),
    (lambda: nets.DigitGenerator(classes=10)(torch.zeros(2, 64)), "classes=10"),
    (lambda: nets.DigitGenerator()(torch.zeros(2, 64), torch.zeros(2).long()), "classes=None"),
    (lambda: nets.DigitGenerator(classes=10)(torch.zeros(2, 64), torch.tensor([0, 10])), "from 0 to 9"),
])
def test_networks_say_what_does_not_fit(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_the_core_leaves_torchs_choice_of_attention_alone():
    assert torch.backends.cuda.flash_sdp_enabled()
    nets.SelfAttention(16)(torch.randn(2, 16, 4, 4))
    assert torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.mem_efficient_sdp_enabled()


def test_attention_on_a_processor_is_plain_products_on_its_way_back():
    q = torch.randn(2, 4, 49, 16, requires_grad=True)
    names, waiting = set(), [nets._attend(q, q, q).grad_fn]
    while waiting:
        node = waiting.pop()
        names.add(type(node).__name__)
        waiting += [parent for parent, _ in node.next_functions if parent is not None]
    assert any("Softmax" in name for name in names) and not any("Flash" in name for name in names)


@pytest.mark.parametrize("dtype, off", [(torch.float32, 1e-5), (torch.bfloat16, 2**-7)])
def test_attention_without_a_gradient_says_the_same_by_another_kernel(dtype, off):
    """Two units in the last place of bfloat16; values of about 1."""
    q, k, v = torch.randn(3, 2, 4, 49, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    plain = nets._attend(q.clone().requires_grad_(), k, v).detach()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        fused = nets._attend(q, k, v)
    assert any("flash" in event.key for event in profile.key_averages())
    assert (plain - fused).abs().max() < off * plain.abs().max()


def test_shifted_images_keep_their_shape_and_strokes_and_move_by_at_most_so_much():
    torch.manual_seed(0)
    x = torch.zeros(500, 2, 9, 11)
    x[:, 0, 4, 5], x[:, 1, 4, 6] = 1, 2
    moved = nets.shift_augment(x, pixels=2)
    places = moved[:, 0].nonzero()
    assert moved.shape == x.shape and len(places) == 500 and torch.equal(moved.amax((2, 3)), x.amax((2, 3)))
    offsets = places[:, 1:] - torch.tensor([4, 5])
    assert set(offsets.flatten().tolist()) == {-2, -1, 0, 1, 2} and len(offsets.unique(dim=0)) == 25
    assert torch.equal(moved[:, 1].nonzero(), places + torch.tensor([0, 0, 1])), "channels move together"
    assert torch.equal(nets.shift_augment(x, pixels=0), x)


def test_generator_critic_and_classifier_have_the_shapes_they_promise():
    g = nets.DigitGenerator(latent=6, width=8, classes=3)
    x = g(torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1]))
    assert x.shape == (5, 1, 28, 28) and x.abs().max() <= 1
    assert nets.DigitGenerator(width=8)(torch.randn(2, 64)).shape == (2, 1, 28, 28)
    assert nets.DigitCritic(width=8, outputs=4)(x).shape == (5, 4)
    reader = nets.DigitClassifier(width=8)
    assert reader(x).shape == (5, 10) and reader.features(x).shape == (5, 128) and reader.features(x).min() >= 0


def test_the_vae_draws_its_code_with_the_spread_that_it_reports():
    torch.manual_seed(0)
    vae, x = nets.ConvVAE(latent=2, width=8, hidden=16), torch.rand(1, 1, 28, 28).expand(4000, 1, 28, 28)
    vae.encode = lambda x: (torch.full((len(x), 2), 3.0), torch.full((len(x), 2), math.log(0.25)))
    vae.decode = lambda z: z
    z, mu, logvar = vae(x)
    assert z.mean().item() == pytest.approx(3, abs=0.03) and z.std().item() == pytest.approx(0.5, abs=0.02)


def test_time_matters_and_images_of_a_batch_do_not_see_each_other():
    model, (x, t) = awake(nets.UNet()), noisy()
    assert (model(x, t) - model(x, (t + 500) % 1000)).abs().max() > 1e-3
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(model(x, t), alone, atol=1e-4, rtol=1e-4)


def test_a_gradient_reaches_every_parameter():
    model, (x, t) = awake(nets.UNet()), noisy(11)
    model(x, t, torch.arange(11)).square().mean().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


@pytest.mark.parametrize("guidance, eta", [(None, 0.0), (1.5, 0.0), (1.5, 1.0)])
def test_the_samplers_can_use_it(guidance, eta):
    model, s = awake(nets.UNet()), diffusion.Schedule.cosine(T=50)
    y, x_T = torch.tensor([0, 9, 4]), torch.randn(3, 1, 28, 28)
    options = {"steps": 5, "y": y, "guidance": guidance, "x_T": x_T, "predicts": "v", "clip": (-1, 1), "eta": eta}
    runs = [diffusion.sample(model, x_T.shape, s, null=null, generator=torch.Generator().manual_seed(0), **options)
            for null in (None, model.null)]
    assert runs[0].shape == x_T.shape and runs[0].abs().max() <= 1
    torch.testing.assert_close(runs[0], runs[1], atol=1e-4, rtol=1e-4)  # y = None, or the null label in one batch
    total, _ = diffusion.bits_per_dim(model, x_T.clamp(-1, 1), s, y=y, predicts="v", clip=(-1, 1))
    assert torch.isfinite(total).all()


def test_bf16_changes_little_and_returns_float32():
    model, (x, t) = awake(nets.UNet()), noisy()
    with torch.no_grad():
        exact = model(x, t)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(x, t)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).norm() / exact.norm() < 0.03


def test_it_learns_to_denoise_two_images():
    """A few dozen steps: the loss of v on two images falls below half of its start."""
    torch.manual_seed(0)
    model, s = nets.UNet(widths=(16, 32)), diffusion.Schedule.cosine()
    x0 = torch.zeros(2, 1, 28, 28) - 1
    x0[0, 0, 4:24, 12:16] = x0[1, 0, 12:16, 4:24] = 1
    x0, y = x0.repeat(16, 1, 1, 1), torch.arange(2).repeat(16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        t, eps = diffusion.stratified_timesteps(32, s.T), torch.randn_like(x0)
        out = model(diffusion.q_sample(x0, t, eps, s), t, y)
        loss = (out - diffusion.target(x0, eps, t, s, predicts="v")).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
