"""Chapter 8's U-Net by its own path and by the straight one, at equal steps, and what its ODE says of likelihood.

    make study STUDY=flow_matching     writes chapters/figures/flow_matching.json; an hour and more of one core
    make study STUDY=flow_matching ARGS="--table"     prints its tables again

Chapter 8's cells train every network: `KINDS` says which of their lines are replaced, and the rest, from the batch to
the moving average, is theirs. 500 digits are drawn and judged as in that chapter: guidance 2 where noise is not yet at
its highest, guesses of the image held to the grey levels, test images, a floor from validation images. The shift of the
straight path's times was chosen on validation images, with the first seed (`tried`). Passes are times that the network
is asked, with and without the label for one; Heun's method asks at most as often as its column says.

The ODE's bits are those of float32 networks told the label, on images dequantised by uniform noise as wide as a grey
level, by Hutchinson's estimate in `STOPS` steps of Heun's method (twice as many give 0.006 bits more); where the ODE
ends was chosen on validation images. What is in the file is kept, and trainings are kept in `runs/`: a study that was
stopped goes on.
"""

import ast
import json
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import genmed_core  # noqa: F401  (first: it sets how threads wait)  # isort: skip
import torch
from chapter_cells import CHAPTERS, FIGURES, _defined, markdown, mean_sd, parser_of, progress, said
from torch import Tensor

from genmed_core import chapters, diffusion, metrics, nets, runtime, train
from genmed_core import flow_matching as flow

FILE = FIGURES / "flow_matching.json"
NAMES = ("functools", "train_set", "T", "BF16", "ddpm_loss", "STEPS", "denoiser", "draw", "bound_terms")
STRAIGHT = {
    "x_t = diffusion.q_sample(x0, t, eps, cosine)": "x_t = flow_matching.interpolate(x0, eps, 1 - (t + 1) / T)",
    "v = diffusion.target(x0, eps, t, cosine, predicts=PREDICTS)": "v = flow_matching.velocity_target(x0, eps)"}
DRAWN = {"t = diffusion.stratified_timesteps(B, T, device=x0.device)":
         "t = diffusion.stratified_timesteps(B, T, spread=1.0, device=x0.device)"}
COUPLED = {"eps = torch.randn_like(x0)":
           "eps = flow_matching.optimal_coupling(x0, torch.randn_like(x0), labels=batch.y)"}
THRICE = ("cosine", "straight", "logit")  # trained from every seed, the others from the first
KINDS = {"cosine": {}, "straight": STRAIGHT, "logit": STRAIGHT | DRAWN, "coupled": STRAIGHT | COUPLED}
PASSES, SAMPLES, GUIDANCE = (1, 2, 4, 10, 20, 50), 500, 2.0
SHIFT = 2.0
SETTLED = {"cosine": (0, 800), "straight": (0.2, 1.0)}  # steps k of the one path, times t of the other
IMAGES, STOPS, PROBES = 64, 100, 1  # of the likelihood
ENDS, TRIED_ON = (0.99, 0.9937, 0.996, 0.998), 8  # t where the ODE may end, and validation images that choose


def changed(source: str, lines: dict[str, str]) -> str:
    """A cell with some of its lines replaced; SystemExit where it no longer holds one."""
    for old, new in lines.items():
        if source.count(old) != 1:
            raise SystemExit(f"chapter 8 no longer holds the line {old!r}: the study has to follow the chapter")
        source = source.replace(old, new)
    return source


def trained(kind: str, seed: int) -> dict[str, Any]:
    """Chapter 8's cells with the lines of KINDS[kind] replaced, and its training run -> their names."""
    os.environ["GENMED_SEED"] = str(seed)
    cells = chapters.cells(CHAPTERS / "08_ddpm.py")
    defined = [_defined(ast.parse(cell.source).body) for cell in cells]
    wanted = sorted({next(i for i, here in enumerate(defined) if name in here) for name in NAMES})
    names: dict[str, Any] = {"__name__": "study", "flow_matching": flow}
    for i in wanted:
        if "ddpm_loss" in defined[i]:
            cells[i].source = changed(cells[i].source, KINDS[kind])
        chapters.run([cells[i]], names, "08_ddpm")
        names["BF16"] = runtime.has_fast_bf16()
    history = train.fit(names["step"], runtime.budget(names["STEPS"]), title=f"{kind}, seed {seed}",
                        checkpoint=f"flow_matching_{kind}_{seed}.pt")
    return names | {"history": history, "net": names["step"].ema_model.eval(), "kind": kind, "seed": seed}


# --- samples ----------------------------------------------------------------------------------------------


