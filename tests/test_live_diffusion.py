"""The panels that draw by diffusion in chapters 7, 8 and 9, as they are kept: the page draws what torch draws.

And what only they have: a start that fits beside pure noise, the textbook's rule, and a film painted over by keys.
"""

import base64
import re
import sys

import pytest
import torch
import widget_page
from engine_node import ROOT, chapter_class
from test_accessibility import check_named
from test_engine import differ, drawn, move, settled

import genmed_core  # noqa: F401  (before torch)
from genmed_core import diffusion, metrics, nets, plots, widgets
from genmed_core.widgets import pad, sampling
from genmed_core.widgets.panel import Panel

sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import stored_widgets  # noqa: E402

SCHEDULES = {"07_simple_diffusion": diffusion.Schedule.simple(), "08_ddpm": diffusion.Schedule.cosine(),
             "09_ldm_cxr": diffusion.Schedule.cosine()}
CHANGED = {"07_simple_diffusion": {"rule": 1, "prior": 1, "network": 1}, "08_ddpm": {"class": 7, "eta": 1.0},
           "09_ldm_cxr": {"fill": 2, "class": 2, "guidance": 1.0}}


def kept_state(chapter):
    """What a chapter's file keeps of its DiffusionExplorer, its buffers in place."""
    models = stored_widgets.kept(ROOT / "chapters" / "figures" / "widgets" / f"{chapter}.json.xz").values()
    model, = (m for m in models if m["state"].get("_anywidget_id", "").endswith("DiffusionExplorer"))
    buffers = {buffer["path"][0]: base64.b64decode(buffer["data"]) for buffer in model["buffers"]}
    return {name: value for name, value in (model["state"] | buffers).items()
            if not name.startswith("_") and name not in ("layout", "tabbable", "tooltip", "home")}


class Kept(widgets.DiffusionExplorer):
    """A panel as its chapter keeps it, its networks the programs that the page runs."""

    def __init__(self, chapter):
        state = kept_state(chapter)
        sliders = [widgets.Slider(**{k: tuple(v) if k == "labels" else v for k, v in slider.items() if k != "digits"})
                   for slider in state.pop("sliders")]
        facts, programs = state["facts"], {}
        for name in ("", "prior_", "decoder_", "encoder_", "other_"):
            weights = state.get(f"{name}weights")
            programs[name] = widgets.Program(state[f"{name}graph"], weights) if weights else None
        self.model = sampling.Model(programs[""], programs["prior_"], SCHEDULES[chapter], facts["predicts"],
                           facts["clip"], facts["null"])
        self.other = programs["other_"] and self.model._replace(program=programs["other_"],
                                                                predicts=facts["otherPredicts"])
        self.decoder, self.encoder = programs["decoder_"], programs["encoder_"]
        self.order, self.picture_shape = facts["order"], facts["picture"]
        self.ranges = facts["range"], facts.get("noisyRange", facts["range"])
        Panel.__init__(self, sliders=sliders, **state)


@pytest.mark.parametrize("chapter", SCHEDULES)
def test_what_a_chapter_keeps_draws_on_the_page_as_in_torch(browser, tmp_path, chapter):
    """As the panel begins, and elsewhere; in chapter 9 with half a film filled in."""
    explorer = Kept(chapter)
    for k, changed in enumerate(({}, CHANGED[chapter])):
        values = list(explorer.values)
        for name, value in changed.items():
            values[explorer.names[name]] = value
        explorer.values = values
        page = widget_page.show(browser, tmp_path / f"{k}.html", explorer)
        assert differ(drawn(page), explorer.sample()) <= 2
        assert page.locator("canvas").nth(1).get_attribute("data-where") == "worker"
        assert not page.trouble
        page.context.close()


