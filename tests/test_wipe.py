"""The wipe shows a picture left of its edge and the truth right of it."""

import numpy as np
import pytest

from genmed_core.widgets.wipe import Wipe

DARK, GREY = np.zeros((8, 16), np.uint8), np.full((8, 16), 100, np.uint8)
TRUTH = np.full((8, 16), 200, np.uint8)


def test_the_edge_parts_picture_and_truth():
    wipe = Wipe({"dark": DARK, "grey": GREY}, TRUTH, places=5)
    assert wipe.describe() == "left of the edge dark, edge 50%"
    page = wipe.at(1, 1)
    assert (page[:, :4] == 100).all() and (page[:, 4] == 255).all() and (page[:, 5:] == 200).all()


def test_at_its_ends_it_shows_one_alone():
    wipe = Wipe({"dark": DARK}, TRUTH[None] / 255, places=3)
    assert (wipe.at(0, 0) == TRUTH).all() and (wipe.at(0, -1) == DARK).all()
    assert wipe.move(0, 2).max() == 0 and wipe.describe().endswith("edge 100%")


@pytest.mark.parametrize("pictures, places, message", [
    ({}, 5, "0 pictures"), ({"dark": DARK}, 1, "1 places"), ({"dark": DARK[:, :4]}, 5, "'dark': \\(8, 4\\)")])
def test_what_cannot_be_wiped_is_refused(pictures, places, message):
    with pytest.raises(ValueError, match=message):
        Wipe(pictures, TRUTH, places=places)
