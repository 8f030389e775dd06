"""Chapter 9's latents on phantoms: reached along straight paths, and replaced by discrete codes.

    make study STUDY=latents                    writes chapters/figures/latents.json; twenty minutes of one core a seed
    make study STUDY=latents ARGS="--table"     prints its tables again

Straight paths: chapter 9's cells train its autoencoder, its denoiser and its reader of films; then its denoiser is
trained once more, in as many steps, with two lines of its loss replaced: the path and the target. 300 films are drawn
in 4 and 10 passes, with the chapter's guidance (a guided pass counts once) and its repair of the spread, and judged
as in `pixel_diffusion.py`. Either network can be asked by the chapter's sampler of second order, for what a network of
one path says can be read on the other; the straight one by Euler's steps as well, with chapter 11's shift.

Codes: chapter 11's VQ-VAE with the encoder and the decoder of chapter 9 around it, trained in as many steps on the same
batches, with the chapter's absolute error and chapter 11's two other terms, and without an average of the weights. Two
codes of 512 a place are about as many bits as the continuous map. Bits: of a map of codes 16 x 16 x 2 x log2(512), a
fixed length for each; of the continuous map its KL, which is what coding a draw of it costs by the prior N(0, I). Its
copies are therefore made from draws. No setting was chosen by a result.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _films
import torch
from chapter_cells import definitions, markdown, mean_sd, parser_of, progress, said
from flow_matching import SHIFT, changed
from torch import Tensor, nn

FILE = _films.CHAPTERS / "figures" / "latents.json"
SAMPLES, PASSES, GUIDANCE, CODES, WIDTH, PER_PLACE = 300, (4, 10), 5.0, 512, 4, (2,)
STRAIGHT = {
    "z_t = diffusion.q_sample(z0, t, eps, schedule)": "z_t = flow_matching.interpolate(z0, eps, 1 - (t + 1) / T)",
    'diffusion.target(z0, eps, t, schedule, predicts="v")': "flow_matching.velocity_target(z0, eps)"}
MEASURES = {"fd": "Fréchet", "kid": "kernel", "recall": "recall", "coverage": "coverage", "detail": "detail",
            "read": "read as asked"}
SAMPLERS = {("chapter 9", "second order"): "chapter 9's path, its sampler",
            ("straight", "second order"): "straight path, the same sampler",
            ("straight", "euler"): "straight path, Euler"}
Names = dict[str, Any]


# --- straight paths ---------------------------------------------------------------------------------------


def train_straight(names: Names) -> nn.Module:
    """Chapter 9's denoiser, trained as there but for the lines of STRAIGHT."""
    from genmed_core import chapters, flow_matching

    cells = [cell for cell in chapters.cells(_films.CHAPTER) if "def latent_loss" in cell.source]
    source = cells[0].source[: cells[0].source.index("def train_denoiser")]
    own = names | {"flow_matching": flow_matching}
    exec(changed(source, STRAIGHT), own)  # the chapter's own cell, two lines replaced
    kept, names["latent_loss"] = names["latent_loss"], own["latent_loss"]
    net, _ = names["train_denoiser"](names["scaled"], names["train_set"].labels, names["LDM_STEPS"], "straight path")
    names["latent_loss"] = kept
    return net


class OnItsPath(nn.Module):
    """A network of the straight path, asked as one of chapter 9's: z (B, ...) at step t (B,) -> v."""

    def __init__(self, net: nn.Module, schedule: Any) -> None:
        super().__init__()
        self.net, self.schedule, self.null = net, schedule, net.null

    def forward(self, z: Tensor, t: Tensor, y: Tensor) -> Tensor:
        bar = self.schedule.alpha_bar.double()[t]
        a, s = (w.sqrt().view(-1, 1, 1, 1) for w in (bar, 1 - bar))
        time = a / (a + s)
        k = (self.schedule.T * (1 - time.flatten()) - 1).clamp(min=0)
        x_t = (z / (a + s)).float()
        u = self.net(x_t, k, y).float()
        x0, eps = x_t + (1 - time) * u, x_t - time * u
        return (a * eps - s * x0).float()


def draws(names: Names, straight: nn.Module) -> dict[tuple[str, str, int], Callable[[Tensor], Tensor]]:
    """{(network, sampler, passes): labels -> standardised latents}."""

    def by_chapter(net: nn.Module, passes: int) -> Callable:
        return lambda y: names["draw_latents"](net, y, guidance=GUIDANCE, steps=passes)

    found = {}
    for n in PASSES:
        found["chapter 9", "second order", n] = by_chapter(names["denoiser"], n)
        found["straight", "second order", n] = by_chapter(OnItsPath(straight, names["schedule"]), n)
        found["straight", "euler", n] = lambda y, steps=n: by_euler(names, straight, y, steps)
    return found


