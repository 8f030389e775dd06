"""What a model erased, invented and altered: measures of outputs against their truths.

A lesion counts as erased only where the detector finds it in the truth (a score of SURE or more)
and sees next to nothing there in the output (less than DOUBT); a mark in an output counts as
invented only where no lesion is near and the detector sees next to nothing in the truth. What lies
between is no evidence of either, so that a mark at the edge of what can be seen is not counted
because noise moved it. Both shares are then corrected for what the detector itself misses.
"""

import functools

import numpy as np
import torch

from genmed_core.audit import anatomy, views
from genmed_core.audit.folders import SIZE
from genmed_core.audit.intervals import Interval, bootstrap, share
from genmed_core.hallucinations.detector import DOUBT, NEAR, SURE, marks, scores, seen_near
from genmed_core.hallucinations.paired import Lesions
from genmed_core.metrics import weights_facts

FLOOR = 0.5  # the floor's blur, sd in pixels: less than what saving a film at another size does
MOST_PSNR = 80.0  # dB, of images that are equal
USUAL = 2.5  # radius, pixels, of lesions that nobody outlined


class Seen:
    """Films and what was found in them once: scores of nodules, outlines of organs."""

    def __init__(self, images: torch.Tensor):
        self.images = images

    @functools.cached_property
    def score(self) -> torch.Tensor:
        """Of a nodule's centre in each pixel, (n, SIZE, SIZE)."""
        return scores(self.images)

    @functools.cached_property
    def organs(self) -> torch.Tensor:
        """Chance of each of `anatomy.ORGANS` in each pixel, (n, 3, SIZE, SIZE)."""
        return anatomy.outlines(self.images)


def lesions_of(truth: Seen) -> Lesions:
    """The detector's own marks in the truth, where nobody said where lesions are."""
    found = marks(truth.score)
    return Lesions(found.film, found.place, torch.full((len(found.film),), USUAL))


def measure(truth: Seen, output: Seen, lesions: Lesions, rng: np.random.Generator, *,
            given: bool) -> dict:
    """Everything about outputs (n, 1, SIZE, SIZE) against their truths -> a dict JSON can hold.

    given: whether somebody other than the detector said where lesions are.
    """
    found = found_lesions(truth, lesions, given=given)
    return {"detector": found, "erased": erased(truth, output, lesions, found),
            "invented": invented(truth, output, lesions, found),
            "altered": altered(truth, output, lesions, rng), "organs": organs(truth, output, rng),
            "quality": quality(truth.images, output.images, rng)}


# --- lesions --------------------------------------------------------------------------------------


def found_lesions(truth: Seen, lesions: Lesions, *, given: bool) -> dict:
    """How good the detector is on these truths.

    "sensitivity": interval of the share of lesions it finds, on phantoms where nobody said where
    they are; "by_chance": share of places without a lesion where it sees something all the same.
    """
    hit = _hit(truth, lesions)
    if given and len(hit):
        sensitivity = share(int(hit.sum()), len(hit))
    else:
        kept = {k: float(v) for k, v in weights_facts("nodule_detector").items()
                if k in ("found", "lesions")}
        sensitivity = share(int(kept["found"]), int(kept["lesions"]))
    return {"lesions": len(hit), "found": int(hit.sum()), "sensitivity": sensitivity,
            "by_chance": _by_chance(truth, lesions), "given": given}


def _reach(lesions: Lesions) -> torch.Tensor:
    return lesions.radius + NEAR


def _hit(truth: Seen, lesions: Lesions) -> torch.Tensor:
    return seen_near(truth.score, lesions.film, lesions.place, _reach(lesions)) >= SURE


