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


def test_bytes_in_a_wider_type_are_bytes():
    images = torch.arange(256).view(4, 1, 8, 8)
    for dtype in (torch.int16, torch.int32, torch.int64):
        assert np.allclose(plots.tile(images.to(dtype), 2, 2), plots.tile(images.to(torch.uint8), 2, 2))
    mask = images > 128
    assert np.array_equal(plots.tile(mask.long(), 2, 2), plots.tile(mask.float(), 2, 2))
    assert np.array_equal(plots.tile(mask, 2, 2), plots.tile(mask.float(), 2, 2))


@pytest.mark.parametrize("images, said", [
    (torch.full((2, 1, 4, 4), 4095), "whole numbers 4095 to 4095"), (torch.full((2, 1, 4, 4), -1), "-1 to -1"),
    (torch.full((2, 1, 4, 4), 200.0), "give x / 255"), (torch.tensor([0.0, 2.0] * 8).view(1, 4, 4), "give x / 255"),
    (torch.full((2, 1, 4, 4), 60.5), "from 60.5"),
    (torch.tensor([-1.0, 0.3] * 8).view(1, 4, 4), r"give \(x \+ 1\) / 2"),
    (torch.full((2, 1, 4, 4), float("nan")), "NaN"), (torch.full((2, 1, 4, 4), float("inf")), "infinity"),
])
def test_images_in_another_range_are_refused_with_a_remedy(images, said):
    for draw in (plots.show_grid, lambda x: plots.show_rows({"a": x}), lambda x: plots.show_grids({"a": x}),
                 lambda x: plots.tile(x, 1, 2)):
        with pytest.raises(ValueError, match=said):
            draw(images)


def test_noise_beyond_the_range_is_cut_and_no_images_in_a_group_are_blank():
    noisy = torch.tensor([-0.7, 0.4, 1.9, 3.3]).view(1, 2, 2)
    assert np.allclose(plots.tile(noisy, 1, 1), [[0, 0.4], [1, 1]])
    assert np.allclose(plots.tile(torch.zeros(0, 1, 4, 4), 1, 2), plots.BLANK)
    assert np.allclose(plots.tile([np.zeros((2, 2)), np.ones((2, 2))], 1, 2, gap=0), [[0, 0, 1, 1]] * 2)


def shown(fig, axis=0):
    return np.asarray(fig.axes[axis].images[0].get_array())


def test_rows_of_unlike_length_stay_in_their_rows():
    a, b = torch.full((2, 1, 3, 3), 0.25), torch.full((4, 1, 3, 3), 0.5)
    page = shown(plots.show_rows({"a": a, "b": b, "none": a[:0], "long": torch.cat([b, a])}, columns=4))
    cells = [[page[4 * row + 1, 4 * column + 1] for column in range(4)] for row in range(4)]
    blank = plots.BLANK
    assert np.allclose(cells, [[0.25, 0.25, blank, blank], [0.5] * 4, [blank] * 4, [0.5] * 4])


def test_grids_of_unlike_length_leave_places_blank():
    fig = plots.show_grids({"a": torch.zeros(2, 1, 3, 3), "b": torch.zeros(5, 1, 3, 3)}, columns=2)
    assert shown(fig).shape == shown(fig, 1).shape == (11, 7)
    assert np.allclose(shown(fig)[5, [1, 5]], plots.BLANK) and np.allclose(shown(fig, 1)[[5, 9], 1], 0)
    tall = plots.show_grids({"wide": torch.zeros(2, 1, 3, 9), "tall": torch.zeros(2, 1, 9, 3)}, columns=2)
    assert shown(tall).shape == (3, 19) and shown(tall, 1).shape == (9, 7)


IMAGES = torch.zeros(4, 1, 5, 5)


