"""Common bugs planted in the chapters' own cells: does a promise break?

    make study STUDY=planted_bugs                   all of them; about 15 minutes on one core
    make study STUDY=planted_bugs ARGS="02 04"      the bugs of these chapters, the others as they are stored
    make study STUDY=planted_bugs ARGS=--table      only the table

A bug is a text of one chapter, found exactly once, and what stands there instead. The promises that should notice are
named by a part of their own name. For them the cells that they need are run, in order and whole (a cell is needed
that binds a name which a needed cell uses), first as they are, when all of these promises must be kept, and then with
the bug, until one is broken. Nearly all are identities, which hold for any weights, so that training may be cut to
a hundredth (GENMED_BUDGET); where a promise is about what training reaches, the bug says how much of it. Writes
chapters/figures/planted_bugs.json.
"""

import argparse
import ast
import json
import os
import subprocess
import symtable
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[3]
STORED = ROOT / "chapters" / "figures" / "planted_bugs.json"


class Bug(NamedTuple):
    """A text of a chapter's code, found once, what stands there instead, and the promises that should notice."""

    chapter: str
    name: str
    text: str
    wrong: str
    promises: tuple[str, ...]  # parts of their names
    budget: float = 0.01       # of the chapter's training


ONE_DRAW, BY_HAND = "minus the bound of one draw", "gradient of the loss against"
V_TRUE = "loss of the v of the true image"
STAGE_ONE, STANDARDISED = "loss of stage one, over its definition", "between latents and standardised latents"
SPREAD = "spread of the latents that the denoiser learns"
ON_SQUARED = "trained on squared as a share of trained on absolute"
BUGS = [
    Bug("01", "the noisy image is the target", "F.mse_loss(model(spoil(x, level)), x)",
        "(lambda noisy: F.mse_loss(model(noisy), noisy))(spoil(x, level))", ("best linear denoiser's",), 1.0),
    Bug("01", "no noise while a denoiser learns", "level = worst * torch.rand(len(x), 1, 1, 1, device=x.device)",
        "level = 0.0 * worst", ("best linear denoiser's",), 1.0),
    Bug("01", "no gradient through the units kept", "scatter(1, kept.indices, kept.values)\n\n\ntorch",
        "scatter(1, kept.indices, kept.values.detach())\n\n\ntorch", ("k-sparse error",), 1.0),
    Bug("01", "the squared error where the absolute was meant", "return F.l1_loss(model(x), x)",
        "return F.mse_loss(model(x), x)", (ON_SQUARED,), 1.0),
    Bug("02", "variance for standard deviation", "torch.randn_like(mu) * torch.exp(0.5 * logvar)  # (2.8)",
        "torch.randn_like(mu) * torch.exp(logvar)", (BY_HAND, ONE_DRAW)),
    Bug("02", "standard deviation for variance", "0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)",
        "0.5 * (mu**2 + (0.5 * logvar).exp() - 1 - 0.5 * logvar).sum(1)", (BY_HAND, ONE_DRAW)),
    Bug("02", "no noise: z = mu", "z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)  # (2.8)",
        "z = mu", (BY_HAND, ONE_DRAW)),
    Bug("02", "the KL is halved", "kl = 0.5 * (mu**2", "kl = 0.25 * (mu**2", (BY_HAND, ONE_DRAW)),
    Bug("02", "the KL is doubled", "kl = 0.5 * (mu**2", "kl = 1.0 * (mu**2", (BY_HAND, ONE_DRAW)),
    Bug("02", "the KL is a mean over coordinates", "- 1 - logvar).sum(1).mean()            # (2.6)",
        "- 1 - logvar).mean()", (BY_HAND, ONE_DRAW)),
    Bug("02", "the reconstruction is a mean over pixels", "kernels.bernoulli_nll(logits, batch.x).mean()",
        "kernels.bernoulli_nll(logits, batch.x).mean() / 784", (BY_HAND, ONE_DRAW)),
    Bug("02", "a sign in the KL", "logvar.exp() - 1 - logvar).sum", "logvar.exp() - 1 + logvar).sum",
        (BY_HAND, ONE_DRAW)),
    Bug("03", "variance for standard deviation",
        "torch.exp(0.5 * logvar)\n    return metrics.bernoulli_nll(model.decode(z, y), x)",
        "torch.exp(logvar)\n    return metrics.bernoulli_nll(model.decode(z, y), x)",
        ("largest difference of the two bounds",)),
    Bug("03", "the KL is a mean over coordinates", "metrics.gaussian_kl(mu, logvar).sum(1)\n\n\ndef make_loss",
        "metrics.gaussian_kl(mu, logvar).mean(1)\n\n\ndef make_loss", ("largest difference of the two bounds",)),
    Bug("03", "labels shifted by one", "terms(model, batch.x, batch.y)", "terms(model, batch.x, (batch.y + 1) % 10)",
        (ONE_DRAW,)),
    Bug("04", "fakes not detached, the book's",
        "        with torch.no_grad():\n            fake = G(torch.randn(len(batch.x), 8, device=device))",
        "        fake = G(torch.randn(len(batch.x), 8, device=device))", ("book: gradient of D's loss in G",)),
    Bug("04", "fakes not detached, ours", 'made["fake"].detach()])       # (2B', 'made["fake"]])       # (2B',
        ("ours: gradient of D's loss in G",)),
    Bug("04", "real and fake exchanged for D", "F.binary_cross_entropy(on_real, torch.ones_like(on_real))",
        "F.binary_cross_entropy(on_real, torch.zeros_like(on_real))", ("book: D's loss",)),
    Bug("04", "the saturating loss for the other",
        "loss = F.binary_cross_entropy(on_fake, torch.ones_like(on_fake))",
        "loss = -F.binary_cross_entropy(on_fake, torch.zeros_like(on_fake))", ("book: G's loss", "book: G's pull")),
    Bug("04", "the generator's sign", 'F.softplus(-scores(made["fake"]))', 'F.softplus(scores(made["fake"]))',
        ("ours: G's loss",)),
    Bug("04", "the penalty not divided by its step", "((s_moved - s[::2]) / SIGMA).square()",
        "(s_moved - s[::2]).square()", ("ours: the penalty",)),
    Bug("04", "reals left in [0, 1], fakes in [-1, 1]", "x = torch.cat([2 * batch.x - 1, made",
        "x = torch.cat([batch.x, made", ("ours: D's loss", "ours: the penalty")),
    Bug("05", "labels of reals shifted by one", 'torch.cat([batch.y, made["y"]])',
        'torch.cat([(batch.y + 1) % 10, made["y"]])', ("D's loss over its known value",)),
    Bug("05", "fakes not detached", "judge(fakes(batch.y).detach())", "judge(fakes(batch.y))",
        ("book: D's loss reaches G",)),
    Bug("06", "the critic's sign", "gap = (s_real - s_fake).mean(1)", "gap = (s_fake - s_real).mean(1)",
        ("less its formula",)),
    Bug("06", "the penalty at the reals, not between", "slopes(critic, a * real + (1 - a) * fake, create_graph=True)",
        "slopes(critic, real, create_graph=True)", ("less its formula",)),
    Bug("06", "the slope's square for the slope", "return gradient.norm(dim=2)", "return gradient.square().sum(2)",
        ("less its formula",)),
    Bug("07", "x_t at t + 1", "return x0 + level(t).sqrt() * SIGMA * eps",
        "return x0 + level(t + 1).sqrt() * SIGMA * eps", ("two ways with the same noise",)),
    Bug("07", "variance for standard deviation", "return x0 + level(t).sqrt() * SIGMA * eps",
        "return x0 + level(t) * SIGMA * eps", ("two ways with the same noise",)),
    Bug("07", "too much noise on the way back", "SIGMA * ((steps - 1) / steps).sqrt() * noise", "SIGMA * noise",
        ("noise left by the posterior step",)),
    Bug("08", "x_t at t + 1", "x_t = diffusion.q_sample(x0, t, eps, cosine)                        # (8.2)",
        "x_t = diffusion.q_sample(x0, (t + 1).clamp(max=T - 1), eps, cosine)", (V_TRUE, "mean square of the noise")),
    Bug("08", "eps for v", "v = diffusion.target(x0, eps, t, cosine, predicts=PREDICTS)", "v = eps", (V_TRUE,)),
    Bug("08", "images left in [0, 1]", "x0 = to_signed(batch.x)  ", "x0 = batch.x  ", (V_TRUE,)),
    Bug("08", "the label kept where it should be dropped", "device=x0.device) < drop, model.null",
        "device=x0.device) > drop, model.null", ("share of labels left out",)),
    Bug("08", "wrong sign of the guidance", "guidance if inside else None, unet.null",
        "-guidance if inside and guidance else None, unet.null", ("guidance of a known network",)),
    Bug("09", "the KL is halved", "kl = metrics.gaussian_kl(mu, logvar).flatten(1).sum(1).mean()\n        return (off",
        "kl = 0.5 * metrics.gaussian_kl(mu, logvar).flatten(1).sum(1).mean()\n        return (off", (STAGE_ONE,)),
    Bug("09", "the KL is a mean over the code",
        "metrics.gaussian_kl(mu, logvar).flatten(1).sum(1).mean()\n        return",
        "metrics.gaussian_kl(mu, logvar).mean()\n        return", (STAGE_ONE,)),
    Bug("09", "the grey values are a mean over pixels", "(x - x_hat).abs().flatten(1).sum(1).mean()\n        kl",
        "(x - x_hat).abs().mean()\n        kl", (STAGE_ONE,)),
    Bug("09", "films left in [0, 1]",
        "x = to_signed(batch.x)\n        with runtime.autocast(x.device):\n            x_hat",
        "x = batch.x\n        with runtime.autocast(x.device):\n            x_hat", (STAGE_ONE,)),
    Bug("09", "latents not scaled", "scaled = (z_train - m) / s", "scaled = z_train - m", (SPREAD, STANDARDISED)),
    Bug("09", "the mean of the latents left in", "scaled = (z_train - m) / s", "scaled = z_train / s",
        (SPREAD, STANDARDISED)),
    Bug("11", "the first layer sees the pixel itself", "mask[-1, reach + (not first):] = 0",
        "mask[-1, reach + 1:] = 0", ("all 3 x 3 pictures", "slope along a later pixel")),
    Bug("11", "MADE's last layer sees its own pixel", '("leaves", rank[:, None] > two)',
        '("leaves", rank[:, None] >= two)', ("all 3 x 3 pictures", "slope along a later pixel")),
    Bug("11", "nats are a mean over pixels", 'model(x).to(x.dtype), x, reduction="none").flatten(1).sum(1)',
        'model(x).to(x.dtype), x, reduction="none").flatten(1).mean(1)', ("all 3 x 3 pictures",)),
    Bug("11", "what is kept is not in [-1, 1]", "c + model.first.far] = 2 * chosen - 1",
        "c + model.first.far] = chosen", ("both ways of drawing agree",)),
    Bug("11", "the sign of the log-determinant", "b, x1], dim=1), s.flatten(1).sum(1)",
        "b, x1], dim=1), -s.flatten(1).sum(1)", ("by layers and by the whole matrix",)),
    Bug("11", "scale and shift undone in the wrong order", "(y2 - b) * (-s).exp()", "y2 * (-s).exp() - b",
        ("back and forth",)),
]


