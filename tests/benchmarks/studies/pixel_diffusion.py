"""Does latent diffusion earn its first stage? The same network on pixels, trained at equal compute.

    make study STUDY=pixel_diffusion                           three seeds, about an hour on one core
    python tests/benchmarks/studies/pixel_diffusion.py --table     only print the table that chapter 9 shows

Chapter 9's own cells train its autoencoder and its denoiser. Their multiply-adds, forwards and backwards, are counted;
a U-Net on standardised pixels of 64 by 64 gets as many in all, with the chapter's loss, rate, batch and sampler. It
folds pixels into channels four by four, which costs per step what the latent one costs (`--patches 4 2` adds one that
folds two by two, four times as dear and with a quarter of the steps). All have the same widths and so nearly the same
number of parameters. Every model is drawn from with the chapter's guidance, as drawn and with its spread restored.
Nothing is chosen here.
"""


import _films
import torch
from chapter_cells import parser_of

JSON = _films.CHAPTERS / "figures" / "pixel_diffusion.json"
GUIDANCE = (5.0,)  # the chapter's
SAMPLES = 300
MEASURES = {"fd": "Fréchet", "kid": "kernel", "recall": "recall", "coverage": "coverage", "detail": "detail",
            "read": "read as asked"}


def multiply_adds(loss_fn, batch):
    """Of one step of training: the loss and its gradient."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        loss_fn(batch)[0].backward()
    return counter.get_total_flops() / 2


def training_costs(names, *patches):
    """Multiply-adds of a step: {"vae": ..., "latent": ..., patch: ...}, each with its chapter's batch size."""
    Batch, nets, labels = names["kernels"].Batch, names["nets"], names["train_set"].labels
    films = names["train_set"].images[: names["BATCH"]].float() / 255
    costs = {"vae": multiply_adds(names["vae_loss"](names["RadiographVAE"](), names["BETA"]),
                                  Batch(films, labels[: len(films)]))}
    latent = nets.UNet(names["LATENT"], widths=names["WIDTHS"], patch=1, classes=4)
    for name, x, net in (("latent", names["scaled"], latent),
                         *((patch, to_pixels(names)[0], pixel_net(names, patch)) for patch in patches)):
        costs[name] = multiply_adds(names["latent_loss"](net), Batch(x[:16], labels[:16]))
    return costs


def pixel_net(names, patch):
    return names["nets"].UNet(1, widths=names["WIDTHS"], patch=patch, classes=4)


def to_pixels(names):
    """Standardised training films (N, 1, 64, 64), the mean and the spread that they were standardised by."""
    x = names["to_signed"](names["train_set"].images.float() / 255)
    m, s = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
    return (x - m) / s, m, s


def drawn_from(names, net, shape, decode, asked):
    """Measures of what a denoiser draws: a list, for each guidance as drawn and with its spread restored."""
    found, metrics = [], names["metrics"]
    for guidance in GUIDANCE:
        z, seconds = metrics.timed_samples(
            lambda w=guidance: names["draw_latents"](net, asked, shape=shape, guidance=w))
        spread = z.std((0, 2, 3), keepdim=True)
        for restored in (False, True):
            films = decode(z / spread if restored else z)
            q = names["score"](films)
            found.append({"guidance": guidance, "restored": restored, "draw_seconds": seconds,
                          "spread": spread.flatten().tolist(), "read": names["share_read"](films, asked),
                          "neighbour": q["synthetic"]["neighbour"], "floor": q["floor"],
                          **{k: q["synthetic"][k] for k in ("fd", "kid", "precision", "recall", "coverage", "detail")}})
    return found


def measure(names, patches):
    """All models of one seed -> a list of {"model", costs, "drawn": ...}."""
    return [measure_latent(names), *(measure_pixels(names, patch) for patch in patches)]


def asked_for(names):
    labels = names["train_set"].labels.sort().values
    return labels[torch.linspace(0, len(labels) - 1, SAMPLES).long()]


def multiply_adds_in_all(names, costs):
    """Of the training of both stages of the chapter."""
    return names["VAE_STEPS"] * costs["vae"] + names["LDM_STEPS"] * costs["latent"]


def measure_latent(names):
    """The chapter's latent diffusion."""
    m, s, net = names["m"], names["s"], names["denoiser"]
    seconds = names["vae_history"].seconds + names["ldm_history"].seconds
    drawn = drawn_from(names, net, (names["LATENT"], 16, 16), lambda z: names["decode"](z, (m, s)), asked_for(names))
    return described("latent", net, names["LDM_STEPS"], seconds, drawn,
                     multiply_adds_in_all(names, training_costs(names)))


def measure_pixels(names, patch):
    """Its network on standardised pixels, folded `patch` by `patch`, with as many multiply-adds of training."""
    costs = training_costs(names, patch)
    steps = round(multiply_adds_in_all(names, costs) / costs[patch])
    x, mean, spread = to_pixels(names)
    torch.manual_seed(names["SEED"])
    net, history = names["train_denoiser"](x, names["train_set"].labels, steps, f"pixels, {patch} by {patch}",
                                           net=pixel_net(names, patch))
    drawn = drawn_from(names, net, (1, 64, 64), lambda z: names["to_grey"](mean + spread * z), asked_for(names))
    return described(f"pixels, {patch} by {patch}", net, steps, history.seconds, drawn, steps * costs[patch])


def described(model, net, steps, seconds, drawn, train_multiply_adds):
    parameters = sum(p.numel() for p in net.parameters())
    return {"model": model, "steps": steps, "train_multiply_adds": train_multiply_adds, "parameters": parameters,
            "train_seconds": seconds, "drawn": drawn}


def table(stored):
    """The study as Markdown: a row for each model, guidance and treatment, mean and sd over the seeds."""
    lines = ["| | steps | seconds | guidance | spread | " + " | ".join(MEASURES.values()) + " |",
             "|:--|--:|--:|--:|:--|" + "--:|" * len(MEASURES)]
    first = stored["runs"][0]["models"]
    for i, model in enumerate(first):
        same = [run["models"][i] for run in stored["runs"]]
        seconds = sum(one["train_seconds"] for one in same) / len(same)
        for k, drawn in enumerate(model["drawn"]):
            cells = [_films.mean_sd([one["drawn"][k][key] for one in same]) for key in MEASURES]
            lines.append(f"| {model['model']} | {model['steps']:,} | {seconds:.0f} | {drawn['guidance']:g} | "
                         f"{'restored' if drawn['restored'] else 'as drawn'} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"Seeds: {len(stored['runs'])}."])


def main():
    parser = parser_of(__doc__, JSON)
    parser.add_argument("--patches", type=int, nargs="+", default=[4], help="sides of the squares that are folded")
    options = parser.parse_args()
    _films.run(options, lambda names, seed: {"seed": seed, "models": measure(names, options.patches)}, table, SAMPLES)


if __name__ == "__main__":
    main()