def test_chapter_7_opens_with_the_textbooks_film_beside_ours(browser, tmp_path):
    """Its network, from pure noise, by the printed rule, from the same seed; ours is drawn in the same turn."""
    explorer = Kept("07_simple_diffusion")
    textbook = explorer._read(explorer.pinned)
    assert textbook == explorer.settings._replace(other=True, pure=True, subtract=True)
    page = widget_page.show(browser, tmp_path / "beside.html", explorer)
    page.get_by_text("Kept: network the textbook's, begin with pure noise, rule printed").wait_for()
    ours, theirs = explorer.sample(), explorer.sample(**textbook._asdict())
    assert differ(drawn(page), ours) <= 2 and differ(drawn(page, 3), theirs) <= 2
    assert (ours - theirs).abs().mean() > 0.2, "one is a digit, the other noise"
    ready = explorer.pictures()
    assert len(ready) == 2 and (ready[1] == (255 * theirs).round().byte().numpy()).all()
    page.get_by_role("button", name="End comparing").click()
    page.wait_for_function("() => models[0].get('pinned').length === 0")
    page.get_by_role("button", name="Reset").click()
    assert page.evaluate("() => models[0].get('pinned')") == explorer.pinned
    assert not page.trouble
    page.context.close()


def test_the_network_of_chapter_8_is_the_shipped_one_to_the_last_bit():
    """In sixteen bits a number, as the file of weights has them; a byte a number costs what `compile_network` says."""
    explorer, unet = Kept("08_ddpm"), metrics.load_weights(nets.UNet(), "ddpm_digits")
    x, t, y = torch.zeros(1, 1, 28, 28), torch.tensor([1]), torch.tensor([0])
    assert explorer.model.program.weights == widgets.compile_network(unet, x=x, t=t, y=y).weights
    films = [255 * explorer.sample(digit) for digit in range(6)]
    explorer.model = explorer.model._replace(program=widgets.compile_network(unet, int8=True, x=x, t=t, y=y))
    off = torch.stack([(255 * explorer.sample(digit) - film).abs() for digit, film in enumerate(films)])
    assert 0.3 < off.mean() < 1 and 8 < off.max() < 60


def test_the_films_of_chapter_9_are_those_of_its_trained_networks():
    """Its denoiser is rounded before it is measured; what bytes cost the VAE is in the chapter's output."""
    text = (ROOT / "chapters" / "09_ldm_cxr.ipynb").read_text(encoding="utf-8")
    most = re.search(r"12 films on the page are [\d.]+ of 255 grey levels off on average, ([\d.]+) at most", text)[1]
    assert float(most) <= 2


def test_what_stands_beside_is_a_slider_that_is_there():
    with pytest.raises(ValueError, match="beside names network: the sliders are class, seed"):
        redrawing(beside={"network": 1})
    with pytest.raises(ValueError, match="predicts='noise': choose from"):
        redrawing(other=("another", lambda x, t, y: x, "noise"))


def test_the_film_of_chapter_9_says_what_it_is():
    explorer = Kept("09_ldm_cxr")
    assert explorer.caption == plots.SYNTHETIC
    assert len(explorer.weights) + len(explorer.decoder_weights) + len(explorer.encoder_weights) < 1_500_000


# --- small networks ------------------------------------------------------------------------------------------------


def latent(**settings):
    """Latent diffusion of 16 by 16 pictures, with random weights and a picture to begin from."""
    unet = settled(nets.UNet(4, widths=(8, 8), patch=1, classes=4, embedding=16))
    vae = settled(chapter_class("09_ldm_cxr", "Residual", "RadiographVAE", LATENT=4)(8))
    given = torch.linspace(0, 1, 256).view(16, 16)
    defaults = {"shape": (4, 4, 4), "class_names": ["normal", "COVID", "opacity", "viral"], "predicts": "v",
                "clip": None, "guidance": 2.0, "order": 2, "steps": 5, "decoder": vae.decode, "image": given,
                "encoder": lambda x: vae.encode(x)[0], "caption": plots.SYNTHETIC}
    return widgets.DiffusionExplorer(unet, diffusion.Schedule.cosine(), **defaults | settings)


def test_a_film_is_painted_over_by_keys_and_filled_in(browser, tmp_path):
    explorer = latent()
    page = widget_page.show(browser, tmp_path / "paint.html", explorer)
    drawn(page)
    pad = page.get_by_role("application", name="The picture to begin from")
    pad.press("ArrowUp")
    page.get_by_role("status").get_by_text("The brush is lifted.").wait_for()
    pad.press(" ")
    for key in ("Shift+ArrowLeft", "ArrowLeft", "ArrowDown"):
        pad.press(key)
    page.get_by_role("slider", name="fill in").and_(page.locator("[aria-valuetext=painted]")).wait_for()
    page.wait_for_timeout(500)
    mask = bytes(page.evaluate("[...new Uint8Array(models[0].get('mask').buffer)]"))
    assert 4 < sum(mask) < 60 and mask[7 * 16 + 7]
    explorer.mask = mask
    assert differ(drawn(page), explorer.sample(fill="painted")) <= 2
    pad.press("Delete")
    assert page.evaluate("models[0].get('mask').byteLength") == 0
    page.get_by_text("synthetic, not for diagnosis").wait_for()
    assert not page.trouble
    page.context.close()


