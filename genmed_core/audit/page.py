"""The report as one page of HTML: verdicts, plots, pairs of pictures, canaries, what is not tested.

It needs nothing else: no script, no file, no network. It shows pictures of real patients.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

import torch
from PIL import Image

from genmed_core.audit.anatomy import described
from genmed_core.audit.attacks import ATTACKS
from genmed_core.audit.folders import Folder
from genmed_core.audit.questions import shown
from genmed_core.audit.usefulness import TRAINED_ON
from genmed_core.metrics import MEASURES

TITLE = "Audit of synthetic images"
WARNING = ("This page holds pictures of real patients. Keep it where the films themselves may be "
           "kept, and pass it on to nobody who may not see them.")
PAIRS = 24  # that are shown
STYLE = """
:root{--ink:#1a2027;--dim:#566069;--line:#d9dee3;--pass:#00664b;--fail:#b03a00;--unclear:#6b5500}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);margin:0;background:#fff}
main{max-width:68rem;margin:0 auto;padding:1rem}
h1{font-size:1.6rem;line-height:1.2}h2{font-size:1.2rem;margin:2.2rem 0 .6rem}
.warning{border:2px solid var(--fail);border-radius:.4rem;padding:.6rem .8rem;font-weight:600}
.cards{display:grid;gap:.7rem;grid-template-columns:repeat(auto-fit,minmax(17rem,1fr))}
.card{border:1px solid var(--line);border-left:.4rem solid;border-radius:.4rem;padding:.6rem .8rem}
.card p{margin:.2rem 0;color:var(--dim);font-size:.9rem;overflow-wrap:anywhere}
.card.pass{border-left-color:var(--pass)}.card.fail{border-left-color:var(--fail)}
.card.unclear{border-left-color:var(--unclear)}
.verdict{font-weight:700}.pass .verdict{color:var(--pass)}.fail .verdict{color:var(--fail)}
.unclear .verdict{color:var(--unclear)}
.pairs{display:grid;gap:.9rem;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr))}
figure{margin:0;border:1px solid var(--line);border-radius:.4rem;padding:.5rem}
figure.copy{border:2px solid var(--fail)}
.two{display:flex;gap:.25rem}
figure img{flex:1 1 0;min-width:0;image-rendering:pixelated}
figcaption{font-size:.85rem;color:var(--dim);overflow-wrap:anywhere}
.plots{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(20rem,100%),1fr))}
svg{width:100%;height:auto;font:12px system-ui,sans-serif}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
"""


def page(report: dict, train: Folder, synthetic: Folder) -> str:
    """An audit's report -> HTML. The folders are those that were audited: pairs are shown."""
    counts = ", ".join(f"{n:,} {name}" for name, n in report["counts"].items())
    intro = (f"Images: {escape(counts)}. A pass says that these attacks failed, on these images; "
             "it allows nothing. Samples are synthetic, not for diagnosis.")
    return document(
        TITLE, WARNING, intro, report, section("Copies", _pairs(report, train, synthetic)),
        section("How blind was the search?", _canaries(report)),
        section("Plots", f"<div class=plots>{''.join(_plots(report))}</div>"),
        section("Attacks", _attacks(report["privacy"])),
        section("Fidelity and variety", _measures(report)), _anatomy(report.get("anatomy")),
        section("Patients at the highest risk", _risk(report)))


def document(title: str, warning: str, intro: str, report: dict, *sections: str,
             style: str = "") -> str:
    """A page about a report: its verdicts, these sections, its notes, what was not tested."""
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width,initial-scale=1">',
        f"<title>{title}</title><style>{STYLE}{style}</style></head><body><main>",
        f"<h1>{title}</h1>", f"<p class=warning role=note>{escape(warning)}</p>",
        f"<p>{intro}</p>", section("Verdicts", cards(report)), *sections,
        section("Notes", items(report["notes"]) if report["notes"] else "<p>None.</p>"),
        section("What was not tested", items(report["not_tested"])), "</main></body></html>"]
    return "\n".join(parts) + "\n"


def section(heading: str, body: str) -> str:
    """A heading and what stands under it."""
    return f"<section><h2>{escape(heading)}</h2>{body}</section>"


def items(sentences: Iterable[str]) -> str:
    """A list of sentences."""
    return "<ul>" + "".join(f"<li>{escape(clean(one))}" for one in sentences) + "</ul>"