def _by_chance(truth: Seen, lesions: Lesions) -> float:
    """Share of the lesions' places at which other films, without any lesion, score DOUBT or more.

    So often a lesion that was taken out completely would still be seen.
    """
    clean = torch.ones(len(truth.images), dtype=torch.bool)
    clean[lesions.film] = False
    films = clean.nonzero()[:, 0]
    if len(films) == 0 or len(lesions.film) == 0:
        return 0.0
    count = max(len(lesions.film), 200)  # each place in some films, so that few places do
    rows = torch.arange(count) % len(lesions.film)
    others = films[torch.arange(count) * 7919 % len(films)]
    seen = seen_near(truth.score, others, lesions.place[rows], _reach(lesions)[rows])
    return (seen >= DOUBT).float().mean().item()


def erased(truth: Seen, output: Seen, lesions: Lesions, found: dict) -> dict:
    """Interval of the share of found lesions that the output shows no more, and whose they are.

    "value", "low", "high" are corrected for those that would be seen by chance; "counted" is not.
    None for all where no lesion was found.
    """
    hit = _hit(truth, lesions)
    kept = seen_near(output.score, lesions.film, lesions.place, _reach(lesions)) >= DOUBT
    gone = hit & ~kept
    result: dict = {"lost": int(gone.sum()), "of": int(hit.sum()),
                    "films": lesions.film[gone].unique().tolist(),
                    "places": _places(lesions.film[gone], lesions.place[gone])}
    if not hit.any():
        return result | {"value": None, "low": None, "high": None, "counted": None}
    counted = share(int(gone.sum()), int(hit.sum()))
    seen = dict.fromkeys(("value", "low", "high"), max(1 - found["by_chance"], 0.1))
    return result | _over(counted, seen) | {"counted": counted}


def invented(truth: Seen, output: Seen, lesions: Lesions, found: dict) -> dict:
    """Interval of the share of films with a lesion that the truth has not; marks; which films.

    "value", "low", "high" are corrected for what the detector misses: what it saw, divided by its
    sensitivity, whose interval widens that of the share, and by the share of places where the
    truth shows nothing. "counted" is what it saw.
    """
    n, mark = len(truth.images), marks(output.score)
    new = seen_near(truth.score, mark.film, mark.place,
                    torch.full((len(mark.film),), USUAL + NEAR)) < DOUBT
    for film, place, radius in zip(lesions.film, lesions.place, _reach(lesions)):
        near = (mark.place - place).square().sum(1) <= radius**2
        new &= ~(near & (mark.film == film))
    films = mark.film[new].unique()
    counted = share(len(films), n)
    seen = {key: value * max(1 - found["by_chance"], 0.1)
            for key, value in found["sensitivity"].items()}
    places = _places(mark.film[new], mark.place[new])
    return {"marks": len(places), "films": films.tolist(), "per_film": len(places) / n,
            "places": places, "counted": counted, **_over(counted, seen)}


def _places(film: torch.Tensor, place: torch.Tensor) -> list[tuple[int, float, float]]:
    """[(film, row, column)], for a page to show."""
    return [(i, *where) for i, where in zip(film.tolist(), place.tolist())]


def _over(counted: Interval, seen: Interval) -> Interval:
    """A share of which only the share `seen` can be counted; never above 1."""
    by = {"value": seen["value"], "low": seen["high"], "high": seen["low"]}
    return {key: min(counted[key] / max(by[key], 1e-6), 1.0) for key in by}


# --- healthy anatomy ------------------------------------------------------------------------------


def softened(images: torch.Tensor) -> torch.Tensor:
    """The truth behind the floor's blur, uint8."""
    x = views.softened(images.float() / 255, FLOOR)
    return (255 * x).round().clamp(0, 255).to(torch.uint8)


def healthy(n: int, lesions: Lesions) -> torch.Tensor:
    """Pixels away from every lesion, bool (n, 1, SIZE, SIZE)."""
    out, side = torch.ones(n, 1, SIZE, SIZE, dtype=torch.bool), torch.arange(SIZE)
    for film, (row, column), radius in zip(lesions.film, lesions.place, _reach(lesions)):
        near = (side[:, None] - row).square() + (side - column).square() <= radius**2
        out[film, 0] &= ~near
    return out


