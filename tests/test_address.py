"""Where every control stands is in the page's address: a link leads there, on a page, from disk and as one file."""

import re

import pytest
import torch
from torch import nn

import genmed_core  # noqa: F401  (before torch)
from genmed_core import diffusion, widgets
from genmed_core.widgets import DiffusionExplorer, Earth, FrameSlider, Laboratory, LatentExplorer, Pad, Posterior, Probe

widget_page = pytest.importorskip("widget_page")


def denoiser():
    torch.manual_seed(0)
    linear = nn.Linear(64, 64)
    return DiffusionExplorer(lambda x, t: linear(x.flatten(1)).view(x.shape), diffusion.Schedule.linear(20),
                             shape=(1, 8, 8), steps=3)


# What makes a panel, the traits that are its place, and where they are moved to.
KINDS = {
    "decoder": (lambda: LatentExplorer([nn.Linear(3, 16)], caption="A decoder"),
                {"values": [0.5, -1.05, 2], "base": [0.5, -1.05, 2]}),
    "frames": (lambda: FrameSlider(torch.rand(4, 8, 8), description="noise"), {"values": [3]}),
    "probe": (lambda: Probe({"chance": torch.rand(5, 4)}), {"values": [4, 2]}),
    "posterior": (Posterior, {"values": [1, 1.5, -0.42, 0.33]}),
    "earth": (Earth, {"heaps": [0, 0, 1, 2, 0, 0, 0, 6], "holes": [1] * 8, "slopes": [1, -0.5, 0, 0, 0, 0, 0.25]}),
    "pad": (Pad, {"strokes": [[[60.5, 60], [220, 220]], [[10, 20]]]}),
    "diffusion": (denoiser, {"values": [7, 1, 0.3], "pinned": [3, 2, 0]}),
    "laboratory": (lambda: Laboratory("ring", "gan"), {"settings": None}),
}


def changed_lab():
    return Laboratory("drawn", "diffusion", points=[(1, 1), (-0.5, 2)], shown="exact", particle=True,
                      at=(0.5, 0.25), seed=7, level=0.5).settings


def goal(kind):
    return {"settings": changed_lab()} if kind == "laboratory" else KINDS[kind][1]


def state(page, traits, k=0):
    return page.evaluate("([k, traits]) => Object.fromEntries(traits.map((t) => [t, models[k].get(t)]))",
                         [k, list(traits)])


def move(page, to, k=0):
    page.evaluate("([k, to]) => { for (const [t, v] of Object.entries(to)) models[k].set(t, v); }", [k, to])


def same(a, b):
    """Equal, whole numbers and fractions alike, up to the digits that an address keeps."""
    if isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in b)
    if isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == (b if isinstance(b, str | bool) else pytest.approx(b, rel=1e-5))


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_goes_into_the_address_and_back(browser, tmp_path, kind):
    make, to = KINDS[kind][0], goal(kind)
    page = widget_page.show(browser, tmp_path / "page.html", make())
    home = state(page, to)
    assert "#" not in page.url
    move(page, to)
    page.wait_for_function("() => location.hash.startsWith('#genmed.')")
    link = page.url
    assert re.fullmatch(r"#genmed\.[a-z-]+\.[A-Za-z0-9_-]+", link[link.index("#"):])
    assert page.evaluate("() => document.querySelector(location.hash)") is None, "scripts of a theme may ask for it"
    page.goto("about:blank")
    page.goto(link)
    page.evaluate("() => window.ready")
    assert same(state(page, to), to)
    page.get_by_role("button", name="Reset", exact=True).click()
    page.wait_for_function("() => !location.hash")
    assert same(state(page, to), home)
    assert page.trouble == []
    page.context.close()


def test_two_panels_share_an_address_and_a_link_opens_at_its_own(browser, tmp_path):
    between = [FrameSlider(torch.rand(3, 8, 8), caption=f"p{k * 'x'}") for k in range(4)]
    panels = [Posterior(caption="first"), *between, Earth()]
    page = widget_page.show(browser, tmp_path / "page.html", *panels, viewport={"width": 900, "height": 500})
    move(page, {"values": [1, 1, 1, 1]}, 0)
    move(page, {"slopes": [1] * 7}, 5)
    page.wait_for_function("() => location.hash.split('.').length === 5")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link").last.click()
    page.get_by_role("button", name="Copied").wait_for()
    link = page.evaluate("() => navigator.clipboard.readText()")
    page.goto("about:blank")
    page.goto(link)
    page.evaluate("() => window.ready")
    assert same(state(page, ["values"], 0), {"values": [1, 1, 1, 1]})
    assert same(state(page, ["slopes"], 5), {"slopes": [1] * 7})
    page.wait_for_timeout(300)
    box = page.get_by_role("group").last.bounding_box()
    assert 0 <= box["y"] + box["height"] / 2 <= 500, "the panel that was linked to is on the screen"
    page.evaluate("() => { location.hash = ''; }")  # a heading of the page, for example, does not move anything
    assert same(state(page, ["slopes"], 5), {"slopes": [1] * 7})
    page.context.close()


def test_a_followed_link_moves_the_panels_of_the_page_it_is_on(browser, tmp_path):
    page = widget_page.show(browser, tmp_path / "page.html", Posterior())
    move(page, {"values": [1, 1, 1, 1]})
    page.wait_for_function("() => location.hash.length > 9")
    there = page.evaluate("() => location.hash")
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function("() => !location.hash")
    page.evaluate("(hash) => { location.hash = hash; }", there)
    page.wait_for_function("() => models[0].get('values')[0] === 1")
    page.context.close()


