"""What a chapter leaves behind: its figures as JSON, and its models' samples."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from genmed_core import runtime
from genmed_core.metrics.images import grey_levels

STRIP = 12  # samples of a model that are kept as a picture


class Results:
    """Writes runs/results/<chapter>.json and the files of runs/results/<chapter>/, each whole.

    A file that cannot be written is no error: the reason is said once, and the method gives False.
    """

    def __init__(self, chapter: str):
        self.chapter = chapter
        self._said: set[str] = set()

    def write(self, source: str, promises: list[dict], models: list[dict]) -> bool:
        """The chapter's figures, with all that must be known to compare them."""
        entry = {
            "chapter": self.chapter, "source": source, "budget": runtime.budget_factor(),
            "machine": runtime.machine(), "seed": os.environ.get("GENMED_SEED"),
            "records": promises, "models": models,
        }
        text = json.dumps(entry, indent=1)
        return self._keep(f"{self.chapter}.json", lambda path: path.write_text(text))

    def samples(self, title: str, images: torch.Tensor) -> bool:
        """All samples, <title>.npy (N, H, W) uint8: for instruments other than ours."""
        grey = grey_levels(images[:, 0]).numpy()
        return self._keep(f"{self.chapter}/{title}.npy", lambda path: np.save(path, grey))

    def strip(self, title: str, images: torch.Tensor) -> bool:
        """Some images side by side, <title>.png: what the scoreboard shows of a model.

        Evenly spaced through all of them, which may stand in the order of their classes.
        """
        places = torch.linspace(0, len(images) - 1, min(STRIP, len(images))).long()
        side_by_side = torch.cat(list(grey_levels(images[places, 0])), 1)
        picture = Image.fromarray(side_by_side.numpy())
        return self._keep(f"{self.chapter}/{title}.png", picture.save)

    def _keep(self, name: str, write: Callable[[Path], object]) -> bool:
        path = runtime.runs_dir() / "results" / name
        try:
            with runtime.whole_file(path) as part:
                write(part)
        except OSError as err:
            reason = err.strerror or str(err)
            if reason not in self._said:
                self._said.add(reason)
                print(
                    f"note: {path} not recorded ({reason}), and so with what follows; set "
                    "GENMED_RUNS to a folder that can be written and has room."
                )
            return False
        return True