def test_outside_of_the_mask_the_latents_are_those_of_the_film():
    explorer = latent()
    known = explorer._known(explorer.settings._replace(fill="right half"))
    assert known.keep[0, 0].tolist() == [[1, 1, 0, 0]] * 4
    explorer.give(torch.zeros(16, 16))
    assert not torch.equal(explorer._known(explorer.settings._replace(fill="right half")).x0, known.x0)
    with pytest.raises(ValueError, match="one grey picture"):
        explorer.give(torch.zeros(2, 16, 16))


def digits():
    """Chapter 7's network with random weights, its start, and the rules of its sampler."""
    denoiser = settled(chapter_class("07_simple_diffusion", "Denoiser", T=25, SIGMA=0.3)(torch.sigmoid))
    means, turn = torch.rand(10, 784).half().float(), 1.5 * torch.eye(28)

    def prior(n, y):
        return nn_embedding(y, means) + turn @ n

    return widgets.DiffusionExplorer(denoiser, diffusion.Schedule.simple(), class_names=range(10), predicts="x0",
                                     clip=None, data_range=(0, 1), noisy_range=(-1, 2), prior=prior, textbook=True,
                                     int8=True, eta=1.0)


def nn_embedding(y, table):
    return torch.nn.functional.embedding(y, table).view(-1, 1, 28, 28)


def test_a_start_that_fits_and_the_printed_rule(browser, tmp_path):
    explorer = digits()
    page = widget_page.show(browser, tmp_path / "seven.html", explorer)
    names = [name for role, name, _ in check_named(page) if role == "slider"]
    assert names == ["class", "seed", "steps", "η", "begin with", "rule"]
    assert differ(drawn(page), explorer.sample()) <= 2
    move(page, "begin with", "ArrowRight")
    page.wait_for_timeout(400)
    assert differ(drawn(page), explorer.sample(pure=True)) <= 2
    move(page, "rule", "ArrowRight")
    page.wait_for_timeout(400)
    assert differ(drawn(page), explorer.sample(pure=True, subtract=True)) <= 2
    assert not torch.allclose(explorer.model.x_T(0, 0), explorer.model.x_T(0, 0, pure=True), atol=0.1)
    assert not page.trouble
    page.context.close()


def test_the_printed_rule_walks_on_by_one_step_of_noise():
    """Each step moves the picture by sigma a pixel, whatever the network says; derived rules do not."""
    seen = []
    sampling.sample(digits().model, 3, steps=25, subtract=True, callback=lambda t, x_t, x0_hat: seen.append(x_t))
    moves = [(a - b).square().mean().sqrt().item() for a, b in zip(seen, seen[1:])]
    assert all(length == pytest.approx(0.3, abs=1e-3) for length in moves)


# --- a digit of the reader's own, and rude readers -------------------------------------------------------------------


