"""A book of one small notebook with every kind of slider, so that the browser tests need no training."""

from textwrap import dedent

import nbformat.v4 as nb

INTRO = """\
# A small book

It has one chapter, [Sliders](01_sliders.ipynb), and no [second one](02_absent.ipynb).

Each exercise has a check<!-- solutions -->, and a solution behind a fold<!-- /solutions -->.

| name | meaning |
|---|---|
| $z$ | the code |
"""

COURSE = """\
contents:
  - part: One
    pages: [01_sliders]
"""

CELLS = [
    ("markdown", r"""
        # Sliders

        The bound, with inline $\log p(x)$:

        $$
        \mathcal{L} = \mathbb{E}_{q}[\log p(x \mid z)] - \mathrm{KL}(q \,\|\, p) \tag{1.1}
        $$

        $$
        f(x) = \begin{cases} 0 & x < 0 \\ x & x \ge 0 \end{cases} \tag{1.2}
        $$

        By (1.1), and $\boldsymbol{\mu}$, all is well. Back to the [introduction](intro.md).
        """),
    ("code", """
        import genmed_core
        import torch
        from torch import nn

        from genmed_core import diffusion, nets
        from genmed_core.widgets import DiffusionExplorer, FrameSlider, GridSlider, LatentExplorer

        torch.manual_seed(0)
        mlp = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 784))
        conv = nn.Sequential(
            nn.Linear(12, 32 * 49), nn.Unflatten(1, (32, 7, 7)), nn.BatchNorm2d(32), nn.ReLU(),
            nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(32, 4, 3, padding=1), nn.PixelShuffle(2), nn.Tanh()).eval()
        for layer in (mlp[0], conv[0]):
            nn.init.normal_(layer.weight)
        ramp = torch.linspace(0, 1, 28)
        mlp[2].bias.data = 6 * (ramp[:, None] * ramp[None]).flatten() - 2
        """),
    ("code", """
        explorer = LatentExplorer(mlp, z0=0.123 * torch.arange(8), caption="A decoder with random weights.")
        explorer
        """),
    ("code", """
        conditional = LatentExplorer(conv, n_classes=10, sliders=[0, 1], size=140)
        conditional
        """),
    ("code", """
        ramps = [(ramp[:, None] * k / 20 + ramp[None] * (1 - k / 20)) for k in range(21)]
        frames = FrameSlider([[r, 1 - r] for r in ramps], labels=[f"t = {50 * k}" for k in range(21)],
                             description="noise", captions=["picture", "its negative"], interval=60)
        frames
        """),
    ("code", """
        GridSlider([[(r + c) / 6 * torch.ones(8, 8) for c in range(4)] for r in range(3)],
                   rows=["thin", "mean", "thick"], descriptions=("style", "class"), width=100)
        """),
    ("code", """
        unet = nets.UNet(widths=(8, 8), classes=3)
        nn.init.normal_(unet.leave[2].weight, std=0.1)
        DiffusionExplorer(unet, diffusion.Schedule.cosine(100), class_names="abc", predicts="v", guidance=2.0, steps=5,
                          redraw=True, caption="A denoiser with random weights.")
        """),
    ("code", """
        import matplotlib.pyplot as plt

        plt.figure(figsize=(9, 2))
        plt.plot(torch.randn(50).cumsum(0))
        plt.show()
        """, {"mystnb": {"image": {"alt": "A random walk of fifty steps."}}}),
    ("code", r'''
        from IPython.display import Markdown, display

        display(Markdown(r"""
        | measure | real | ours |
        |---|---:|---:|
        | distance $d^2$ | 1.0 | **12.5** |
        | `torch.nn.Linear` | *two* | 3 |
        """))
        display(Markdown(r"""
        Bounds, by the [introduction](intro.md):

        - $\mathcal{L}$ first
        - then **the rest**
        """))
        '''),
    ("markdown", r"""
        ## Exercises

        <details class="solution"><summary>Solution</summary>

        Jensen's inequality, once: $\log \mathbb{E} \ge \mathbb{E} \log$.

        </details>
        """, {"tags": ["solution"]}),
]


def write(folder):
    """Write the book's sources into a folder and return it."""
    notebook = nb.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    for kind, source, *metadata in CELLS:
        make = nb.new_markdown_cell if kind == "markdown" else nb.new_code_cell
        notebook.cells.append(make(dedent(source).strip(), metadata=metadata[0] if metadata else {}))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "01_sliders.ipynb").write_text(nb.writes(notebook), encoding="utf-8")
    (folder / "intro.md").write_text(INTRO, encoding="utf-8")
    (folder / "course.yml").write_text(COURSE, encoding="utf-8")
    return folder
