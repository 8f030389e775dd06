"""Paired folders: a truth, what a model made of it, its input, and masks or a list of lesions."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from genmed_core.audit.folders import SIZE, AuditError, Folder, flat, read_folder
from genmed_core.imagefiles import image_files, read_image

COLUMNS = ("name", "x", "y", "radius")


class Lesions(NamedTuple):
    """M lesions of n films, in pixels of the SIZE x SIZE film, the first pixel's centre at 0."""

    film: torch.Tensor    # (M,) int64
    place: torch.Tensor   # (M, 2) row and column
    radius: torch.Tensor  # (M,)


class Paired(NamedTuple):
    """What `read_pairs` found."""

    truth: torch.Tensor   # (n, 1, SIZE, SIZE) uint8
    output: torch.Tensor  # (n, 1, SIZE, SIZE) uint8
    input: torch.Tensor | None
    lesions: Lesions | None  # None where nobody said where they are
    names: list[str]
    notes: list[str]


def read_pairs(truth: Path | str, output: Path | str, *, input: Path | str | None = None,
               lesions: Path | str | None = None) -> Paired:
    """Folders whose files have the same names, but for their suffix -> Paired. Raises AuditError.

    lesions: a folder of masks named as the truth's files, grey where a lesion is (a film without a
    mask has none), or a CSV file with the columns `name, x, y, radius`, in pixels of that film.
    """
    places = {"truth": truth, "output": output} | ({"input": input} if input else {})
    folders = {name: (Path(place).expanduser(), read_folder(place))
               for name, place in places.items()}
    sizes = {name: _headers(*one) for name, one in folders.items()}
    stems, notes = _common(folders)
    for name in list(places)[1:]:
        _same_sizes(folders["truth"], folders[name], sizes["truth"], sizes[name], stems)
    sets = {name: folder.images[[_stems(folder).index(s) for s in stems]]
            for name, (_, folder) in folders.items()}
    full = folders["truth"][1].names
    names = [full[_stems(folders["truth"][1]).index(stem)] for stem in stems]
    _check_levels(folders, sets, names)
    where = None
    if lesions is not None:
        where = read_lesions(Path(lesions).expanduser(), stems, sizes["truth"])
    return Paired(sets["truth"], sets["output"], sets.get("input"), where, names, notes)


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0]


def _stems(folder: Folder) -> list[str]:
    return [_stem(name) for name in folder.names]


def _headers(place: Path, folder: Folder) -> dict[str, tuple[int, int]]:
    """Width and height of each file, by its stem. Raises AuditError for 16 bits and for twins."""
    sizes: dict[str, tuple[int, int]] = {}
    for name in folder.names:
        with Image.open(place / name) as image:
            if image.mode.startswith(("I", "F")):
                raise AuditError(
                    f"{place / name}: has more than 8 bits. Truth and output would each be scaled "
                    "by a range of its own, and their greys could not be compared: save all "
                    "folders as 8-bit grey, with one window for both")
            if _stem(name) in sizes:
                raise AuditError(f"{place / name}: another file differs in its suffix alone; keep "
                                 "one of them")
            sizes[_stem(name)] = image.size
    return sizes


def _common(folders: dict[str, tuple[Path, Folder]]) -> tuple[list[str], list[str]]:
    """Stems that all folders have, in order, and notes. Raises AuditError where one lacks some."""
    gone = {_stem(text.rsplit(": ", 1)[0]) for _, folder in folders.values()
            for text in folder.left_out}
    stems = {name: set(_stems(folder)) - gone for name, (_, folder) in folders.items()}
    place, whole = folders["truth"][0], stems["truth"]
    for name, (other, _) in folders.items():
        for one, here, there in ((whole - stems[name], other, place),
                                 (stems[name] - whole, place, other)):
            if one:
                raise AuditError(f"{here}: has no image for {len(one)} of {there}, such as "
                                 f"{sorted(one)[0]}; give each output the name of its truth")
    notes = [f"{name}: {len(folder.left_out)} of the files left out with their partners, such as "
             f"{folder.left_out[0]}" for name, (_, folder) in folders.items() if folder.left_out]
    return sorted(whole), notes


def _same_sizes(first: tuple[Path, Folder], other: tuple[Path, Folder], a: dict, b: dict,
                stems: Iterable[str]) -> None:
    """Raises AuditError where partners differ in size: they may not show the same place."""
    if wrong := [stem for stem in stems if a[stem] != b[stem]]:
        stem = wrong[0]
        raise AuditError(
            f"{other[0]}/{stem}: {b[stem][0]}x{b[stem][1]} pixels, but {a[stem][0]}x{a[stem][1]} "
            f"in {first[0]} ({len(wrong)} such pairs): resize outputs to their truth's size, so "
            "that pixels lie on pixels")


def _check_levels(folders: dict, sets: dict[str, torch.Tensor], names: list[str]) -> None:
    """Raises AuditError for a truth of one grey level, or where all others are."""
    for name, images in sets.items():
        blank, place = flat(images), folders[name][0]
        if name == "truth" and blank.any():
            first = names[int(blank.int().argmax())]
            raise AuditError(f"{place / first}: is of one grey level ({int(blank.sum())} such "
                             "files): nothing can be judged by it; move it and its partners away")
        if blank.all():
            raise AuditError(f"{place}: every image is of one grey level: the model has collapsed, "
                             "or its values were saved in 0..1; scale them to 0..255")