def by_euler(names: Names, net: nn.Module, y: Tensor, steps: int) -> Tensor:
    """Latents (B, 4, 16, 16), from the noise that the chapter's `draw_latents` starts from."""
    from genmed_core import flow_matching as flow

    start = torch.randn(len(y), names["LATENT"], 16, 16, generator=torch.Generator().manual_seed(names["SEED"]))
    velocity = flow.from_network(net, names["T"])
    return torch.cat([flow.ode_sample(flow.guided(velocity, labels, null=net.null, guidance=GUIDANCE), part,
                                      flow.times(steps, SHIFT))
                      for part, labels in zip(start.split(100), y.split(100))])


def measure_draws(names: Names) -> list[dict[str, Any]]:
    """A row for each network, sampler and number of passes."""
    labels = names["train_set"].labels.sort().values
    asked = labels[torch.linspace(0, len(labels) - 1, SAMPLES).long()]
    rows = []
    for (net, sampler, passes), draw in draws(names, train_straight(names)).items():
        z = draw(asked)
        spread = z.std((0, 2, 3), keepdim=True)
        films = names["decode"](z / spread, (names["m"], names["s"]))
        found = names["score"](films)["synthetic"]
        rows.append({"network": net, "sampler": sampler, "passes": passes, "spread": rounded(spread.flatten().tolist()),
                     **{key: rounded(found[key]) for key in MEASURES if key != "read"},
                     "read": rounded(names["share_read"](films, asked))})
        progress(str(rows[-1]))
    return rows


# --- discrete codes ---------------------------------------------------------------------------------------


class Says(nn.Module):
    """Films (B, 1, 64, 64) in [-1, 1] -> what chapter 9's encoder says, `codes` vectors a place (B, WIDTH, H, 16)."""

    def __init__(self, autoencoder: nn.Module, codes: int) -> None:
        super().__init__()
        self.autoencoder, self.codes = autoencoder, codes

    def forward(self, x: Tensor) -> Tensor:
        return self.autoencoder.encode(x)[0].view(len(x), WIDTH, 16 * self.codes, 16)


class Hears(nn.Module):
    """Vectors (B, WIDTH, 16 codes, 16) -> films (B, 1, 64, 64) by chapter 9's decoder."""

    def __init__(self, autoencoder: nn.Module, codes: int) -> None:
        super().__init__()
        self.autoencoder, self.codes = autoencoder, codes

    def forward(self, e: Tensor) -> Tensor:
        return self.autoencoder.decode(e.reshape(len(e), WIDTH * self.codes, 16, 16))


def discrete(names: Names, codes: int) -> nn.Module:
    """Chapter 11's VQ-VAE with `codes` codes a place, around chapter 9's encoder and decoder, trained."""
    eleven = definitions("11_likelihoods", ["device", "VQVAE", "revive"], seed=names["SEED"])
    eleven["CODES"] = CODES
    torch.manual_seed(names["SEED"])
    model, autoencoder = eleven["VQVAE"](WIDTH), names["RadiographVAE"](channels=codes * WIDTH)
    model.encoder, model.decoder = Says(autoencoder, codes), Hears(autoencoder, codes)
    model.heard = torch.zeros(names["BATCH"] * 256 * codes, WIDTH)
    return trained(names, model, lambda: eleven["revive"](model), f"VQ-VAE, {codes} codes a place")


def code_loss(names: Names, model: nn.Module, beta: float = 0.25) -> Callable:
    """-> loss_fn(batch): the absolute error, in units of the pixels' own about their median; (11.3)'s other terms."""
    films = names["to_signed"](names["train_set"].images[:1000].float() / 255)
    unit = (films - films.median()).abs().mean()

    def loss_fn(batch: Any) -> tuple[Tensor, dict]:
        x = names["to_signed"](batch.x)
        z = model.encoder(x)
        k = model.nearest(z)
        e = model.vectors[k].movedim(-1, 1)
        off = (x - model.decoder(z + (e - z).detach())).abs().mean()  # straight through
        with torch.no_grad():
            model.used.lerp_(torch.bincount(k.flatten(), minlength=CODES) / k.numel(), 0.02)
            model.heard.copy_(z.movedim(1, -1).flatten(0, -2))
        near = (z.detach() - e).square().mean() + beta * (z - e.detach()).square().mean()
        return off / unit + near, {"off": off.detach()}

    return loss_fn


