"""How far does the audit's segmenter err, what does it say of real films, and what does the audit's question notice?

    GENMED_DATA=... make study STUDY=anatomy                about five minutes on one core; real films if they are there
    python tests/benchmarks/studies/anatomy.py --table      only print the tables

Test phantoms, which the segmenter never saw, have known outlines. Real films have none here, so that nothing can be
said about its error on them: only how often it finds two lungs and a heart, what it measures, and whether it says the
same of a film that is mirrored, turned by five degrees or exposed otherwise. Then the question itself: forty honest
sets, 500 held-out phantoms against the 1,100 others, and sets whose anatomy was changed on purpose, against 800
ones. Nothing is chosen here; no film is stored.
"""

import argparse
import json

import _films
import numpy as np
import torch

JSON = _films.CHAPTERS / "figures" / "anatomy.json"
KEYS = ("ctr", "lungs", "left", "right", "asymmetry")
HONEST, SAMPLES = 40, 500
CHANGES = {"hearts 3 % larger": {"heart": 0.3}, "hearts 10 % larger": {"heart": 1.0},
           "shallower breath": {"volume": -0.5}, "all hearts of one size": None}


def against_truth(test):
    """Errors on phantoms: {measure: {"error", "correlation", "spread"}} and the overlap (Dice) of each organ."""
    from genmed_core.audit import anatomy
    from genmed_core.synthetic import phantom

    true, seen = phantom.organs(test.factors), anatomy.outlines(test.images)
    found = {"found": anatomy.measures(seen)["found"].float().mean().item()}
    for name in KEYS:
        t, s = anatomy.measures(true)[name], anatomy.measures(seen)[name]
        found[name] = {"error": (t - s).abs().mean().item(), "spread": t.std().item(),
                       "correlation": torch.corrcoef(torch.stack([t, s]))[0, 1].item()}
    both = (torch.minimum(true, seen).sum((0, 2, 3)) * 2 / (true + seen).sum((0, 2, 3))).tolist()
    return found | {"dice": dict(zip(anatomy.ORGANS, both))}


def described(images):
    """What the segmenter says of films, and of the same films in other views."""
    from genmed_core.audit import anatomy, views

    def measured(x):
        return anatomy.measures(anatomy.outlines((255 * x.clamp(0, 1)).round().to(torch.uint8)))

    x, n = images.float() / 255, len(images)
    plain = measured(x)
    at = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    use = plain["found"]
    out = {"films": n, "found": use.float().mean().item(),
           "quantiles": {k: plain[k][use].quantile(at).tolist() for k in KEYS}, "views": {}}
    turned = views.no_pose(n)._replace(turn=torch.full((n,), 5.0))
    others = {"mirrored": x.flip(-1), "turned by 5 degrees": views.placed(x, turned),
              "another contrast": views.exposed(x, torch.Generator().manual_seed(0), strength=0.5, noise=0.02)}
    for name, view in others.items():
        again = measured(view)
        if name == "mirrored":
            again["asymmetry"] = -again["asymmetry"]
        both = use & again["found"]
        out["views"][name] = {"lost": 1 - both.sum().item() / use.sum().item()} | {
            k: (plain[k] - again[k])[both].abs().mean().item() for k in ("ctr", "lungs", "asymmetry")}
    return out


def question(train, held):
    """The audit's answer to honest sets of held-out phantoms, and to changed ones: {name: excesses and verdict}."""
    from genmed_core.audit import anatomy
    from genmed_core.audit.questions import VERDICTS

    def seen(images):
        return anatomy.measures(anatomy.outlines(images))

    def asked(fake, others, seed):
        found = anatomy.compared(real, others, fake, np.random.default_rng(seed))
        finding = anatomy._anatomy({"anatomy": found})
        return {"verdict": VERDICTS[finding.bad]} | {k: found[k]["excess"] for k in anatomy.MEASURED} | {
            "lost": found["lost"]}

    real, parts, rng = seen(train.images), [seen(s.images) for s in held], np.random.default_rng(0)
    both, honest = {k: torch.cat([part[k] for part in parts]) for k in parts[0]}, []
    for seed in range(HONEST):
        rows = torch.from_numpy(rng.permutation(len(both["ctr"])))
        some, others = ({k: v[part] for k, v in both.items()} for part in (rows[:SAMPLES], rows[SAMPLES:]))
        honest.append(asked(some, others, seed))
    return {"honest": honest} | {name: asked(seen(changed(held[0], name)), parts[1], 0) for name in CHANGES}


