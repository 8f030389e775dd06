"""Figures: layout, range, labels; wrong shapes are refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from genmed_core import plots


def pixels(fig):
    import io

    return np.asarray(Image.open(io.BytesIO(fig._repr_png_())).convert("L"))


def test_tiles_come_in_reading_order_with_gaps():
    images = torch.arange(6).float().view(6, 1, 1, 1).expand(6, 1, 3, 3) / 10
    page = plots.tile(images, 2, 3)
    assert page.shape == (7, 11) and page[0, 0] == 0 and page[0, 4] == pytest.approx(0.1)
    assert page[4, 8] == pytest.approx(0.5) and page[3, 0] == pytest.approx(0.85)


def test_bytes_and_floats_draw_the_same():
    images = torch.randint(0, 256, (4, 1, 5, 5), dtype=torch.uint8)
    assert np.allclose(plots.tile(images, 2, 2), plots.tile(images / 255, 2, 2))


@pytest.mark.parametrize("shape", [(3, 28), (2, 3, 8, 8), (8,)])
def test_what_is_not_grey_images_is_refused(shape):
    with pytest.raises(ValueError, match="expected grey images"):
        plots.show_grid(torch.zeros(shape))


def test_the_grey_range_is_fixed_and_not_stretched():
    dim = pixels(plots.show_grid(torch.full((4, 1, 8, 8), 0.25), columns=4))
    assert np.bincount(dim.flatten()).argmax() in range(60, 68)  # 0.25 of 255, not white


def test_figures_are_stored_small_and_look_the_same():
    import io

    torch.manual_seed(0)
    fig, ax = plots.figure(6, 3)
    for k in range(8):
        ax.scatter(*torch.randn(2, 300).numpy(), s=4, color=plots.COLOURS[k])
    full, stored = io.BytesIO(), fig._repr_png_()
    with plots.mpl.rc_context(plots._STYLE):
        fig.savefig(full, format="png", bbox_inches="tight", pad_inches=0.05)
    assert len(stored) < 0.6 * len(full.getvalue())
    before, after = (np.asarray(Image.open(f).convert("RGB")).astype(float) for f in (full, io.BytesIO(stored)))
    assert before.shape == after.shape and np.abs(before - after).mean() < 2  # of 255


def test_grids_and_rows_carry_their_labels():
    images = torch.rand(10, 1, 8, 8)
    fig = plots.show_grids({"real": images, "drawn": images}, columns=5, note=plots.SYNTHETIC)
    assert [a.get_title() for a in fig.axes] == ["real", "drawn"] and fig.get_supxlabel() == plots.SYNTHETIC
    rows = plots.show_rows({"x": images, "x_hat": images}, columns=5)
    assert [t.get_text() for t in rows.axes[0].get_yticklabels()] == ["x", "x_hat"]


def test_curves_name_their_axes_and_lines():
    fig = plots.show_curves({"train": ([1, 2], [3, 1])}, x_label="step", y_label="nats per image", lines={"book": 2})
    axis = fig.axes[0]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("step", "nats per image")
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["train", "book"]
    assert pixels(fig).std() > 10


def test_bars_write_their_values():
    fig = plots.show_bars({"PCA": 0.91, "AE": 0.52}, y_label="error", digits=2, floor=0.1)
    assert [t.get_text() for t in fig.axes[0].texts] == ["0.91", "0.52"]