# --- lesions --------------------------------------------------------------------------------------


def read_lesions(place: Path, stems: list[str], sizes: dict[str, tuple[int, int]]) -> Lesions:
    """Masks of a folder, or a CSV file -> lesions of the films. Raises AuditError."""
    if place.is_dir():
        return components(_masks(place, stems, sizes))
    if place.suffix.lower() != ".csv" or not place.is_file():
        found = "is no CSV file" if place.exists() else "does not exist"
        raise AuditError(f"{place}: {found}; name a folder of masks, or a CSV file with the "
                         f"columns {', '.join(COLUMNS)}")
    with place.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file, skipinitialspace=True)
        if missing := set(COLUMNS) - set(table.fieldnames or ()):
            raise AuditError(f"{place}: has no column {', '.join(sorted(missing))}; its first line "
                             f"must be {','.join(COLUMNS)}")
        rows = [_row(place, line, row, stems, sizes) for line, row in enumerate(table, 2)]
    if not rows:
        raise AuditError(f"{place}: lists no lesion; leave --lesions out, and the detector decides")
    film, row, column, radius = zip(*rows)
    return Lesions(torch.tensor(film), torch.tensor([row, column]).T, torch.tensor(radius))


def _row(place: Path, line: int, row: dict, stems: list[str],
         sizes: dict[str, tuple[int, int]]) -> tuple[int, float, float, float]:
    """A line of the list -> film, row, column and radius on SIZE x SIZE pixels."""
    stem = _stem(row["name"] or "")
    stem = stem if stem in sizes else row["name"]
    if stem not in sizes or stem not in stems:
        raise AuditError(f"{place}, line {line}: no film is named {row['name']!r}")
    width, height = sizes[stem]
    try:
        x, y, radius = (float(row[key]) for key in COLUMNS[1:])
    except (TypeError, ValueError):
        raise AuditError(f"{place}, line {line}: x, y and radius must be numbers, in pixels of "
                         "the film") from None
    if not (0 <= x <= width and 0 <= y <= height and 0 < radius <= max(width, height)):
        raise AuditError(f"{place}, line {line}: ({x:g}, {y:g}) with radius {radius:g} does not "
                         f"lie on a film of {width}x{height} pixels")
    scale = SIZE / width, SIZE / height
    return (stems.index(stem), y * scale[1] - 0.5, x * scale[0] - 0.5,
            radius * (scale[0] * scale[1]) ** 0.5)


def _masks(place: Path, stems: list[str], sizes: dict[str, tuple[int, int]]) -> torch.Tensor:
    """The masks of a folder, bool (n, 1, SIZE, SIZE); all False for films without one."""
    nested = [image_files(inside) for inside in place.iterdir() if inside.is_dir()]
    paths = [*image_files(place), *(path for files in nested for path in files)]
    masks, row = torch.zeros(len(stems), 1, SIZE, SIZE, dtype=torch.bool), dict.fromkeys(stems, -1)
    row |= {stem: i for i, stem in enumerate(stems)}
    for path in paths:
        stem = _stem(path.relative_to(place).as_posix())
        if stem not in row:
            raise AuditError(f"{path}: no film of the truth is named {stem}; name each mask as its "
                             "film")
        outcome = read_image(path, SIZE)
        if isinstance(outcome, str):
            raise AuditError(f"{path}: {outcome}")
        if outcome[1].size != sizes[stem]:
            raise AuditError(f"{path}: {outcome[1].width}x{outcome[1].height} pixels, but its film "
                             f"has {sizes[stem][0]}x{sizes[stem][1]}; draw masks on the film")
        shares = (np.asarray(outcome[1]) > 0).astype(np.uint8) * 255
        small = Image.fromarray(shares).resize((SIZE, SIZE), Image.Resampling.BOX)
        share = torch.from_numpy(np.array(small))
        # a lesion smaller than a pixel keeps its best one
        masks[row[stem], 0] = share >= share.max().clamp(min=2) / 2
    if not masks.any():
        raise AuditError(f"{place}: no mask shows a lesion; leave --lesions out, and the detector "
                         "decides")
    return masks


def components(masks: torch.Tensor) -> Lesions:
    """Masks (n, 1, H, W) bool -> each connected region as a disc of its centre and area."""
    film, place, radius = [], [], []
    for i, mask in enumerate(masks[:, 0].numpy()):
        regions, count = ndimage.label(mask, np.ones((3, 3)))
        for k in range(1, count + 1):
            rows, columns = np.nonzero(regions == k)
            film.append(i)
            place.append((float(rows.mean()), float(columns.mean())))
            radius.append((len(rows) / np.pi) ** 0.5)
    return Lesions(torch.tensor(film, dtype=torch.int64), torch.tensor(place).view(-1, 2),
                   torch.tensor(radius))