def redrawing(**settings):
    """A network of 28 by 28 pictures that is quick: one layer of random weights."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(784, 784)
    defaults = {"shape": (1, 28, 28), "class_names": range(10), "predicts": "x0", "steps": 5, "redraw": True}
    return widgets.DiffusionExplorer(lambda x, t, y: linear(x.flatten(1)).tanh().view(x.shape),
                                     diffusion.Schedule.cosine(100), int8=False, **defaults | settings)


def stroke(page, *places):
    """Press, move through places (x, y) of 0 to 1 on the drawing page, and let go."""
    box = page.get_by_role("application", name="Drawing pad").bounding_box()
    for k, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4 if k else 1)
        if k == 0:
            page.mouse.down()
    page.mouse.up()


def words(page):
    return page.get_by_role("status").inner_text()


def test_a_digit_of_the_readers_own_is_noised_and_redrawn(browser, tmp_path):
    explorer = redrawing()
    page = widget_page.show(browser, tmp_path / "own.html", explorer)
    drawn(page)
    assert page.get_by_role("application", name="Drawing pad").count() == 0, "it waits behind a button"
    page.get_by_role("button", name="Draw your own").click()
    stroke(page, (0.3, 0.2), (0.7, 0.2), (0.4, 0.8))
    page.wait_for_function("() => models[0].get('image').byteLength === 3136")
    image = page.evaluate("() => [...new Float32Array(models[0].get('image').buffer)]")
    assert 20 < sum(image) < 200, "the stroke is not in the picture"
    explorer.give(torch.tensor(image).view(28, 28))
    explorer.values = page.evaluate("() => models[0].get('values')")
    assert explorer.settings.start == 59, "from pure noise nothing of the digit would be left"
    page.wait_for_timeout(500)
    assert differ(drawn(page), explorer.sample()) <= 2
    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("() => models[0].get('image').byteLength === 0")
    stroke(page, (0.5, 0.2), (0.5, 0.8))
    page.wait_for_function("() => models[0].get('image').byteLength === 3136")
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function("() => models[0].get('image').byteLength === 0")
    assert page.get_by_role("application", name="Drawing pad").count() == 0
    assert page.evaluate("() => models[0].get('values')") == redrawing().values
    check_named(page)
    assert not page.trouble
    page.context.close()


def test_the_drawn_digit_is_mnists_form_of_the_stroke(browser, tmp_path):
    page = widget_page.show(browser, tmp_path / "keys.html", redrawing(), reduced_motion="reduce")
    page.get_by_role("button", name="Draw your own").click()
    sheet = page.get_by_role("application", name="Drawing pad")
    for key in ("Space", *["Shift+ArrowDown"] * 4, "Space"):
        sheet.press(key)
    page.wait_for_function("() => models[0].get('image').byteLength === 3136")
    image = page.evaluate("() => [...new Float32Array(models[0].get('image').buffer)]")
    wanted = pad.centred(pad.drawn([[[140, 70 + 28 * k] for k in range(5)]]))
    assert torch.allclose(torch.tensor(image), torch.as_tensor(wanted).float().flatten(), atol=1e-5)
    assert not page.trouble
    page.context.close()


def test_a_panel_says_what_it_lacks_and_counts_both_films(browser, tmp_path):
    page = widget_page.show(browser, tmp_path / "rude.html", redrawing(), reduced_motion="reduce")
    page.get_by_role("button", name="Take this").click()
    assert words(page) == "Nothing is drawn yet: press Play first."
    assert page.evaluate("() => models[0].get('image').byteLength") == 0
    page.get_by_role("button", name="Compare").click()  # five steps are kept
    move(page, "begin at t", "Home")
    move(page, "steps", "Home")
    page.wait_for_timeout(100)
    page.get_by_role("button", name="Step", exact=True).click()
    page.wait_for_function("() => document.querySelector('progress').value === 0.2")  # the longer film's
    page.get_by_role("button", name="Play").click()
    page.get_by_role("status").get_by_text("Drawn in 1 step,").wait_for()
    assert "There is no picture to begin from yet" in words(page)
    assert not page.trouble
    page.context.close()


def test_stop_and_moves_while_it_runs_leave_one_film(browser, tmp_path):
    """However a reader presses, the picture at the end is that of the sliders, and nothing runs after Stop."""
    explorer = redrawing(steps=100)
    page = widget_page.show(browser, tmp_path / "stop.html", explorer)
    press = lambda name: page.get_by_role("button", name=name, exact=True).click()  # noqa: E731
    page.get_by_role("button", name="Stop").wait_for()
    press("Stop")
    page.wait_for_timeout(200)
    stood = page.evaluate("() => document.querySelector('progress').value")
    page.wait_for_timeout(400)
    assert page.evaluate("() => document.querySelector('progress').value") == stood and words(page) == "Stopped."
    press("Play")
    for key in ("ArrowRight", "End", "Home", "ArrowRight", "ArrowRight"):
        move(page, "class", key)
    move(page, "steps", "Home")
    for _ in range(5):
        press("Step")
    explorer.values = page.evaluate("() => models[0].get('values')")
    assert explorer.settings.y == 2 and explorer.settings.steps == 1
    page.wait_for_timeout(500)
    assert differ(drawn(page), explorer.sample()) <= 2
    assert not page.trouble
    page.context.close()