def test_a_link_that_does_not_fit_changes_nothing(browser, tmp_path):
    bad = {"decoder": [{"values": [9, 0, "x"], "base": [0, 0, 0]}, {"values": [1], "base": [0, 0, 0]}, [1], None, 3],
           "earth": [{"heaps": [0] * 8, "holes": [1] * 8, "slopes": [0] * 7},
                     {"heaps": [0.5] * 8, "holes": [1] * 8, "slopes": [0] * 7},
                     {"heaps": [1] * 8, "holes": [1] * 8, "slopes": [2] + [0] * 6}],
           "pad": [{"strokes": [[["<b>", 1]]]}, {"strokes": 1}, {"strokes": [[]]}, {"strokes": [[[1e300, 5]]]},
                   {"strokes": [[[9, 9], [-1, 9]]]}],
           "diffusion": [{"values": [0], "pinned": []}, {"values": [0, 0, 0], "pinned": [1]}],
           "laboratory": [{"settings": {"data": "ring"}}, {"settings": None}, {},
                          {"settings": changed_lab() | {"model": "constructor"}},
                          {"settings": changed_lab() | {"points": [[9, 9]]}}]}
    for kind, states in bad.items():
        make, traits = KINDS[kind]
        page = widget_page.show(browser, tmp_path / "page.html", make())
        home = state(page, traits)
        move(page, goal(kind))
        page.wait_for_function("() => location.hash.length > 9")
        name = page.url.split(".")[-2]
        move(page, home)
        page.wait_for_function("() => !location.hash")
        for each in states:
            page.evaluate("""([name, state]) => {
                const packed = btoa(JSON.stringify(state)).replace(/=/g, '');
                location.hash = `#genmed.${name}.${packed}`; }""", [name, each])
            page.wait_for_timeout(60)
            assert same(state(page, traits), home), (kind, each)
        for hash_ in ("#genmed", "#genmed.", f"#genmed.{name}", f"#genmed.{name}.!!", f"#genmed.{name}.e30.x"):
            page.evaluate("(hash) => { location.hash = hash; }", hash_)
            page.wait_for_timeout(30)
            assert same(state(page, traits), home), (kind, hash_)
        assert page.trouble == [], kind
        page.context.close()


def test_numbers_beyond_the_ranges_are_brought_within(browser, tmp_path):
    page = widget_page.show(browser, tmp_path / "page.html", Posterior(), Laboratory())
    move(page, {"values": [99, 1.013, 0, 0]}, 0)
    settings = changed_lab() | {"rate_d": 1e9, "critic_steps": 1e9, "seed": 2.4}
    move(page, {"settings": settings}, 1)
    page.wait_for_function("() => location.hash.split('.').length === 5")
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    page.evaluate("() => window.ready")
    assert state(page, ["values"], 0)["values"] == [3, 1, 0, 0.05]
    held = state(page, ["settings"], 1)["settings"]
    assert (held["rate_d"], held["critic_steps"], held["seed"]) == (0.1, 10, 2)
    page.context.close()


def test_in_jupyterlab_the_address_is_left_alone(browser, tmp_path):
    page = widget_page.show(browser, tmp_path / "page.html", Posterior())
    path = tmp_path / "lab.html"
    widget_page.write(path, Posterior(), Laboratory())
    text = path.read_text(encoding="utf-8")
    settings = '<script type="application/json" id="jupyter-config-data">{}</script>'
    path.write_text(text.replace("<main>", f"{settings}<main>"), encoding="utf-8")
    page.goto(path.as_uri() + "#a-heading")
    page.evaluate("() => window.ready")
    assert page.get_by_role("button", name="Copy link").count() == 0
    move(page, {"values": [1, 1, 1, 1]}, 0)
    page.wait_for_timeout(600)
    assert page.url.endswith("#a-heading")
    page.get_by_role("button", name="Reset").first.click()
    assert same(state(page, ["values"]), {"values": Posterior().values})
    page.context.close()


def test_without_a_clipboard_the_link_stands_there_selected(browser, tmp_path):
    page = widget_page.show(browser, tmp_path / "page.html", Posterior())
    page.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.get_by_role("button", name="Copy link").click()
    field = page.get_by_role("textbox", name="Link to this panel as it stands")
    assert field.input_value().startswith(page.url.split("#")[0] + "#genmed.") and field.evaluate(
        "(e) => e === document.activeElement && e.selectionEnd === e.value.length")
    page.get_by_role("slider").first.focus()
    assert field.count() == 0
    page.context.close()


def test_an_exported_file_keeps_its_address(browser, tmp_path):
    path = Earth().export(tmp_path / "earth.html")
    page = browser.new_context(offline=True).new_page()
    page.goto(path.as_uri())
    page.get_by_role("button", name="Best f").click()
    page.wait_for_function("() => location.hash.startsWith('#genmed.')")
    cells = page.locator(".genmed-terms td:last-child").all_inner_texts()
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    page.get_by_role("button", name="Best f").wait_for()
    assert page.locator(".genmed-terms td:last-child").all_inner_texts() == cells
    page.context.close()


def test_home_is_where_it_began():
    earth = Earth()
    earth.best()
    assert earth.home == {"heaps": earth.heaps, "holes": earth.holes, "slopes": [0.0] * 7}
    assert set(widgets.Panel.PLACE) == {"values"}
