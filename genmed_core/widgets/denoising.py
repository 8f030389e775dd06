"""A diffusion model that draws on the page: its network runs in the browser, in a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import traitlets
from torch import Tensor

from genmed_core import diffusion
from genmed_core.widgets.compile import Program, compile_network
from genmed_core.widgets.explorer import ENGINE
from genmed_core.widgets.panel import HERE, Panel, Slider, positive
from genmed_core.widgets.sampling import Known, Model, sample

SEEDS = 100
STEPS = (1, 2, 3, 5, 8, 12, 16, 20, 25, 35, 50, 75, 100, 250, 1000)
PLACES = 20  # of the sliders over t
BEGINNINGS = ("a start that fits", "pure noise")
RULES = ("derived", "printed")
REGIONS = ("nothing", "left half", "right half", "top half", "bottom half", "middle", "painted")


class Settings(NamedTuple):
    """What the sliders stand at, by name."""

    y: int | None
    seed: int
    steps: int
    eta: float
    guidance: float
    window: tuple[int, int]
    start: int | None  # the step t that a given picture is noised to, None for pure noise
    fill: str  # one of REGIONS
    pure: bool = False  # begin with pure noise, where a prior is another start
    subtract: bool = False  # by the textbook's rule
    other: bool = False  # by the other network


class DiffusionExplorer(Panel):
    """A picture comes out of noise: x_t beside the guess x0_hat, by class, seed, steps, guidance.

    denoiser: a module or function (x, t, y), or (x, t) without class_names, as diffusion.sample
    calls it; predicts, clip: as there.  shape: of x, (C, H, W).  null: the label for "no label",
    by default the denoiser's own; without one there is no guidance.  data_range: what is black and
    what is white; noisy_range: the same of x_t, by default as wide.  decoder: from x to pictures
    (B, 1 or 3, H, W) in data_range, for latent diffusion; encoder: from pictures to x.
    image (H, W) in [0, 1]: a picture to begin from, which the trait `image` holds as float32 bytes,
    so that a pad can be linked to it; redraw=True has the sliders for it without one.
    prior: a function from standard normal x, and y, to x_T, where pure noise is no fair start; a
    slider compares the two.  textbook=True has a slider for the printed rule of chapter 7.
    other: (name, denoiser, predicts) of a second network, which takes the same; a slider puts it in
    the place of the first, there called `name`.  beside: where the sliders of a second film stand
    that is seen from the start, by their key in `names`, such as {"prior": 1}.
    class, seed, steps, eta, guidance and window are where the sliders begin; order: see
    `sampling.sample`.  int8: a byte a weight, half of float16; see `compile_network` for its price.
    device: where the modules of a function are; a module is copied to the CPU.
    The noise is made by counting (`sampling.noise`), so a seed is the same picture on any page.
    """

    _esm = Panel._esm + ENGINE + "".join((HERE / name).read_text(encoding="utf-8")
                                         for name in ("sampler.js", "strokes.js", "denoising.js"))
    _css = Panel._css + (HERE / "denoising.css").read_text(encoding="utf-8")
    PLACE = ("values", "pinned")
    view = traitlets.Unicode("diffusion").tag(sync=True)
    graph = traitlets.Dict().tag(sync=True)
    weights = traitlets.Bytes().tag(sync=True)
    decoder_graph = traitlets.Dict().tag(sync=True)
    decoder_weights = traitlets.Bytes().tag(sync=True)
    encoder_graph = traitlets.Dict().tag(sync=True)
    encoder_weights = traitlets.Bytes().tag(sync=True)
    prior_graph = traitlets.Dict().tag(sync=True)
    prior_weights = traitlets.Bytes().tag(sync=True)
    other_graph = traitlets.Dict().tag(sync=True)
    other_weights = traitlets.Bytes().tag(sync=True)
    alpha_bar = traitlets.Bytes().tag(sync=True)  # float64 (T + 1,), the clean image first
    noise_var = traitlets.Bytes().tag(sync=True)
    facts = traitlets.Dict().tag(sync=True)  # what the sampler has to know
    names = traitlets.Dict().tag(sync=True)  # which slider holds what
    image = traitlets.Bytes().tag(sync=True)  # float32 (H, W) in [0, 1], or nothing
    mask = traitlets.Bytes().tag(sync=True)  # uint8 (H, W), 1 where it is painted over
    pinned = traitlets.List().tag(sync=True)  # values of the sliders to compare with, or nothing
    alt = traitlets.Unicode().tag(sync=True)

    def __init__(self, denoiser: Callable, schedule: diffusion.Schedule, *,
                 shape: Sequence[int] = (1, 28, 28), class_names: Sequence | None = None,
                 predicts: str = "eps", clip: tuple[float, float] | None = (-1.0, 1.0),
                 null: int | None = None, data_range: tuple[float, float] = (-1.0, 1.0),
                 decoder: Callable | None = None, encoder: Callable | None = None,
                 noisy_range: tuple[float, float] | None = None, prior: Callable | None = None,
                 textbook: bool = False, name: str = "ours",
                 other: tuple[str, Callable, str] | None = None,
                 beside: Mapping[str, int] | None = None, image: Any = None,
                 redraw: bool | None = None,
                 label: int = 0, seed: int = 0, steps: int = 25, eta: float = 0.0,
                 guidance: float = 1.0, window: tuple[int, int] | None = None, order: int = 1,
                 int8: bool = True, device: torch.device | str = "cpu", size: int = 168,
                 caption: str = "", alt: str = "Picture drawn from noise") -> None:
        positive(size=size)
        _check(predicts, order, clip, data_range)
        null = getattr(denoiser, "null", None) if null is None else null
        schedule = schedule.to("cpu")
        self.model = Model(*_compiled((denoiser, prior), shape, class_names is not None, int8,
                                      device), schedule, predicts, clip, null)
        self.other = other and self._second(other, shape, class_names is not None, int8, device)
        self.order, self.ranges = order, (data_range, noisy_range or data_range)
        self.decoder = self._program(decoder, torch.zeros(1, *shape, device=device), int8)
        self.picture_shape = self.decoder.shape()[1:] if self.decoder else list(shape)
        picture = torch.zeros(1, *self.picture_shape, device=device)
        self.encoder = self._program(encoder, picture, int8)
        redraw = image is not None if redraw is None else redraw
        self._check_pictures(redraw)
        window = window or (0, schedule.T)
        sliders = _sliders(schedule.T, class_names, null is not None, redraw, window, steps)
        sliders |= _choices(other and (name, other[0]), prior and BEGINNINGS, textbook and RULES)
        values = _values(sliders, label=label, seed=seed, steps=steps, eta=eta, guidance=guidance,
                         window=window)
        super().__init__(
            sliders=list(sliders.values()), values=values,
            pinned=_moved(sliders, values, beside) if beside else [],
            names={key: k for k, key in enumerate(sliders)}, caption=caption, width=size, alt=alt,
            image=self._image_bytes(image), facts=self._facts(class_names is not None),
            **self._sent())

    def _check_pictures(self, redraw: bool) -> None:
        if self.picture_shape[0] not in (1, 3):
            raise ValueError(f"the pictures are {tuple(self.picture_shape)}: give a decoder that "
                             "makes 1 or 3 channels of them")
        if redraw and self.decoder is not None and self.encoder is None:
            raise ValueError("to begin from a picture, latent diffusion needs its encoder")

    def _second(self, other: tuple[str, Callable, str], shape: Sequence[int], labelled: bool,
                int8: bool, device: torch.device | str) -> Model:
        """The first model with another network."""
        _, denoiser, predicts = other
        if predicts not in diffusion.PREDICTS:
            raise ValueError(f"predicts={predicts!r}: choose from {', '.join(diffusion.PREDICTS)}")
        program, _ = _compiled((denoiser, None), shape, labelled, int8, device)
        return self.model._replace(program=program, predicts=predicts)

    def _program(self, network: Callable | None, example: Tensor, int8: bool) -> Any:
        return None if network is None else compile_network(network, int8=int8, x=example)

    def _facts(self, labelled: bool) -> dict[str, Any]:
        model, schedule = self.model, self.model.schedule
        return {"T": schedule.T, "priorStd": schedule.prior_std, "predicts": model.predicts,
                "otherPredicts": self.other and self.other.predicts,
                "clip": model.clip, "null": model.null, "order": self.order,
                "range": self.ranges[0], "noisyRange": self.ranges[1],
                "picture": self.picture_shape, "shape": model.program.shape("x")[1:],
                "inputs": list(model.program.graph["inputs"]), "regions": REGIONS}

    def _sent(self) -> dict[str, Any]:
        """The programs and the schedule as the browser gets them."""
        every = self.model.schedule.at(torch.arange(-1, self.model.schedule.T))
        sent: dict[str, Any] = {"alpha_bar": every[2].numpy().tobytes(),
                                "noise_var": every[3].numpy().tobytes()}
        programs = (("", self.model.program), ("decoder_", self.decoder),
                    ("encoder_", self.encoder), ("prior_", self.model.prior),
                    ("other_", self.other and self.other.program))
        for name, program in programs:
            if program is not None:
                sent |= {f"{name}graph": program.graph, f"{name}weights": program.weights}
        return sent

    def _image_bytes(self, image: Any) -> bytes:
        """A picture (H, W) in [0, 1] as the trait holds it."""
        if image is None:
            return b""
        pixels = torch.as_tensor(image).detach().cpu().float().squeeze()
        wanted = tuple(self.picture_shape[1:])
        if self.picture_shape[0] != 1 or tuple(pixels.shape) != wanted:
            raise ValueError(f"image is {tuple(pixels.shape)}: give one grey picture {wanted}")
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError("image must hold numbers from 0 to 1: divide bytes by 255")
        return pixels.numpy().astype("<f4").tobytes()

    @property
    def settings(self) -> Settings:
        """What the sliders stand at."""
        return self._read(self.values)

    def _read(self, values: Sequence) -> Settings:
        def at(name: str, default: Any) -> Any:
            k = self.names.get(name)
            return default if k is None else values[k]

        def number(name: str, default: Any) -> Any:
            k = self.names.get(name)
            return default if k is None else int(self.sliders[k].labels[int(values[k])])

        T = self.model.schedule.T
        start = number("start", T)
        y = at("class", None)
        return Settings(None if y is None else int(y), int(at("seed", 0)), number("steps", 25),
                        float(at("eta", 0.0)), float(at("guidance", 1.0)),
                        (number("from", 0), number("to", T)),
                        start - 1 if self.image and start < T else None,
                        REGIONS[int(at("fill", 0))] if self.image else REGIONS[0],
                        at("prior", 0) == 1, at("rule", 0) == 1, at("network", 0) == 1)

    def sample(self, y: int | None = None, *, callback: Callable | None = None,
               **settings: Any) -> Tensor:
        """The picture that the browser draws, (H, W) or (3, H, W) in [0, 1].

        y and settings (seed, steps, eta, guidance, window, start, fill, pure, subtract, other): in
        place of the sliders'; callback(t, x_t, x0_hat) gets both as pictures before each step.
        """
        now = self.settings._replace(**settings)
        now = now if y is None else now._replace(y=int(y))
        known = self._known(now)

        def show(t: int, x_t: Tensor, x0_hat: Tensor) -> None:
            if callback is not None:
                callback(t, self.picture(x_t, noisy=True), self.picture(x0_hat))

        model = self.other if now.other and self.other else self.model
        x0 = sample(model, now.y, seed=now.seed, steps=now.steps, eta=now.eta,
                    guidance=now.guidance, window=now.window, order=self.order, known=known,
                    pure=now.pure, subtract=now.subtract, callback=show)
        return self.picture(x0)

    def picture(self, x: Tensor, *, noisy: bool = False) -> Tensor:
        """x (1, C, H, W), decoded where that has to be -> (H, W) or (3, H, W) in [0, 1]."""
        if self.decoder is not None:
            x, = self.decoder.run(x=x)
        low, high = self.ranges[noisy]
        grey = ((x[0] - low) / (high - low)).clamp(0, 1)
        return grey[0] if len(grey) == 1 else grey

    def _known(self, now: Settings) -> Known | None:
        """The given picture as the sampler takes it."""
        if not self.image or (now.start is None and now.fill == REGIONS[0]):
            return None
        C, H, W = self.picture_shape
        low, high = self.ranges[0]
        x0 = low + (high - low) * torch.frombuffer(bytearray(self.image), dtype=torch.float32)
        x0 = x0.view(1, 1, H, W)
        if self.encoder is not None:
            x0 = self.encoder.run(x=x0)[0]
        fill = region(now.fill, H, W, self.mask)
        h, w = x0.shape[2:]
        filled = fill.view(h, H // h, w, W // w).amax((1, 3)).view(1, 1, h, w)
        return Known(x0, now.start, None if now.fill == REGIONS[0] else 1 - filled)

    def show(self, y: int | None = None, *, seed: int | None = None) -> Tensor:
        """Move the sliders of class and seed there; returns the picture."""
        values = list(self.values)
        for name, value in (("class", y), ("seed", seed)):
            if value is not None:
                values[self.names[name]] = self.sliders[self.names[name]].place(value)
        self.values = values
        return self.sample()

    def give(self, image: Any) -> None:
        """Begin from another picture, (H, W) in [0, 1]."""
        self.image = self._image_bytes(image)

    def pictures(self) -> list[np.ndarray]:
        """What is drawn at the sliders' values, and what is kept beside it, uint8."""
        films = [self.settings] + ([self._read(self.pinned)] if self.pinned else [])
        drawn = [(255 * self.sample(**film._asdict())).round().byte() for film in films]
        return [(x if x.ndim == 2 else x.permute(1, 2, 0)).numpy() for x in drawn]

    def describe(self) -> str:
        """The picture in words."""
        return f"{self.alt}, {super().describe()}"