def draw_straight(c: dict[str, Any], y: Tensor, times: Tensor, method: str, *, guidance: float = GUIDANCE,
                  between: tuple[float, float] = SETTLED["straight"], clip: bool = True) -> Tensor:
    """Digits (B, 1, 28, 28) in [0, 1] for labels y (B,), from the noise that chapter 8's `draw` starts from."""
    generator, parts = torch.Generator().manual_seed(c["seed"]), []
    velocity = flow.from_network(c["denoiser"](c["net"]))
    for part in y.split(64):
        u = flow.guided(velocity, part, null=c["unet"].null, guidance=guidance, between=between)
        start = torch.randn(len(part), 1, 28, 28, generator=generator)
        parts.append(flow.ode_sample(flow.clipped(u) if clip else u, start, times, method))
    return c["to_grey"](torch.cat(parts))


def samplers(c: dict[str, Any]) -> dict[tuple[str, int], Callable[[Tensor], Tensor]]:
    """{(name, passes at most): labels -> images}."""
    if c["kind"] == "cosine":
        return {("ddim", n): partial(c["draw"], c["net"], steps=n, guidance=GUIDANCE, between=SETTLED["cosine"])
                for n in PASSES}
    found = {("euler", n): partial(draw_straight, c, times=flow.times(n, SHIFT), method="euler") for n in PASSES}
    for n in (4, 10, 20) if c["kind"] == "straight" else ():  # two passes a step, one for the last
        found["heun", n] = partial(draw_straight, c, times=flow.times(n // 2, SHIFT), method="heun")
    return found


def sampled(c: dict[str, Any], done: set[tuple]) -> Iterator[dict[str, Any]]:
    """A row for each sampler and number of passes that is not yet done."""
    asked = c["labels_like_the_data"](SAMPLES)
    reference = metrics.real_reference(c["test_set"], held_out=c["val_set"], n=SAMPLES)
    for (sampler, passes), draw in samplers(c).items():
        key = (c["kind"], c["seed"], sampler, passes)
        if key not in done:
            report = metrics.sample_report(draw(asked), reference, asked)
            measured = ("fd", "fd_ratio", "precision", "recall", "read_accuracy")
            row = dict(zip(("kind", "seed", "sampler", "passes"), key))
            row |= {name: float(f"{report[name]:.6g}") for name in measured}
            progress(str(row))
            yield row


def tried(c: dict[str, Any]) -> list[dict[str, Any]]:
    """Fréchet distances of the straight path by shift of its times, against validation images."""
    asked = c["labels_like_the_data"](SAMPLES)
    others = torch.randperm(len(c["train_set"]), generator=torch.Generator().manual_seed(0))[:5000]
    reference = metrics.real_reference(c["val_set"], held_out=c["train_set"].subset(others), n=SAMPLES)
    rows = []
    for shift in (1.0, 2.0, 3.0):
        for sampler, steps in (("euler", 10), ("heun", 5)):
            x = draw_straight(c, asked, flow.times(steps, shift), sampler)
            ratio = metrics.sample_report(x, reference, asked)["fd_ratio"]
            rows.append({"shift": shift, "sampler": sampler, "steps": steps, "fd_ratio": float(f"{ratio:.6g}")})
            progress(str(rows[-1]))
    return rows


# --- likelihood -------------------------------------------------------------------------------------------


def stops_for(end: float) -> Tensor:
    """STOPS + 1 times from noise to `end`, in angles atan((1 - t) / t) that grow as squares from there."""
    last = math.atan2(1 - end, end)
    phi = last + (math.pi / 2 - last) * torch.linspace(1, 0, STOPS + 1, dtype=torch.float64) ** 2
    return phi.cos() / (phi.cos() + phi.sin())


def ode_bits(velocity: flow.Velocity, images: Tensor, y: Tensor, end: float, seed: int = 0) -> Tensor:
    """Bits per dimension of bytes (B, 1, 28, 28), uniformly dequantised, taken for what is at t = end -> (B,)."""
    g = torch.Generator().manual_seed(seed)
    x = 2 * (images + torch.rand(images.shape, generator=g) - 0.5) / 255 - 1
    nats = torch.cat([flow.log_likelihood(lambda x_t, t, part=labels: velocity(x_t, t, part), part, stops_for(end),
                                          probes=PROBES, generator=g)
                      for part, labels in zip(x.split(50), y.split(50))])
    return -nats / (x[0].numel() * math.log(2)) + math.log2(255 / 2)


def bound_bits(net: diffusion.Model, c: dict[str, Any], images: Tensor, y: Tensor) -> Tensor:
    """Chapter 8's bound on the same bytes, all of its terms, one draw of noise each -> (B,)."""
    total, _ = diffusion.bits_per_dim(net, 2 * images / 255 - 1, c["cosine"], y=y, predicts="v", clip=(-1, 1),
                                      generator=torch.Generator().manual_seed(0))
    return total


def likelihoods(c: dict[str, Any], name: str) -> dict[str, Any]:
    """A row: bits by the ODE, whose end is chosen on validation images, and the bound where there is one."""
    net = metrics.load_weights(nets.UNet(), "ddpm_digits").eval() if name == "shipped" else c["net"]
    velocity = flow.from_network(net) if name == "straight" else flow.from_diffusion(net, c["cosine"])
    tried = {str(end): ode_bits(velocity, *some(c["val_set"], TRIED_ON), end).mean().item() for end in ENDS}
    end = min(tried, key=tried.__getitem__)
    images, y = some(c["test_set"], IMAGES)
    row = {"network": name, "seed": c["seed"], "images": IMAGES, "end": float(end),
           "tried": {key: round(value, 4) for key, value in tried.items()},
           "bits": mean_of(ode_bits(velocity, images, y, float(end)))}
    return row | ({} if name == "straight" else {"bound": mean_of(bound_bits(net, c, images, y))})


def some(images: Any, n: int) -> tuple[Tensor, Tensor]:
    """n images (n, 1, 28, 28) as floats from 0 to 255, and their labels, drawn once."""
    picked = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:n]
    return images.images[picked].float(), images.labels[picked]


def mean_of(values: Tensor) -> dict[str, float]:
    """A mean with its standard error over images."""
    return {"mean": round(values.mean().item(), 4), "se": round((values.std() / len(values) ** 0.5).item(), 4)}


# --- tables -----------------------------------------------------------------------------------------------

ROWS = {("cosine", "ddim"): "chapter 8's path, DDIM", ("straight", "euler"): "straight path, Euler",
        ("straight", "heun"): "straight path, Heun", ("coupled", "euler"): "Euler, coupled in the batch",
        ("logit", "euler"): "Euler, logit-normal t"}
NETWORKS = {"cosine": "chapter 8's path", "straight": "straight path", "shipped": "chapter 8's path, ten times as long"}


def tables(kept: dict[str, Any]) -> str:
    """Fréchet distances over their floor by passes, means over seeds; then bits per dimension."""
    lines = []
    for (kind, sampler), name in ROWS.items():
        same = [r for r in kept["rows"] if (r["kind"], r["sampler"]) == (kind, sampler)]
        if same:
            cells = [[r["fd_ratio"] for r in same if r["passes"] == n] for n in PASSES]
            lines.append([name, str(len({r["seed"] for r in same})), *(told(values) for values in cells)])
    quality = markdown(["Fréchet distance / floor, by passes", "seeds", *map(str, PASSES)], lines)
    found = {r["network"]: r for r in kept["likelihood"]}
    bits = [[name, spoken(found[key].get("bound")), spoken(found[key]["bits"])]
            for key, name in NETWORKS.items() if key in found]
    return f"{quality}\n\n{markdown(['bits per dimension, ± over images', 'bound of chapter 8', 'by the ODE'], bits)}"


def told(values: list[float]) -> str:
    """A mean with its deviation over seeds; nothing where nothing was measured."""
    return "" if not values else said(mean_sd(values), 2) if len(values) > 1 else f"{values[0]:.2f}"


def spoken(value: dict[str, float] | None) -> str:
    return "none" if value is None else f"{value['mean']:.2f} ± {value['se']:.2f}"


def main() -> None:
    parser = parser_of(__doc__, FILE)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS), help="trainings")
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS), help="bits of these")
    options = parser.parse_args()
    kept: dict[str, Any] = {"rows": [], "trainings": [], "likelihood": [], "tried": []}
    file = options.output
    kept |= json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def store() -> None:
        about = {"machine": runtime.machine(), "samples": SAMPLES, "guidance": GUIDANCE, "settled": SETTLED,
                 "shift": SHIFT}
        file.write_text(json.dumps(kept | about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    jobs = [(kind, seed) for kind in options.kinds for seed in options.seeds if seed == 0 or kind in THRICE]
    for kind, seed in [] if options.table else jobs:
        c = trained(kind, seed)
        if (kind, seed) not in {(r["kind"], r["seed"]) for r in kept["trainings"]}:
            kept["trainings"].append({"kind": kind, "seed": seed, "steps": c["step"].count,
                                      "seconds": round(c["history"].seconds, 1), "source": c["train_set"].source})
        for row in sampled(c, {(r["kind"], r["seed"], r["sampler"], r["passes"]) for r in kept["rows"]}):
            kept["rows"].append(row)
            store()
        if (kind, seed) == ("straight", 0) and not kept["tried"]:
            kept["tried"] = tried(c)
            store()
    for name in [] if options.table else options.networks:
        if name not in {r["network"] for r in kept["likelihood"]}:
            kept["likelihood"].append(likelihoods(trained("straight" if name == "straight" else "cosine", 0), name))
            progress(str(kept["likelihood"][-1]))
            store()
    print(tables(kept))


if __name__ == "__main__":
    main()