def trained(names: Names, model: nn.Module, revive: Callable[[], None], title: str) -> nn.Module:
    """With chapter 9's optimiser, batches and steps, and codes revived as in chapter 11."""
    kernels = names["kernels"]
    update = kernels.Update(code_loss(names, model), torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.99),
                                                                       weight_decay=0.0), after=revive)
    step = kernels.TrainStep(update, model=model, seed=names["SEED"], schedule=kernels.linear_decay(0.05),
                             batches=kernels.Batches(names["train_set"], batch_size=names["BATCH"], seed=names["SEED"]))
    names["train"].fit(step, names["runtime"].budget(names["VAE_STEPS"]), title=title)
    return model.eval().requires_grad_(False)


def measure_copies(names: Names) -> list[dict[str, Any]]:
    """A row for the continuous map and for each number of codes a place."""
    x = names["to_signed"](names["test_set"].images.float() / 255).split(200)
    rows = [continuous(names, x)]
    for codes in PER_PLACE:
        model = discrete(names, codes)
        with torch.no_grad():
            k = [model.nearest(model.encoder(part)) for part in x]
            copies = torch.cat([model.decode(part) for part in k])
        share = torch.bincount(torch.cat(k).flatten(), minlength=CODES) / (256 * codes * len(copies))
        in_use = torch.special.entr(share).sum().exp().item()
        rows.append(copy_row(names, codes, 256 * codes * math.log2(CODES), copies)
                    | {"perplexity": rounded(in_use), "used": int((share > 0).sum())})
        progress(str(rows[-1]))
    return rows


@torch.no_grad()
def continuous(names: Names, x: tuple[Tensor, ...]) -> dict[str, Any]:
    """The row of chapter 9's autoencoder: one draw of each film's code."""
    mu, logvar = (torch.cat(part) for part in zip(*(names["vae"].encode(part) for part in x)))
    z = mu + (0.5 * logvar).exp() * torch.randn(mu.shape, generator=torch.Generator().manual_seed(names["SEED"]))
    nats = names["metrics"].gaussian_kl(mu, logvar).flatten(1).sum(1).mean().item()
    return copy_row(names, 0, nats / math.log(2), torch.cat([names["vae"].decode(part) for part in z.split(200)]))


def copy_row(names: Names, codes: int, bits: float, copies: Tensor) -> dict[str, Any]:
    test, grey = names["test_set"].images, names["to_grey"](copies)
    audit = names["audit"]
    return {"codes": codes, "bits": rounded(bits), "psnr": rounded(names["psnr"](test, grey)),
            "detail": rounded(float(audit.fine_detail(grey) / audit.fine_detail(test)))}


def rounded(value: Any) -> Any:
    return [rounded(v) for v in value] if isinstance(value, list) else float(f"{value:.6g}")


# --- tables -----------------------------------------------------------------------------------------------


def tables(stored: dict[str, Any]) -> str:
    """Films drawn, by path, sampler and passes; then copies, by code. Means over the seeds, with deviations."""
    runs = stored["runs"]
    drawn = []
    for (net, sampler), name in SAMPLERS.items():
        for passes in PASSES:
            same = [r for run in runs for r in run.get("draws", [])
                    if (r["network"], r["sampler"], r["passes"]) == (net, sampler, passes)]
            if not same:
                continue
            drawn.append([name, str(passes), *(told([r[key] for r in same], 2) for key in MEASURES)])
    first = markdown(["300 films", "passes", *MEASURES.values()], drawn)
    copied = []
    for i, row in enumerate(runs[0]["copies"]):
        same = [run["copies"][i] for run in runs]
        codes = row["codes"]
        name = f"{codes} code{'s' * (codes > 1)} a place, of {CODES}" if codes else "4 numbers a place (chapter 9)"
        copied.append([name, told([r["bits"] for r in same], 0), told([r["psnr"] for r in same], 1),
                       told([r["detail"] for r in same], 2),
                       told([r["perplexity"] for r in same], 0) if codes else "",
                       told([r["used"] for r in same], 0) if codes else ""])
    return first + "\n\n" + markdown(["copies of test films", "bits", "PSNR, dB", "detail", "perplexity", "codes used"],
                                     copied)


def told(values: list[float], digits: int) -> str:
    return said(mean_sd(values), digits) if len(values) > 1 else f"{values[0]:,.{digits}f}"


def main() -> None:
    parser = parser_of(__doc__, FILE)
    options = parser.parse_args()
    runs = {run["seed"]: run for run in _films.stored_runs(options.output)}
    for seed in [] if options.table else [s for s in options.seeds if "draws" not in runs.get(s, {})]:
        names, run = _films.chapter(seed), runs.setdefault(seed, {"seed": seed})
        for part, measure in (("copies", measure_copies), ("draws", measure_draws)):
            run[part] = run.get(part) or measure(names)
            _films.write(Path(options.output), names, samples=SAMPLES, guidance=GUIDANCE, shift=SHIFT, codes=CODES,
                         width=WIDTH, runs=list(runs.values()))
    print(tables(json.loads(Path(options.output).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