def region(name: str, H: int, W: int, painted: bytes = b"") -> Tensor:
    """Which pixels (H, W) are filled in, 1 or 0, for one of REGIONS.  Twin of `region` in JS."""
    row, column = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    down, across = (row - H / 2 + 0.5).abs(), (column - W / 2 + 0.5).abs()  # from the middle
    inside = {"nothing": row < 0, "left half": column < W // 2, "right half": column >= W // 2,
              "top half": row < H // 2, "bottom half": row >= H // 2,
              "middle": (down < H / 4) & (across < W / 4)}
    if name == "painted":
        given = bytearray(painted or bytes(H * W))
        return torch.frombuffer(given, dtype=torch.uint8).view(H, W).float()
    if name not in inside:
        raise ValueError(f"fill={name!r}: choose from {', '.join(REGIONS)}")
    return inside[name].float()


def _check(predicts: str, order: int, clip: Any, data_range: tuple[float, float]) -> None:
    if predicts not in diffusion.PREDICTS:
        raise ValueError(f"predicts={predicts!r}: choose from {', '.join(diffusion.PREDICTS)}")
    if order not in (1, 2):
        raise ValueError(f"order={order}: 1 is DDIM, 2 is DPM-Solver++")
    for name, pair in (("clip", clip), ("data_range", data_range)):
        if pair is not None and not pair[0] < pair[1]:
            raise ValueError(f"{name}={pair}: give (low, high) with low < high")