def altered(truth: Seen, output: Seen, lesions: Lesions, rng: np.random.Generator) -> dict:
    """Change outside lesions, root mean square in levels of 255, over that of the floor.

    The floor is the truth softened by FLOOR pixels. -> "ratio": interval of the ratio of means over
    films; "levels" and "floor": both means; "regions": those of lungs, heart and elsewhere.
    """
    outside = healthy(len(truth.images), lesions).float()
    images, floor = truth.images.float(), softened(truth.images).float()

    def change(x: torch.Tensor, where: torch.Tensor) -> np.ndarray:
        squared = ((x - images).square() * where).sum((1, 2, 3)) / where.sum((1, 2, 3)).clamp(min=1)
        return squared.sqrt().numpy()

    outputs = output.images.float()
    lung, heart = truth.organs[:, :2].sum(1, keepdim=True) > 0.5, truth.organs[:, 2:] > 0.5
    regions = {"lungs": lung, "heart": heart, "elsewhere": ~lung & ~heart}
    both = change(outputs, outside), change(floor, outside)

    def ratio(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x.mean(-1) / y.mean(-1).clip(1e-6)

    return {"ratio": bootstrap(ratio, both, rng), "levels": float(both[0].mean()),
            "floor": float(both[1].mean()),
            "regions": {name: {"levels": float(change(outputs, outside * where).mean()),
                               "floor": float(change(floor, outside * where).mean())}
                        for name, where in regions.items()}}


def organs(truth: Seen, output: Seen, rng: np.random.Generator) -> dict | None:
    """Lungs and heart of outputs against those of the truths; None where the truths show no chests.

    -> "lost": interval of the share of films with two lungs and a heart in the truth and not in
    the output; for each measure of `anatomy.MEASURED` the interval of its mean absolute change,
    less that of the floor.
    """
    true, seen = anatomy.measures(truth.organs), anatomy.measures(output.organs)
    if not anatomy.chests(true):
        return None
    floor = anatomy.measures(anatomy.outlines(softened(truth.images)))
    has = true["found"]
    result: dict = {"lost": share(int((has & ~seen["found"]).sum()), int(has.sum()))}
    both = has & seen["found"] & floor["found"]
    for name in anatomy.MEASURED:
        if both.sum() < 2:
            result[name] = None
            continue
        change = (seen[name] - true[name]).abs() - (floor[name] - true[name]).abs()
        result[name] = bootstrap(lambda x: x.mean(-1), (change[both].numpy().astype(float),), rng)
    return result


# --- quality --------------------------------------------------------------------------------------


def quality(truth: torch.Tensor, output: torch.Tensor, rng: np.random.Generator) -> dict:
    """Means over films of PSNR (dB, at most MOST_PSNR) and SSIM, with intervals; "equal" films."""
    from torchmetrics.functional import image  # seconds

    a, b = truth.float() / 255, output.float() / 255
    psnr = image.peak_signal_noise_ratio(b, a, data_range=1.0, reduction="none", dim=(1, 2, 3))
    ssim = torch.cat([_ssim(x, y) for x, y in zip(a.split(250), b.split(250))])
    each = {"psnr": psnr.clamp(max=MOST_PSNR), "ssim": ssim}
    found = {name: bootstrap(lambda x: x.mean(-1), (v.numpy().astype(float),), rng)
             for name, v in each.items()}
    return found | {"equal": int((truth == output).flatten(1).all(1).sum())}


def _ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Structural similarity of each pair (n, 1, H, W) in [0, 1] -> (n,).  Wang et al. 2004."""
    from torchmetrics.functional import image

    found = image.structural_similarity_index_measure(b, a, data_range=1.0, reduction="none")
    assert isinstance(found, torch.Tensor)
    return found.view(-1)