def clean(text: str) -> str:
    """File names may hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode()


def cards(report: dict) -> str:
    """The verdicts of a report, each in a frame."""
    cards = []
    for v in report["verdicts"]:
        because, bar = escape(clean(v["because"])), escape(v["bar"])
        cards.append(f'<div class="card {v["verdict"]}"><span class=verdict>'
                     f'{escape(_said(v))}</span><br>'
                     f'{escape(v["question"])}<p>{because}</p><p>Bar: {bar}</p></div>')
    return f"<div class=cards>{''.join(cards)}</div>"


def _said(verdict: dict) -> str:
    """A verdict and its answer, in a word where both are the same."""
    both = verdict["verdict"], verdict["answer"]
    return both[0] if both[0] == both[1] else ": ".join(both)


def html_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column is text, the others are numbers."""
    def line(cells: Sequence[str], tag: str) -> str:
        named = [f"<{tag}{' class=n' * (i > 0)}>{escape(clean(x))}" for i, x in enumerate(cells)]
        return "<tr>" + "".join(named)

    body = "".join(line(row, "td") for row in rows)
    return f"<div class=wide tabindex=0><table>{line(heads, 'th')}{body}</table></div>"


# --- pictures -------------------------------------------------------------------------------------


def picture(image: torch.Tensor, alt: str) -> str:
    """One image (1, H, W) uint8, held in the page itself."""
    buffer = io.BytesIO()
    Image.fromarray(image[0].numpy()).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(clean(alt))}" src="data:image/png;base64,{data}">'


def _pairs(report: dict, train: Folder, synthetic: Folder) -> str:
    found, copies = report["privacy"]["closest"], len(report["privacy"]["copies"])
    samples = {name: i for i, name in enumerate(synthetic.names)}
    films = {name: i for i, name in enumerate(train.names)}
    figures = []
    for number, pair in enumerate(found[:PAIRS]):
        fake = synthetic.images[samples[pair["synthetic"]]]
        real = train.images[films[pair["train"]]]
        kind = "copy" if number < copies else "no copy"
        words = (f"{kind}: {pair['synthetic']} (left) and {pair['train']} (right), distance "
                 f"{pair['distance']:.3f}, turned {round(pair['turned']):+d}°, zoomed "
                 f"{pair['zoomed']:.2f}{', mirrored' * pair['mirrored']}")
        pictures = picture(fake, "sample " + pair["synthetic"])
        pictures += picture(real, "training image " + pair["train"])
        figures.append(f'<figure{" class=copy" * (number < copies)}><div class=two>{pictures}</div>'
                       f"<figcaption>{escape(clean(words))}</figcaption></figure>")
    n = report["counts"]["synthetic"]
    left = f" The first {PAIRS} are shown; the JSON names all." * (copies > PAIRS)
    intro = (f"<p>{copies} of {n:,} samples are copies of training images. Left the sample, right "
             f"the training image that fits it best.{left}</p>")
    return f"{intro}<div class=pairs>{''.join(figures)}</div>"


# --- numbers --------------------------------------------------------------------------------------


def _canaries(report: dict) -> str:
    known = report["embedding"]
    rows = [(kind, f"{one['found']} of {one['planted']}", shown(one))
            for kind, one in report["canaries"].items()]
    intro = (f"<p>Copies of training images were planted among the samples. The learned embedding "
             f"knows {known['nearest']:.0%} of {known['copies']} turned and zoomed images again "
             f"among {known['distractors']:,} others.</p>")
    return intro + html_table(("planted copies", "seen", "share (95 %)"), rows)


def _measures(report: dict) -> str:
    synthetic, floor = report["quality"]["synthetic"], report["quality"]["floor"]
    rows = [(f"{m.heading} ({m.better})", f"{synthetic[key]:.3g}", f"{floor[key]:.3g}")
            for key, m in MEASURES.items() if key in synthetic]
    return html_table(("measure", "synthetic", "real (floor)"), rows)


def _anatomy(found: dict | None) -> str:
    """A section where the real images are chest films, and nothing elsewhere."""
    if found is None:
        return ""
    rows = [(heading, f"{distance:.2f}", f"{floor:.2f}", shown(excess))
            for heading, distance, floor, excess in described(found)]
    shares = {name: f"{share:.1%}" for name, share in found["found"].items()}
    intro = ("<p>Two lungs and a heart between them were found in {train} of the training images, "
             "{held_out} of the held-out ones and {synthetic} of the samples. Below: how far apart "
             "measures of samples and of held-out images lie (Wasserstein), in standard deviations "
             "of the latter.</p>").format(**shares)
    heads = ("measure", "synthetic", "real (floor)", "above the floor (95 %)")
    return section("Anatomy", intro + html_table(heads, rows))


def _attacks(found: dict) -> str:
    rows = [(heading, shown(found[key], 3)) for attack in ATTACKS
            for key, heading in attack.headings.items()]
    return html_table(("measure", "value (95 %)"), rows)