def planted(bug: Bug, sources: list[str]) -> list[str]:
    """The cells with the bug.  Raises LookupError unless its text stands in them exactly once."""
    count = sum(source.count(bug.text) for source in sources)
    if count != 1:
        raise LookupError(f"chapter {bug.chapter}, {bug.name}: its text is found {count} times, not once: {bug.text!r}")
    return [source.replace(bug.text, bug.wrong) for source in sources]


def bound(node: ast.AST) -> set[str]:
    """The names that a statement binds or changes a part of, functions' and classes' own names included."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    names = {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set()
    if isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.ctx, ast.Store):
        names |= {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    return names.union(*(bound(child) for child in ast.iter_child_nodes(node)))


def asked_for(source: str) -> set[str]:
    """The names that a text takes from the cells before it, by its statements and by the bodies of its functions."""
    def outer(table: symtable.SymbolTable, top: bool) -> set[str]:
        names = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global())}
        return names.union(*(outer(child, False) for child in table.get_children()))

    asked, here = set(), set()
    for node in ast.parse(source).body:
        asked |= outer(symtable.symtable(ast.get_source_segment(source, node), "cell", "exec"), True) - here
        here |= bound(node)
    return asked


def settled(tree: ast.Module) -> set[str]:
    """The names that a cell binds anew, whatever they were before."""
    plain = (ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
    parts = [part for part in ast.walk(tree) if isinstance(part, (ast.Subscript, ast.Attribute))]
    changed = {inner.id for part in parts if isinstance(part.ctx, ast.Store)
               for inner in ast.walk(part) if isinstance(inner, ast.Name)}
    return set().union(*(bound(node) for node in tree.body if isinstance(node, plain))) - changed


def slice_for(sources: list[str], promises: tuple[str, ...]) -> list[str]:
    """The cells that the named promises need, in order; of cells with promises, the statements that they need.

    A function's globals are looked for before it. Raises LookupError for a promise that is not there.
    """
    kept, needed, found = [], {"expect"}, set()
    for source in reversed(sources):
        tree = ast.parse(source)
        if "expect(" in source:
            statements = []
            for node in reversed(tree.body):
                text = ast.get_source_segment(source, node) or ""
                named = {promise for promise in promises if "expect(" in text and promise in text}
                seeds = statements and text.startswith("torch.manual_seed(")  # of what follows
                if named or seeds or ("expect(" not in text and bound(node) & needed):
                    statements.append(text)
                    needed = (needed - settled(ast.parse(text))) | asked_for(text)
                    found |= named
            if statements:
                kept.append("\n".join(reversed(statements)))
        elif set().union(*(bound(node) for node in tree.body)) & needed:
            kept.append(source)
            needed = (needed - settled(tree)) | asked_for(source)
    if missing := set(promises) - found:
        raise LookupError(f"no promise is named {', '.join(map(repr, missing))}")
    return kept[::-1]


def broken_promise(cells: list[str]) -> str:
    """Run the cells; the first promise that is broken, or the error that stops them; empty where all are kept."""
    from genmed_core import metrics

    try:
        namespace: dict[str, Any] = {"__name__": "planted"}
        for number, source in enumerate(cells):
            exec(compile(source, f"cell {number}", "exec"), namespace)
    except metrics.ExpectationFailed as failed:
        return str(failed)
    return ""


def judged(chapter: str, folder: Path) -> Iterator[dict]:
    """Run the bugs of one chapter in this process, each in a namespace of its own -> what became of it."""
    import matplotlib

    matplotlib.use("Agg")
    from genmed_core import chapters
    from genmed_core.metrics.promises import Expectations

    Expectations._why_not_judged = lambda self: ""  # identities hold after any training, so a cut one is judged
    path = next(folder.glob(f"{chapter}_*.py"))
    sources = [cell.source for cell in chapters.cells(path) if "solution" not in cell.metadata.get("tags", [])]
    as_it_is: dict[tuple, str] = {}
    for bug in [bug for bug in BUGS if bug.chapter == chapter]:
        os.environ["GENMED_BUDGET"] = str(bug.budget)
        key = (bug.promises, bug.budget)
        if key not in as_it_is:
            as_it_is[key] = broken_promise(slice_for(sources, bug.promises))
        broken = broken_promise(slice_for(planted(bug, sources), bug.promises))
        yield {"chapter": bug.chapter, "bug": bug.name, "budget": bug.budget, "promises": list(bug.promises),
               "without_the_bug": as_it_is[key], "broken": broken,
               "caught": bool(broken) and not as_it_is[key]}


def run(picked: list[str], folder: Path) -> list[dict]:
    """Each chapter in a process of its own; a chapter that stops with an error is reported and catches nothing."""
    results = []
    for chapter in sorted({bug.chapter for bug in BUGS}):
        if picked and chapter not in picked:
            continue
        with tempfile.TemporaryDirectory() as runs:
            environment = os.environ | {"GENMED_RUNS": runs, "GENMED_DATA_SOURCE": os.environ.get(
                "GENMED_DATA_SOURCE", "embedded" if chapter == "09" else "")}
            environment = {key: value for key, value in environment.items() if value}
            command = [sys.executable, __file__, "--one", chapter, "--chapters", str(folder)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
            for line in process.stdout or []:
                if line.startswith("RESULT "):
                    results.append(json.loads(line[7:]))
                    shown = results[-1]
                    print(f"{chapter}  {shown['bug']:45} {shown['broken'] or 'NOT CAUGHT'}", flush=True)
            if process.wait():
                raise SystemExit(f"chapter {chapter} stopped with an error, shown above")
    return results


def table(results: list[dict]) -> str:
    """The bugs as a Markdown table."""
    lines = ["| chapter | bug | training | broken promise |", "| ---: | --- | ---: | --- |"]
    for r in results:
        promise = r["broken"].split(" is ")[0] if r["caught"] else "**none**"
        lines.append(f"| {int(r['chapter'])} | {r['bug']} | {100 * r['budget']:g} % | {promise} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("picked", nargs="*", help="chapters, such as 02; default all")
    parser.add_argument("--table", action="store_true", help="print the stored table")
    parser.add_argument("--output", type=Path, default=STORED)
    parser.add_argument("--chapters", type=Path, default=ROOT / "chapters", help="the folder of the chapters")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        for result in judged(options.one, options.chapters):
            print("RESULT " + json.dumps(result, ensure_ascii=False), flush=True)
        return
    if not options.table:
        names = [word.zfill(2) for word in options.picked]
        stored = json.loads(options.output.read_text(encoding="utf-8"))["bugs"] if options.output.exists() else []
        results = [r for r in stored if names and r["chapter"] not in names] + run(names, options.chapters)
        results.sort(key=lambda r: r["chapter"])
        caught = {"planted": len(results), "caught": sum(r["caught"] for r in results), "bugs": results}
        options.output.write_text(json.dumps(caught, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    content = json.loads(options.output.read_text(encoding="utf-8"))
    print(table(content["bugs"]))
    print(f"\n{content['caught']} of {content['planted']} bugs break a promise.")


if __name__ == "__main__":
    main()
