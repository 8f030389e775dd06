"""Writes chapters/speed.md's tables, sentences and figure from speed_cpu.json and speed_cuda.json: no number is typed.

    python tests/benchmarks/speed_page.py                        (`make bench` does it after measuring)
    make parity > LOG; python tests/benchmarks/speed_page.py LOG     also keeps what `make parity` found

In the page, what stands between `<!-- bench: NAME -->` and `<!-- end -->` is replaced by what `NAME(table)` returns.
"""

import json
import re
import sys
from pathlib import Path

import speed
import steps

from genmed_core import plots, runtime

PAGE = runtime.root() / "chapters" / "speed.md"
FIGURE = PAGE.with_name("figures") / "speed_growth.png"


def kilo(summary):
    """A rate with its spread, in thousands a second."""
    low, mid, high = (summary[k] / 1000 for k in ("low", "median", "high"))
    low, high = (f"{v:.0f}" if v >= 100 else f"{v:.2g}" for v in (low, high))
    return f"{mid:.3g}\u00a0({low}\u2060\u2013\u2060{high})"  # no line breaks in it


def rows(head, lines, words=1):
    """A Markdown table, its first columns, of words, to the left."""
    rule = "|" + " --- |" * words + " ---: |" * (len(head) - words)
    return "\n".join(["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(line) + " |" for line in lines)])


def the_better(row, loop):
    """The summary of a rival at the thread count that suits it, or None."""
    found = [rate for label, rate in row["rates"].items() if label.split(",")[0] == loop]
    return max(found, key=lambda rate: rate["median"], default=None)


def times(number):
    return "" if number is None else f"{number:.2f}"


# --- the blocks -----------------------------------------------------------------------------------------------------


def machine(table):
    return (f"Measured on: {table['machine']}; data: {table['data']}. Medians of n = {table['n']} rounds of "
            f"{table['seconds']:.2g} s, lowest and highest in brackets.")


def chapters(table):
    lines = []
    for name, row in table["chapters"].items():
        book, plain, mine = the_better(row, "book"), the_better(row, "plain"), row["rates"][row["ours"]]
        ratios = row["ratios"]
        lines.append([steps.CHAPTERS[name], str(row["batch"]), kilo(book) if book else "", kilo(plain), kilo(mine),
                      times(ratios.get("book")), times(ratios["plain"]), times(ratios["plain, fp32"])])
        if extra := row.get("chapter's batch"):
            lines.append([f"{steps.CHAPTERS[name]}, the chapter's batch", str(extra["batch"]), kilo(book), "",
                          kilo(row["rates"][extra["ours"]]), times(extra["book"]), "", ""])
    return rows(["step", "batch", "book's loop", "plain loop", "ours", "ours / book", "ours / plain",
                 "in float32 / plain"], lines)


def elsewhere(table):
    """The ratios beside those of earlier runs on other machines, speed_cpu_*.json."""
    runs = [table, *(json.loads(path.read_text()) for path in sorted(speed.HERE.glob("speed_cpu_*.json")))]
    head = ["step"]
    for run in runs:
        name = run["machine"].split(",")[0].replace("(R)", "").replace("Processor", "").strip()
        head += [f"{name}: ours / book", "ours / plain"]
    lines = []
    for name, row in table["chapters"].items():
        told = [run["chapters"][name] for run in runs]
        lines.append([steps.CHAPTERS[name], *(times(r["ratios"].get(k)) for r in told for k in ("book", "plain"))])
        if "chapter's batch" in row:
            lines.append([f"{steps.CHAPTERS[name]}, the chapter's batch",
                          *(cell for r in told for cell in (times(r["chapter's batch"]["book"]), ""))])
    lines.append(["bfloat16 products / float32", *(cell for r in runs for cell in (  # 0: not used, for it is not fast
        times(r["peak"].get("bf16", 0.0) / r["peak"]["fp32"] or None), ""))])
    return rows(head, lines)


def peers(table):
    row = table["chapters"]["ddpm"]
    if "diffusers" not in row["ratios"]:
        return "diffusers was not installed where this was measured."
    mine, theirs = row["rates"][row["ours"]]["median"], the_better(row, "diffusers")["median"]
    return (f"With as many weights (not as much work) and at equal batch, the U-Net of chapter 8 trains on {mine:,.0f} "
            f"images a second, and diffusers' `UNet2DModel` in the plain loop on {theirs:,.0f}: "
            f"**{row['ratios']['diffusers']:.1f} times** as fast, in float32 "
            f"{row['ratios']['diffusers, fp32']:.1f} times.")


def settings(table):
    lines = []
    for group, found in table["tried"].items():
        if isinstance(found, dict):
            lines += [[group if what == "as it is" else "", what, kilo(entry["rate"]), times(entry["ratio"])]
                      for what, entry in found.items()]
    seconds = table["tried"]["seconds to compile the VAE's loss"]
    entry = table["tried"]["VAE, batch 512"].get("torch.compile")
    gain = entry["ratio"] if entry else 1.0
    won = f"; a training of {seconds * gain / (gain - 1):.0f} s wins it back" if gain > 1.02 else ""
    return (rows(["step", "changed", "thousand images / s", "against the step as it is"], lines, words=2)
            + f"\n\nCompiling the VAE's loss took {seconds:.0f} s before the first step{won}.")


def busy(table):
    lines = []
    for name, lost in table["contention"].items():
        rival = "book" if "book" in lost else "plain"
        lines.append([steps.CHAPTERS[name], times(lost["ours"]), times(lost[rival]) + (" (plain)" if rival == "plain"
                                                                                       else "")])
    return rows(["step", "ours: times slower", "the book's loop: times slower"], lines)


def limit(table):
    peak, lines = table["peak"], []
    for name, row in table["chapters"].items():
        bf16 = row["ours"].startswith("ours, bf16")
        lines.append([steps.CHAPTERS[name], f"{row['flops per image-step'] / 1e6:.2f}", f"{row['flop/s'] / 1e9:.0f}",
                      f"{row['flop/s'] / peak['fp32']:.0%}", f"{row['flop/s'] / peak['bf16']:.0%}" if bf16 else "",
                      *(f"{share:.0%}" for share in row["time"].values())])
        if extra := row.get("chapter's batch"):
            bf16 = extra["ours"].startswith("ours, bf16")
            lines.append([f"{steps.CHAPTERS[name]}, batch {extra['batch']}", "", f"{extra['flop/s'] / 1e9:.0f}",
                          f"{extra['flop/s'] / peak['fp32']:.0%}",
                          f"{extra['flop/s'] / peak['bf16']:.0%}" if bf16 else "", "", "", "", ""])
    flops = table["chapters"]["vae"]["flops per image-step"]
    for what, entry in table.get("tried", {}).get("VAE, batch 512", {}).items():
        if what.startswith("batch"):
            rate = flops * entry["rate"]["median"]
            lines.append([f"2 VAE, {what}", "", f"{rate / 1e9:.0f}", f"{rate / peak['fp32']:.0%}",
                          f"{rate / peak['bf16']:.0%}" if "bf16" in peak else "", "", "", "", ""])
    peaks = ", ".join(f"{name.replace(',', ' on')} {rate / 1e9:,.0f}" for name, rate in peak.items())
    return (f"This machine multiplies square matrices with, in GFLOP/s: {peaks}.\n\n"
            + rows(["step", "MFLOP an image", "GFLOP/s", "of fp32", "of bf16", "products", "noise", "optimiser",
                    "other"], lines))


def growth(table):
    """Draws the figure; the block itself is the picture's line."""
    labels = {"batch": "images in a batch", "side": "pixels along a side", "sampling": "DDIM steps"}
    fig, axes = plots.figure(8.4, 3.0, 1, 3)
    for ax, (panel, curves) in zip(axes, table["growth"].items()):
        for curve, points in curves.items():
            against_the_ideal(ax, points, 2 if panel == "side" else 1, curve, plots.COLOURS[curve == "U-Net"])
        ticks = sorted({a for points in curves.values() for a, _ in points})
        ticks = ticks if len(ticks) < 5 else ticks[::2]
        ax.set(xlabel=labels[panel], xscale="log", yscale="log")
        ax.set_xticks(ticks, labels=[str(t) for t in ticks])
        ax.minorticks_off()
        ax.legend(fontsize=8.5)
    axes[0].set_ylabel("milliseconds for a step")
    axes[-1].set_ylabel("milliseconds for 16 digits")
    axes[-1].set_ylim(10, None)
    FIGURE.write_bytes(fig._repr_png_())
    return (f"![Three log-log plots: time of a step against batch size, image side and sampling steps. Curves touch "
            f"their dashed ideal where the machine is used best and lie above it elsewhere](figures/{FIGURE.name})")


def against_the_ideal(ax, points, power, label, colour):
    """One curve, and the ideal through its most efficient point: proportional to x to the power given."""
    x, ms = zip(*points)
    least = min(m / a**power for a, m in points)
    ax.plot(x, ms, "o-", label=label, color=colour, markersize=4)
    ax.plot(x, [least * a**power for a in x], "--", color=colour, linewidth=1, alpha=0.7)


def parity(table):
    lines = [[f"{int(found['chapter'][:2])} {found['training']}",
              *(off.replace("e-", "e\u2011") for off in found["off"])]  # a hyphen at which no line breaks
             for found in sorted(table["parity"], key=lambda found: found["chapter"])]
    return rows(["training: losses, weights", "compiled", "nudged by 1e-7", "bfloat16", "nudged by 2e-3"], lines)


def training(table):
    """The textbook's whole training of the VAE."""
    found = table["book's training"]
    return (f"As many steps of the VAE as the textbook trains, {found['steps']:,} with batches of {found['batch']}, "
            f"take {found['seconds']['training']:.3g} s here.")


def gpu(_):
    """What `make bench-gpu` found; a sentence where it was not run yet."""
    if not speed.result_file("cuda").exists():
        return ("No GPU has been measured yet. On a machine with a CUDA GPU, `make test-gpu` holds graphs to eager "
                "steps and `make bench-gpu` puts a table here.")
    table = json.loads(speed.result_file("cuda").read_text())
    return "\n\n".join([machine(table), chapters(table), training(table)])


BLOCKS = {block.__name__: block
          for block in (machine, chapters, elsewhere, peers, settings, busy, limit, growth, training, gpu, parity)}


def read_parity(log):
    """The lines that tests/test_parity.py prints -> [{chapter, training, off: ["losses, weights" of four courses]}]."""
    found = []
    for line in re.findall(r"^\.?PARITY \| (.*)", log, re.M):  # not where a traceback quotes the line
        chapter, training, mode, *courses = line.split(" | ")
        off = dict(re.match(r"(.+?) (\S+, \S+)$", course.strip()).groups() for course in courses)
        how, _, networks = mode.partition(": ")
        compiled = "runs eagerly" if how != "compile" else off["compile"]
        compiled += f" ({'networks' if ',' in networks else 'network'} {networks})" if networks else ""
        found.append({"chapter": chapter, "training": training,
                      "off": [compiled, off["eager, nudged"], off["bf16"], off["bf16, nudged"]]})
    return found


def keep_parity(table, logs):
    """Add what the logs of `make parity` say, in the place of what was known of these trainings."""
    known = {(f["chapter"], f["training"]): f for f in table.get("parity", [])}
    for log in logs:
        known |= {(f["chapter"], f["training"]): f for f in read_parity(Path(log).read_text())}
    table["parity"] = list(known.values())


def write():
    """Renew every block of the page whose part was measured."""
    table = json.loads(speed.result_file("cpu").read_text())
    needs = {"settings": "tried", "busy": "contention", "growth": "growth", "training": "book's training",
             "parity": "parity"}

    def renewed(mark):
        if needs.get(mark[1], "chapters") not in table:
            return mark[0]
        return f"<!-- bench: {mark[1]} -->\n\n{BLOCKS[mark[1]](table)}\n\n<!-- end -->"

    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(r"<!-- bench: (\w+) -->.*?<!-- end -->", renewed, text, flags=re.S), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:]:
        result = speed.result_file("cpu")
        stored = json.loads(result.read_text())
        keep_parity(stored, sys.argv[1:])
        result.write_text(json.dumps(stored, indent=1) + "\n")
    write()
