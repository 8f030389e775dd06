"""To and from PyHealth, in which the textbook's code is written: its X-rays and ours.

Both read one folder, `COVID-19_Radiography_Dataset`: give PyHealth its path as `root`, and
`data.cxr` finds it in GENMED_DATA. Here are the two ways that need more than that: films that
PyHealth has split, as an `ImageSet`, and phantoms, or samples of a model, as a folder for PyHealth.
Nothing of PyHealth is imported; tests/test_pyhealth.py holds both to its release 1.1.6.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from genmed_core.collection import entries, inside
from genmed_core.data import CXR_CLASSES, ImageSet
from genmed_core.errors import DataError
from genmed_core.imagefiles import read_image

COLUMNS = ("FILE NAME", "FORMAT", "SIZE", "URL")  # of Kaggle's sheets, in their order


def from_samples(samples: Iterable[Mapping[str, Any]], size: int = 64) -> ImageSet:
    """PyHealth's samples -> ImageSet, in their order, size x size, with the classes of `data.cxr`.

    samples: of `COVID19CXRDataset(root).set_task()`, or a part that PyHealth's splitter made; each
    holds "path", the film as a float tensor (1, H, W) in [0, 1] or the name of its file, and
    "label", the class in words. Raises DataError for a film or a class that cannot be used.
    """
    images, labels = [], []
    for number, sample in enumerate(samples):
        if sample["label"] not in CXR_CLASSES:
            known = ", ".join(CXR_CLASSES)
            raise DataError(f"sample {number}: the class {sample['label']!r} is none of {known}. "
                            "Give samples of PyHealth's COVID19CXRDataset.")
        images.append(_film(sample["path"], size, number))
        labels.append(CXR_CLASSES.index(sample["label"]))
    stack = np.stack(images) if images else np.empty((0, size, size), np.uint8)
    return ImageSet(torch.from_numpy(stack)[:, None], torch.tensor(labels, dtype=torch.int64),
                    CXR_CLASSES, "PyHealth")


def _film(film: Any, size: int, number: int) -> np.ndarray:
    """A tensor (1, H, W) in [0, 1], or a file -> uint8 (size, size). Raises DataError."""
    if not torch.is_tensor(film):
        outcome = read_image(Path(film), size)
        if isinstance(outcome, str):
            raise DataError(f"{film}: {outcome}. Mend it, or leave sample {number} out.")
        return outcome[0]
    if film.dim() != 3 or len(film) != 1:
        raise DataError(f"sample {number}: a film is a tensor (1, H, W), not {tuple(film.shape)}. "
                        "Leave transforms to colour out.")
    pixels = (film[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def write_root(sets: ImageSet | Sequence[ImageSet], root: str | Path) -> Path:
    """Write films as a `root` of PyHealth's COVID19CXRDataset: class folders and their four sheets.

    sets: with the classes of `data.cxr`. Files are named after their source (Phantom-00001.png), so
    that nobody takes them for the database's: `data.cxr` calls them films of your own. Returns the
    folder. Raises DataError where something lies there, ValueError for other classes,
    ModuleNotFoundError without openpyxl, which PyHealth needs to read them.
    """
    root, sets = Path(root).expanduser(), [sets] if isinstance(sets, ImageSet) else sets
    if entries(root):
        raise DataError(f"{root}: holds {inside(root)} already. Name another folder.")
    for images in sets:
        if images.classes != CXR_CLASSES:
            raise ValueError(f"classes must be those of data.cxr, not {images.classes}")
    workbook = _workbook()
    rows: dict[str, list[str]] = {name: [] for name in CXR_CLASSES}
    for images in sets:
        for image, label in zip(images.images, images.labels.tolist()):
            of_class = rows[CXR_CLASSES[label]]
            # PyHealth writes names of Normal so: the first letter large, the others small
            of_class.append(f"{images.source.capitalize()}-{len(of_class) + 1:05d}")
            place = root / _folder(CXR_CLASSES[label]) / "images"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(place / f"{of_class[-1]}.png")
    side = "*".join(map(str, sets[0].images.shape[2:]))
    for name, files in rows.items():
        sheets = workbook()
        for row in (COLUMNS, *((file, "PNG", side, "simulated") for file in files)):
            sheets.active.append(row)
        root.mkdir(parents=True, exist_ok=True)
        sheets.save(root / f"{_folder(name)}.metadata.xlsx")
    return root


def _folder(name: str) -> str:
    """Kaggle's folder of a class."""
    return name.replace("Lung Opacity", "Lung_Opacity")


def _workbook() -> type:
    """openpyxl's class of spreadsheets.  ModuleNotFoundError without it."""
    try:
        from openpyxl import Workbook
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("PyHealth's sheets are written, and read by it, with openpyxl: "
                                  "pip install openpyxl") from error
    return Workbook
