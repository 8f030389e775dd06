"""The README's moving picture, from the built book: a digit and a film come out of noise, a latent slider moves.

    python jupyter_book_config/moving_picture.py                    from _build/html to .github/opening.webp
    python jupyter_book_config/moving_picture.py --pages FOLDER ...  from other folders of pages

The networks run in the page; nothing is drawn by hand. It is the front page's opening, then a slider of chapter 2.
"""

import argparse
import io
import sys
from pathlib import Path

from pdf import BROWSERS, FLAGS, PATIENCE, shutil
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
OPENING, LATENT = "intro.html", "02_vae.html"
WIDTH, QUALITY = 720, 60
STEP, HOLD, MOVE = 90, 1400, 110  # ms: a step of diffusion, a finished digit, a step of the slider
LIMIT = 1_000_000  # bytes


class NoPicture(RuntimeError):
    """The picture cannot be made; the message says what to do."""


def shot(panel) -> Image.Image:
    return Image.open(io.BytesIO(panel.screenshot())).convert("RGB")


def drawn(page, digit: int, film: int) -> list[tuple[Image.Image, int]]:
    """Frames of the opening's two models, a step of both samplers each, with their milliseconds."""
    opening = page.locator("div.cell:has(.genmed-film)").first
    panels = opening.locator(".genmed-panel:has(.genmed-film)").all()
    for panel, label in zip(panels, (digit, film), strict=True):
        panel.locator("input[type=range]").first.fill(str(label))  # asked for less motion, the page draws nothing yet
    counts = [int(panel.locator(".genmed-readout").nth(2).text_content()) for panel in panels]
    frames = []
    for k in range(max(counts)):
        for panel, count in zip(panels, counts):
            if k < count:
                panel.get_by_role("button", name="Step", exact=True).click()
                panel.locator(f"canvas[data-step='{k + 1} of {count}']").wait_for()
        frames.append((shot(opening), STEP))
    return [*frames[:-1], (frames[-1][0], HOLD)]


def walk(page) -> list[tuple[Image.Image, int]]:
    """Frames of the first latent slider, there and back."""
    panel = page.locator(".genmed-panel:has(canvas[data-ms])").first
    slider = panel.locator("input[type=range]").first
    low, high = (int(slider.get_attribute(name)) for name in ("min", "max"))
    places = [low + (high - low) * k // 16 for k in range(17)]
    frames = []
    for place in [*places[8:], *places[:-1][::-1], *places[1:9]]:
        slider.fill(str(place))
        page.wait_for_timeout(150)
        frames.append((shot(panel), MOVE))
    return frames


def on_one_size(frames: list[tuple[Image.Image, int]]) -> tuple[list[Image.Image], list[int]]:
    """All frames WIDTH wide and as high as the highest, in the colour of the panels."""
    scaled = [frame.resize((WIDTH, round(frame.height * WIDTH / frame.width)), Image.Resampling.LANCZOS)
              for frame, _ in frames]
    height = max(frame.height for frame in scaled)
    made = []
    for frame in scaled:
        sheet = Image.new("RGB", (WIDTH, height), "white")
        sheet.paste(frame, (0, (height - frame.height) // 2))
        made.append(sheet)
    return made, [duration for _, duration in frames]


def make(folders: list[Path], target: Path) -> int:
    """Write the picture; returns its bytes.  NoPicture where a page or a browser is missing."""
    from playwright.sync_api import sync_playwright

    found = {name: next((folder / name for folder in folders if (folder / name).is_file()), None)
             for name in (OPENING, LATENT)}
    if missing := [name for name, path in found.items() if path is None]:
        raise NoPicture(f"no {', '.join(missing)} in {', '.join(map(str, folders))}: run `make book` first")
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        raise NoPicture("this needs Chromium or Chrome; on Debian: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=FLAGS)
        frames = []
        for name, recorder in ((OPENING, lambda page: drawn(page, 3, 2) + drawn(page, 8, 0)), (LATENT, walk)):
            page = browser.new_page(viewport={"width": 1100, "height": 900}, reduced_motion="reduce")
            page.set_default_timeout(PATIENCE)
            page.goto(found[name].as_uri())
            page.add_style_tag(content=".genmed-status { visibility: hidden }")  # its seconds hold those of pictures
            page.locator(".genmed-panel canvas").first.wait_for()
            frames += recorder(page)
        browser.close()
    pictures, durations = on_one_size(frames)
    pictures[0].save(target, save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=QUALITY,
                     method=6)
    return target.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=Path, nargs="+", default=[ROOT / "_build" / "html"], help="default _build/html")
    parser.add_argument("--out", type=Path, default=ROOT / ".github" / "opening.webp")
    options = parser.parse_args()
    try:
        size = make([folder.resolve() for folder in options.pages], options.out)
    except NoPicture as problem:
        sys.exit(f"error: {problem}")
    print(f"{options.out}: {size / 1000:.0f} KB")
    if size > LIMIT:
        sys.exit(f"error: over {LIMIT:,} bytes: lower QUALITY or WIDTH")


if __name__ == "__main__":
    main()
