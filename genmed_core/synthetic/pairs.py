"""Pairs from the phantom: one patient twice, and what differs between both films is known.

    from genmed_core.synthetic.pairs import pairs

    train = pairs(1500, "dose", seed=1)     # low dose -> the same film without noise
    train.source, train.target              # (1500, 1, 64, 64) uint8
    train.lesions, train.discs              # where a nodule is, in half of the patients

Both films of a pair have the same patient, place and (but for another scanner) the same levels of
black and white: what `kind` does not name is equal, pixel for pixel up to rounding and, near a
change, up to the little that scatter and the workstation's filter carry over.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from genmed_core.cache import cached, progress
from genmed_core.synthetic import _common, phantom
from genmed_core.synthetic._common import sample_factors, scramble
from genmed_core.synthetic.phantom import Classes, Factors

KINDS = {
    "dose": "a film of few photons -> the same film without noise",
    "bones": "a film -> the same film without ribs and collar bones",
    "scanner": "a film of hospital A -> the same patient's film of hospital B",
    "disease": "a healthy patient's film -> the same patient with the disease of `classes`",
    "lesion": "a film without a nodule -> the same film with one, in every patient",
}
FULL_DOSE = 1.2  # decimal logarithm of the photons that a detector's element gets at full dose
NOISELESS = 9.0
# what hospital B does otherwise, as in phantom.FACTORS: a softer detector behind a worse grid, flat
# greys, a collimator and a marker on each film; its patients and their place are those of A
HOSPITAL_B = {
    "dose": ("uniform", 3.4, 4.0),
    "scatter": ("uniform", 1.6, 2.6),
    "spot": ("uniform", 0.22, 0.36),
    "detail": ("uniform", 0.0, 0.1),
    "gamma": ("uniform", 1.1, 1.6),
    "toe": ("uniform", 0.2, 0.35),
    "black": ("uniform", 0.04, 0.1),
    "white": ("uniform", 0.7, 0.85),
    "collimator": ("uniform", 0.04, 0.08),
    "marker": ("uniform", 0.8, 1.0),
}


class Pairs(NamedTuple):
    """n patients, each filmed twice, and the truth about them."""

    source: Tensor   # (n, 1, size, size) uint8
    target: Tensor   # (n, 1, size, size) uint8
    lesions: Tensor  # (n, 1, size, size) bool: the target's nodules, half of the pixel or more
    discs: Tensor    # (n, 3) row, column, radius in pixels, first pixel at 0; NaN: none
    labels: Tensor   # (n,) int64, the target's class in phantom.CLASSES
    factors: Factors         # of the target's films, for `phantom.draw`
    source_factors: Factors  # of the source's
    kind: str

    def subset(self, rows: Tensor | slice) -> "Pairs":
        """The pairs of some rows, everything with them."""
        def some(columns: Factors) -> Factors:
            return {name: column[rows] for name, column in columns.items()}

        tensors = (self.source, self.target, self.lesions, self.discs, self.labels)
        return Pairs(*(x[rows] for x in tensors), some(self.factors), some(self.source_factors),
                     self.kind)


def pairs(n: int, kind: str, *, size: int = 64, classes: Classes | None = None,
          nodules: float | None = None, dose: float = 0.25, seed: int) -> Pairs:
    """Film n patients twice; drawn once for the same arguments, then read from runs/cache.

    kind: one of KINDS. classes: as for `cxr_phantom`; without it everybody is healthy, and for
    "disease" the target has a Lung Opacity. nodules: share of patients with a nodule in both films
    (default a half; for "lesion" the share with one in the target, default all). dose: photons of a
    "dose" pair's source, as a share of 10^FULL_DOSE for each of phantom.DETECTOR^2 elements.

    A pair depends on (seed, index, arguments) only. Raises ValueError for an unknown kind, a dose
    or share that cannot be, and as `cxr_phantom` does; TypeError as it does.
    """
    if kind not in KINDS:
        raise ValueError(f"kind = {kind!r} is not known; choose among {', '.join(KINDS)}")
    if not 0 < dose <= 100:
        raise ValueError(f"dose = {dose}: give a share of the full dose, above 0, such as 0.25")
    if classes is None:
        classes = phantom.OPACITY if kind == "disease" else phantom.NORMAL
    share = (1.0 if kind == "lesion" else 0.5) if nodules is None else nodules
    factors, source_factors, labels, source_labels = _patients(n, kind, classes, share, dose, seed)
    recipe = [hashlib.sha256(Path(m.__file__).read_bytes()).hexdigest() for m in (phantom, _common)]

    def draw() -> tuple[dict[str, Tensor], dict[str, str]]:
        tell = progress(f"pairs ({kind}): films drawn", n)
        first = (source_labels, source_factors)
        like = None if kind in ("scanner", "dose") else first
        target = phantom.draw(labels, factors, size=size, like=like, tell=lambda k: tell(k // 2))
        like = (labels, factors) if kind == "dose" else None
        source = phantom.draw(*first, size=size, like=like, tell=lambda k: tell((n + k) // 2))
        masks, discs = phantom.nodules(factors, size=size)
        return {"source": source, "target": target, "lesions": masks, "discs": discs}, {}

    inputs = [n, kind, size, labels.tolist(), share, dose, seed, FULL_DOSE, HOSPITAL_B, recipe]
    found, _ = cached("pairs", inputs, draw)
    return Pairs(found["source"], found["target"], found["lesions"], found["discs"], labels,
                 factors, source_factors, kind)


def _patients(n: int, kind: str, classes: Classes, share: float, dose: float, seed: int) -> tuple:
    """Factors and classes of the targets and the sources: factors, source's, labels, source's."""
    labels, plain = phantom.cxr_patients(n, classes=classes, seed=seed)
    factors = phantom.with_nodules(plain, share=share)
    source, source_labels = factors, labels
    if kind == "dose":
        factors = edited(factors, dose=NOISELESS)
        source = edited(factors, dose=FULL_DOSE + torch.tensor(dose).log10().item())
    elif kind == "bones":
        factors = edited(factors, cage=0.0)
    elif kind == "scanner":
        factors = at_hospital_b(factors)
    elif kind == "disease":
        source_labels = torch.full_like(labels, phantom.NORMAL)
    else:
        source = edited(factors, nodule=0.0)
    return factors, source, labels, source_labels


def edited(factors: Factors, **changes: float | Tensor) -> dict[str, Tensor]:
    """The same patients with some factors or edits set to a value, or to one for each (n,)."""
    n = len(factors["patient"])
    columns = {name: torch.as_tensor(value, dtype=torch.float32).expand(n).clone()
               for name, value in changes.items()}
    return dict(factors) | columns


def at_hospital_b(factors: Factors, table: Mapping = HOSPITAL_B) -> dict[str, Tensor]:
    """The same patients filmed where exposure, blur, greys and shutters follow `table`."""
    return dict(factors) | sample_factors(dict(table), scramble(~factors["patient"]))