def _compiled(networks: tuple[Callable, Callable | None], shape: Sequence[int], labelled: bool,
              int8: bool, device: torch.device | str) -> tuple[Program, Program | None]:
    """The denoiser, and what begins in the place of pure noise."""
    denoiser, prior = networks
    x, t = torch.zeros(1, *shape, device=device), torch.tensor([1], device=device)
    y = {"y": torch.tensor([0], device=device)} if labelled else {}
    return (compile_network(denoiser, int8=int8, x=x, t=t, **y),
            prior and compile_network(prior, int8=int8, x=x, **y))


def _sliders(T: int, class_names: Sequence | None, guided: bool, redraw: bool,
             window: tuple[int, int], steps: int) -> dict[str, Slider]:
    places = sorted({round(T * k / PLACES) for k in range(PLACES + 1)} | set(window))
    counts = sorted({n for n in STEPS if n <= T} | {steps})
    sliders = {} if class_names is None else {"class": Slider.of("class", class_names)}
    sliders |= {"seed": Slider.of("seed", range(SEEDS)), "steps": Slider.of("steps", counts),
                "eta": Slider("η", 0, 1, 0.1)}
    if class_names is not None and guided:
        sliders |= {"guidance": Slider("guidance w", 0, 8, 0.5),
                    "from": Slider.of("guided from t", places),
                    "to": Slider.of("guided below t", places)}
    if redraw:
        sliders |= {"start": Slider.of("begin at t", [t for t in places if t > 0]),
                    "fill": Slider.of("fill in", REGIONS)}
    return sliders