@pytest.mark.parametrize("draw, said", [
    (lambda: plots.show_grid(IMAGES, columns=0), "columns=0"), (lambda: plots.show_grid(IMAGES, rows=0), "rows=0"),
    (lambda: plots.show_grid(IMAGES[:0]), "0 images"), (lambda: plots.show_grids({}), "0 images"),
    (lambda: plots.show_grids({"a": IMAGES[:0]}), "0 images"), (lambda: plots.show_rows({}), "rows must hold images"),
    (lambda: plots.show_rows({"a": IMAGES[:0]}), "rows must hold images"),
    (lambda: plots.show_rows({"a": IMAGES, "b": torch.zeros(2, 6, 6)}), "all of one size"),
    (lambda: plots.show_rows({"a": IMAGES}, columns=0), "columns=0"),
    (lambda: plots.tile(IMAGES, 2, 2.0), "columns=2.0"), (lambda: plots.tile(IMAGES, 2, 2, gap=-1), "gap=-1"),
    (lambda: plots.show_grid(IMAGES, columns=4, row_labels=["a", "b"]), "row_labels holds 2 .* each of the 1"),
    (lambda: plots.show_grid(IMAGES, columns=4, column_labels="abc"), "column_labels holds 3 .* each of the 4"),
    (lambda: plots.show_grid(IMAGES, width=0), "width=0"), (lambda: plots.figure(3, float("nan")), "height=nan"),
    (lambda: plots.show_curves({"a": ([1, 2], [1])}, x_label="", y_label=""), "curve 'a': 2 x and 1 y"),
    (lambda: plots.show_curves({"a": ([], [])}, x_label="", y_label=""), "curve 'a': 0 x"),
    (lambda: plots.show_curves({}, x_label="", y_label="", y_range=(2, 1)), r"y_range=\(2, 1\)"),
    (lambda: plots.show_curves({}, x_label="", y_label="", y_range=(0, 1), log_y=True), "above 0 for log_y"),
    (lambda: plots.show_bars({}, y_label=""), "0 bars"),
])
def test_figures_say_what_is_wrong_with_an_argument(draw, said):
    with pytest.raises(ValueError, match=said):
        draw()


@pytest.mark.parametrize("images, remedy", [
    (torch.rand(28, 28), lambda x: x[None]), (torch.rand(2, 3, 8, 8), lambda x: x.mean(1)),
    (torch.rand(2, 4, 4) * 255 // 1, lambda x: x / 255),
    (torch.rand(2, 4, 4).round() * 2 - 1, lambda x: (x + 1) / 2),
])
def test_the_remedies_work(images, remedy):
    with pytest.raises(ValueError):
        plots.show_grid(images)
    assert shown(plots.show_grid(remedy(images))).max() <= 1


def test_labels_stand_at_the_middle_of_their_rows_and_logarithms_where_asked():
    fig = plots.show_grid(IMAGES, columns=2, row_labels=["a", "b"], column_labels=["c", "d"], title="t")
    assert list(fig.axes[0].get_yticks()) == [3, 9] and list(fig.axes[0].get_xticks()) == [3, 9]
    assert [t.get_text() for t in fig.axes[0].get_xticklabels()] == ["c", "d"] and fig.axes[0].get_title() == "t"
    axis = plots.show_curves({"a": ([1, 2], [1, 2])}, x_label="", y_label="", log_x=True, y_range=(1, 3)).axes[0]
    assert (axis.get_xscale(), axis.get_yscale(), axis.get_ylim()) == ("log", "linear", (1, 3))
    axis = plots.show_curves({"a": ([1, 2], [1, 2])}, x_label="", y_label="", log_y=True).axes[0]
    assert (axis.get_xscale(), axis.get_yscale()) == ("linear", "log")


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
    assert list(axis.lines[1].get_ydata()) == [2, 2]
    assert pixels(fig).std() > 10


def test_bars_write_their_values():
    fig = plots.show_bars({"PCA": 0.91, "AE": 0.52}, y_label="error")
    assert [t.get_text() for t in fig.axes[0].texts] == ["0.9", "0.5"]