def _risk(report: dict) -> str:
    risk = report["privacy"]["risk"]
    rows = [(one["train"], f"{one['score']:.2f}", f"{one['false_alarms']:.2%}")
            for one in risk["highest"]]
    intro = (f"<p>Of {risk['of']:,} training images {risk['beyond']} stand out from all strangers "
             f"(score above {risk['bar']:.2f}). Beside each score: the share of strangers that an "
             "attacker who accuses at it would accuse too.</p>")
    return intro + html_table(("training image", "score", "strangers accused too"), rows)


# --- plots ----------------------------------------------------------------------------------------


def _plots(report: dict) -> Iterable[str]:
    found = report["privacy"]
    yield _histogram("Fit to the nearest training image", "Fisher's z of the correlation",
                     found["fits"], {"synthetic": "samples", "held_out": "held-out images"},
                     found["copy_bars"][0])
    yield _histogram("Membership score of each real image", "score of the attack (DOMIAS)",
                     found["risk"]["bins"], {"members": "training", "others": "held-out"},
                     found["risk"]["bar"])
    yield intervals("Planted copies that were seen, share", report["canaries"])
    if useful := report["utility"]:
        rows = {words.format(**useful): useful[key] for key, words in TRAINED_ON.items()
                if key in useful}
        yield intervals(f"Balanced accuracy ({useful['classes']} classes)", rows)


COLOURS = ("#0072b2", "#d55e00")


def _histogram(title: str, axis: str, bins: dict, series: dict[str, str], bar: float) -> str:
    """Two histograms as shares, and the bar as a dashed line."""
    edges = bins["edges"]
    low, high = edges[0], max(edges[-1], bar * 1.02)
    shares = {key: [n / max(sum(bins[key]), 1) for n in bins[key]] for key in series}
    top = max(max(values) for values in shares.values())
    x = [20 + 340 * (e - low) / (high - low) for e in edges]
    parts = []
    for (key, name), colour, row in zip(series.items(), COLOURS, (0, 1)):
        points = f"{x[0]:.1f},150 "
        for left, right, value in zip(x, x[1:], shares[key]):
            y = 150 - 105 * value / top
            points += f"{left:.1f},{y:.1f} {right:.1f},{y:.1f} "
        parts.append(f'<polygon points="{points}{x[-1]:.1f},150" fill="{colour}" '
                     f'fill-opacity=".3" stroke="{colour}"/>'
                     f'<text x="360" y="{34 + 15 * row}" text-anchor="end" '
                     f'fill="{colour}">{escape(name)}</text>')
    at = 20 + 340 * (bar - low) / (high - low)
    ticks = "".join(f'<text x="{20 + 340 * k / 4:.0f}" y="164" text-anchor="middle">'
                    f"{low + (high - low) * k / 4:.1f}</text>" for k in range(5))
    return (f'<svg viewBox="0 0 380 186" role=img aria-label="{escape(title)}">'
            f'<text x="0" y="13" font-weight="700">{escape(title)}</text>{"".join(parts)}'
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="22" y2="150" stroke="#000" '
            f'stroke-dasharray="4 3"/><text x="{at - 4:.1f}" y="62" text-anchor="end">bar</text>'
            f'<line x1="20" x2="360" y1="150" y2="150" stroke="#000"/>{ticks}'
            f'<text x="190" y="181" text-anchor="middle">{escape(axis)}</text></svg>')


def intervals(title: str, rows: dict[str, dict]) -> str:
    """Shares from 0 to 1 with their intervals, one a line."""
    parts, height = [], 40 + 20 * len(rows)
    for i, (name, one) in enumerate(rows.items()):
        y = 34 + 20 * i
        inside = (min(max(one[key], 0.0), 1.0) for key in ("low", "value", "high"))
        low, value, high = (210 + 150 * x for x in inside)
        parts.append(f'<text x="0" y="{y + 4}">{escape(name)}</text>'
                     f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" '
                     f'stroke="{COLOURS[0]}" stroke-width="2"/>'
                     f'<circle cx="{value:.1f}" cy="{y}" r="4" fill="{COLOURS[0]}"/>')
    grid = "".join(f'<line x1="{x}" x2="{x}" y1="22" y2="{height - 16}" stroke="#d9dee3"/>'
                   f'<text x="{x}" y="{height - 2}" text-anchor="middle">{text}</text>'
                   for x, text in ((210, "0"), (285, "0.5"), (360, "1")))
    return (f'<svg viewBox="0 0 380 {height}" role=img aria-label="{escape(title)}">'
            f'<text x="0" y="13" font-weight="700">{escape(title)}</text>{grid}'
            f'{"".join(parts)}</svg>')
