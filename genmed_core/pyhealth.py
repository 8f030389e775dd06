"""To and from PyHealth, in which the textbook's code is written: its X-rays and ours.

Both read one folder, `COVID-19_Radiography_Dataset`: give PyHealth its path as `root`, and
`data.cxr` finds it in GENMED_DATA. Here are the two ways that need more than that: films that
PyHealth has split, as an `ImageSet`, and phantoms, or samples of a model, as a folder for PyHealth.
Nothing of PyHealth is imported; tests/test_pyhealth.py holds both to its release 1.1.6.
"""

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import torch
from PIL import Image

from genmed_core.collection import entries, inside
from genmed_core.data import CXR_CLASSES, ImageSet
from genmed_core.errors import DataError
from genmed_core.imagefiles import read_image

COLUMNS = ("FILE NAME", "FORMAT", "SIZE", "URL")  # of Kaggle's sheets, in their order
# what a spreadsheet must hold beside its one sheet
SCHEMAS = "http://schemas.openxmlformats.org"
PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{SCHEMAS}/package/2006/content-types">'
    '<Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    + "".join(
        f'<Override PartName="/xl/{name}.xml" ContentType="application/vnd.openxmlformats-'
        f'officedocument.spreadsheetml.{kind}+xml"/>'
        for name, kind in (("workbook", "sheet.main"), ("sheet", "worksheet"))) + "</Types>",
    "_rels/.rels": f'<Relationships xmlns="{SCHEMAS}/package/2006/relationships"><Relationship '
    f'Id="r1" Type="{SCHEMAS}/officeDocument/2006/relationships/officeDocument" '
    'Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{SCHEMAS}/spreadsheetml/2006/main" '
    f'xmlns:r="{SCHEMAS}/officeDocument/2006/relationships"><sheets>'
    '<sheet name="Sheet1" sheetId="1" r:id="r1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{SCHEMAS}/package/2006/relationships">'
    f'<Relationship Id="r1" Type="{SCHEMAS}/officeDocument/2006/relationships/worksheet" '
    'Target="sheet.xml"/></Relationships>',
}


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
    folder. Raises DataError where something lies there, ValueError for other classes.
    """
    root, sets = Path(root).expanduser(), [sets] if isinstance(sets, ImageSet) else sets
    if entries(root):
        raise DataError(f"{root}: holds {inside(root)} already. Name another folder.")
    rows: dict[str, list[str]] = {name: [] for name in CXR_CLASSES}
    for images in sets:
        if images.classes != CXR_CLASSES:
            raise ValueError(f"classes must be those of data.cxr, not {images.classes}")
        for image, label in zip(images.images, images.labels.tolist()):
            of_class = rows[CXR_CLASSES[label]]
            # PyHealth writes names of Normal so: the first letter large, the others small
            of_class.append(f"{images.source.capitalize()}-{len(of_class) + 1:05d}")
            place = root / _folder(CXR_CLASSES[label]) / "images"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(place / f"{of_class[-1]}.png")
    side = "*".join(map(str, sets[0].images.shape[2:]))
    for name, files in rows.items():
        table = [COLUMNS, *((file, "PNG", side, "simulated") for file in files)]
        _write_sheet(table, root / f"{_folder(name)}.metadata.xlsx")
    return root


def _folder(name: str) -> str:
    """Kaggle's folder of a class."""
    return name.replace("Lung Opacity", "Lung_Opacity")


def _write_sheet(rows: Sequence[Sequence[str]], path: Path) -> None:
    """Rows of words as a spreadsheet, which pandas reads with openpyxl."""
    cells = ("".join(f'<c t="inlineStr"><is><t>{escape(word)}</t></is></c>' for word in row)
             for row in rows)
    table = "".join(f"<row>{row}</row>" for row in cells)
    sheet = (f'<worksheet xmlns="{SCHEMAS}/spreadsheetml/2006/main">'
             f"<sheetData>{table}</sheetData></worksheet>")
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, text in (PARTS | {"xl/sheet.xml": sheet}).items():
            book.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{text}')
