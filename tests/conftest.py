"""Shared by all tests: the core is imported first, so that threads wait politely, and runs go to a temporary folder."""

import genmed_core  # noqa: F401
import pytest
import torch


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
