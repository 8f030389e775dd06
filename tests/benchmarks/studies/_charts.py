"""Charts of stored studies: dots with their intervals, as SVG that is the same for the same figures."""

import matplotlib as mpl

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"


def across(ax, place, found, colour, *, filled=True, label=None):
    """A share in percent with its interval, on a line of its own."""
    value, low, high = (100 * found[key] for key in ("value", "low", "high"))
    ax.plot([low, high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
    ax.plot([value], [place], "o", color=colour, markersize=6.5, label=label,
            markerfacecolor=colour if filled else "white", markeredgewidth=1.4)


def upright(ax, x, found, colour, *, marker="o", scale=1.0):
    """A number with its interval, above its place on the axis."""
    value, low, high = (scale * found[key] for key in ("value", "low", "high"))
    ax.plot([x, x], [low, high], color=colour, linewidth=1.6)
    ax.plot([x], [value], marker, color=colour, markersize=6)


def svg(fig, path):
    """Write a figure on white, so that it can be read on a dark page too."""
    with mpl.rc_context({"svg.hashsalt": "genmed", "svg.fonttype": "path"}):
        fig.savefig(path, format="svg", bbox_inches="tight", pad_inches=0.08, facecolor="white",
                    metadata={"Date": None, "Creator": None})
