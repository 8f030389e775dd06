"""Shared by all tests: the core is imported first, so that threads wait politely, and runs go to a temporary folder."""

import genmed_core  # noqa: F401
import pytest
import torch
from genmed_core.metrics import images

# begun last, one of these would leave the other worker idle for minutes; by the processor's time, the longest first
LONG = [f"test_{name}.py" for name in (
    "audit", "invited_changes", "hallucinations", "grade", "launch", "scoreboard", "metrics", "extending",
    "run_chapters", "prose_numbers", "nbgrader", "course", "own_chapter", "distributed", "parity", "kernels")]


def pytest_collection_modifyitems(items):
    """Files that take long come first: workers take whole files, in this order (--no-loadscope-reorder)."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(autouse=True)
def own_runs_folder(tmp_path, monkeypatch, request):
    """No test writes to the project's runs/, none is judged by a budget left in the environment; runs repeat exactly.

    Benchmarks are free to choose their threads.
    """
    monkeypatch.setenv("GENMED_RUNS", str(tmp_path / "runs"))
    if "benchmarks" not in request.path.parts:
        monkeypatch.setenv("GENMED_THREADS", "1")
    monkeypatch.delenv("GENMED_BUDGET", raising=False)
    monkeypatch.delenv("GENMED_SEED", raising=False)


@pytest.fixture
def few_pairs(monkeypatch):
    """The similarity of samples is that of 50 pairs, not of 2,000, where a test is not about its value."""
    drawn = images.random_pairs
    monkeypatch.setattr(images, "random_pairs", lambda n, pairs, g: drawn(n, min(pairs, 50), g))


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window, for what is drawn on a page."""
    sync_api = pytest.importorskip("playwright.sync_api")
    import widget_page

    with sync_api.sync_playwright() as driver:
        running = widget_page.launch(driver)
        yield running
        running.close()


@pytest.fixture
def digits_like():
    """512 random uint8 images (512, 1, 8, 8) and labels, the same every time."""
    g = torch.Generator().manual_seed(7)
    images = torch.randint(0, 256, (512, 1, 8, 8), generator=g, dtype=torch.uint8)
    return images, torch.randint(0, 10, (512,), generator=g)