def _choices(networks: Sequence | None, beginnings: Any, rules: Any) -> dict[str, Slider]:
    """A slider for each choice that there is."""
    choices = {"network": ("network", networks), "prior": ("begin with", beginnings),
               "rule": ("rule", rules)}
    return {key: Slider.of(title, names) for key, (title, names) in choices.items() if names}


def _values(sliders: dict[str, Slider], *, label: int, seed: int, steps: int, eta: float,
            guidance: float, window: tuple[int, int]) -> list:
    """Where the sliders begin."""
    numbers = {"steps": steps, "from": window[0], "to": window[1]}
    values: list = []
    for name, slider in sliders.items():
        if name in numbers:
            values.append(slider.labels.index(str(numbers[name])))
        elif name == "start":
            values.append(len(slider.labels) - 1)
        elif name in ("fill", "network", "prior", "rule"):
            values.append(0)
        elif name in ("class", "seed"):
            values.append(slider.place({"class": label, "seed": seed}[name]))
        else:
            values.append(slider.nearest({"eta": eta, "guidance": guidance}[name]))
    return values


def _moved(sliders: dict[str, Slider], values: Sequence, to: Mapping[str, int]) -> list:
    """The same places, those of `to` moved; ValueError for a slider that is not there."""
    if missing := set(to) - set(sliders):
        raise ValueError(f"beside names {', '.join(sorted(missing))}: the sliders are "
                         f"{', '.join(sliders)}")
    return [sliders[name].nearest(to[name]) if name in to else value
            for name, value in zip(sliders, values)]
