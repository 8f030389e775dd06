# %% [markdown]
# # Start here
#
# Click into the grey cell below and press **Shift + Enter**. After a few seconds a network stands there that turns
# noise into a digit, in your browser. Choose another class or another seed; with two or three steps in place of 25
# you see what the many steps are for.

# %%
import genmed_core  # first: it sets how threads wait
from genmed_core import diffusion, metrics, nets, widgets

denoiser = metrics.load_weights(nets.UNet(), "ddpm_digits")
widgets.DiffusionExplorer(
    denoiser, diffusion.Schedule.cosine(1000), predicts="v",
    class_names=range(10), label=3, guidance=2.0, window=(200, 700),
    caption="The network of chapter 8, trained on MNIST")

# %% [markdown]
# ## Where to go
#
# The [introduction](intro.md) says what a generative model is and how the chapters hang together. Or begin at once:
#
# CHAPTERS
#
# A chapter is run from top to bottom (*Run, Run All Cells*), a cell at a time with Shift + Enter. Its sliders are still
# pictures until then. All files here are your own copies: change and save what you like; [README](README.md) tells
# what happens when the book changes, and how to try a chapter in a tenth of its time.