def changed(phantoms, name):
    """The first phantoms of a set with a factor moved by so much."""
    from genmed_core.synthetic import phantom

    factors = {k: v[:SAMPLES].clone() for k, v in phantoms.factors.items()}
    for factor, amount in (CHANGES[name] or {}).items():
        factors[factor] = factors[factor] + amount
    if CHANGES[name] is None:
        factors["heart"][:] = 0
    return phantom.draw([phantoms.classes[i] for i in phantoms.labels[:SAMPLES]], factors)


def real_films():
    """All films of the database as one tensor, or None."""
    from genmed_core import data

    try:
        parts = [data.cxr(part, source="database").images for part in ("train", "val", "test")]
    except data.DataError as error:
        print(f"no real films: {error}")
        return None
    return torch.cat(parts)


def measure():
    from genmed_core import data

    train, val, test = (data.cxr(part, source="embedded") for part in ("train", "val", "test"))
    found = {"phantoms": against_truth(test), "test phantoms": described(test.images),
             "question": question(train, (val, test))}
    films = real_films()
    if films is not None:
        found["real films"] = described(films)
    return found


def table(stored):
    """Errors, what it says of both, and the question's answers."""
    true = stored["phantoms"]
    words = {"ctr": "cardiothoracic ratio", "lungs": "lung area, share of the film", "asymmetry": "lung asymmetry"}
    both = [name for name in ("test phantoms", "real films") if name in stored]
    lines = ["| | error on phantoms | correlation | " + " | ".join(f"{name}, median (5 to 95 %)" for name in both)
             + " | " + " | ".join(f"{name}, changed by a turn of 5 degrees" for name in both) + " |",
             "|:--|--:|--:|" + "--:|" * 2 * len(both)]
    for key, name in words.items():
        cells = [f"{true[key]['error']:.3f}", f"{true[key]['correlation']:.2f}"]
        for one in both:
            low, _, middle, _, high = stored[one]["quantiles"][key]
            cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
        cells += [f"{stored[one]['views']['turned by 5 degrees'][key]:.3f}" for one in both]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    found = " | ".join(f"{100 * stored[one]['found']:.1f} %" for one in both)
    lost = " | ".join(f"{100 * stored[one]['views']['turned by 5 degrees']['lost']:.1f} %" for one in both)
    lines += [f"| two lungs and a heart found (lost by the turn) | | | {found} | {lost} |", ""]
    asked = stored["question"]
    counts = {v: sum(one["verdict"] == v for one in asked["honest"]) for v in ("pass", "unclear", "fail")}
    lines += ["| 500 phantoms | verdict | heart | lung area | asymmetry |", "|:--|:--|--:|--:|--:|"]
    mean = [np.mean([one[k]["value"] for one in asked["honest"]]) for k in words]
    lines.append(f"| honest, {len(asked['honest'])} sets | {counts['pass']} pass, {counts['unclear']} unclear, "
                 f"{counts['fail']} fail | " + " | ".join(f"{v:.2f}" for v in mean) + " |")
    for name in CHANGES:
        cells = [f"{asked[name][k]['value']:.2f} ({asked[name][k]['low']:.2f} to {asked[name][k]['high']:.2f})"
                 for k in words]
        lines.append(f"| {name} | {asked[name]['verdict']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", default=JSON)
    parser.add_argument("--table", action="store_true", help="measure nothing, print the stored tables")
    options = parser.parse_args()
    if not options.table:
        from genmed_core import runtime

        _films.write(options.output, {"runtime": runtime}, **measure())
    with open(options.output, encoding="utf-8") as file:
        print(table(json.load(file)))


if __name__ == "__main__":
    main()
