"""What a taste believes, for the browser: in files of the run, so that it is there after a reload, and after the run.

``taste/believed.json`` in the run's folder holds the figures and the last images, whose pictures lie in
``taste/shown``: those of each iteration that it was surest about. They are kept for a while, so that somebody who looks
at them can still say something when newer ones have come. The ballots of corrections lie beside them.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...mixgrpo_core.rewards.people.votes import shown_pictures
from ...mixgrpo_core.rewards.taste.beliefs import Believed
from ...mixgrpo_core.rewards.taste.corrections import Corrections, correction_id
from ...mixgrpo_core.support.files import make_folder, read_text, write_atomically
from .events import Line, harmless, reference
from .throttle import Throttle

TASTE = "taste"
"""Folder of what a run's taste was corrected in, and of its newest file."""
EACH = 3
"""Images that are shown of those that it likes most, and of those that it likes least."""
KEPT_SECONDS, KEPT = 60.0, 240
"""Images can be corrected for so long, but no more of them; those of the last two iterations always."""
_FIGURES = ("iteration", "sentences", "votes", "questions", "refreshed")
_BELIEVED, _SHOWN, _LARGEST_GROUP = "believed.json", "shown", 1000


class Tasting:
    """Who looks on: keeps what is believed of the last images, and tells the browsers.

    Args:
        line: to the browser.
        folder: the run's.
        gate: how often browsers are told while an iteration is done.
    """

    def __init__(self, line: Line, folder: Path, gate: Throttle) -> None:
        self._line, self._run, self._gate = line, folder, gate
        self._folder = folder / TASTE
        self._told: dict[str, Any] = _read(self._folder)

    def __call__(self, believed: Believed) -> None:
        """A group was scored."""
        with harmless():
            self._take(believed)
            if self._gate.open(False):
                self.tell()

    def tell(self) -> None:
        """Tell the browsers how it stands, if there is anything."""
        if (told := taste_payload(self._run)) is not None:
            self._line.send("taste", **told)

    def _take(self, believed: Believed) -> None:
        now, group = believed.iteration, _images(believed)
        before = self._told.get("images", {})
        same = {id: one for id, one in before.items() if one["iteration"] == now and _group(one) != believed.group}
        best, worst = ends({**same, **group})
        chosen = {id: one for id, one in group.items() if id in best or id in worst}
        make_folder(self._folder / _SHOWN)
        for id, one in chosen.items():
            Image.fromarray(one.pop("pixels")).save(self._folder / _SHOWN / f"{id}.png", compress_level=3)
        former = {id: one for id, one in _kept(before, now).items() if one["iteration"] != now}
        self._told = {
            "iteration": now,
            "sentences": believed.sentences,
            "votes": believed.votes,
            "questions": believed.questions,
            "refreshed": believed.refreshed,
            "images": {**former, **same, **chosen},
        }
        write_atomically(self._folder / _BELIEVED, json.dumps(self._told).encode())
        for file in (self._folder / _SHOWN).glob("*.png"):
            if file.stem not in self._told["images"]:
                file.unlink(missing_ok=True)


def _kept(images: Mapping[str, dict[str, Any]], iteration: int) -> dict[str, dict[str, Any]]:
    """Those that can still be corrected."""
    since = time.time() - KEPT_SECONDS
    young = [id for id, one in images.items() if one["made"] > since][-KEPT:]
    return {id: one for id, one in images.items() if id in young or one["iteration"] in (iteration - 1, iteration)}


def ends(images: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The ids of the ``EACH`` images that are liked most, and of those that are liked least, the outermost first."""
    order = sorted(images, key=lambda id: -images[id]["liked"])
    best = min(EACH, (len(order) + 1) // 2)
    return order[:best], order[best:][::-1][:EACH]


def taste_payload(run: Path) -> dict[str, Any] | None:
    """What a run's taste believes, as JSON values; None for a run that has none.

    Returns:
        ``iteration`` of the images; ``sentences`` about how much it knows; ``votes`` that it has, ``questions`` asked
        in this run, ``refreshed``, the iteration before which it was learnt last; ``waiting``, corrections that it
        hears next; ``best`` and ``worst``, each image with its ``id``, ``prompt``, ``liked``, the probability that it
        is, its ``picture``, and ``said``: see `Corrections.said`.
    """
    found = _read(run / TASTE)
    if not found:
        return None
    images = {id: one for id, one in found.pop("images").items() if one["iteration"] == found["iteration"]}
    corrections = Corrections(run / TASTE)

    def told(id: str) -> dict[str, Any]:
        picture = reference(run / TASTE / _SHOWN / f"{id}.png")
        about = {name: images[id][name] for name in ("prompt", "liked")}
        return {"id": id, **about, "picture": picture, "said": corrections.said(id)}

    best, worst = ends(images)
    sides = {"best": [told(id) for id in best], "worst": [told(id) for id in worst]}
    return {**found, "waiting": corrections.waiting, **sides}


def correct(run: Path, image: str, wrong: bool) -> str | None:
    """Say that the taste is wrong about an image that is shown, or take it back; see `Corrections.said`.

    Raises:
        FileNotFoundError: the image is not shown any more, or nothing was said of it.
        HeardError, BallotError, OSError: see `Corrections`.
    """
    corrections = Corrections(run / TASTE)
    if not wrong:
        corrections.take_back(image)
        return corrections.said(image)
    told = _read(run / TASTE)
    one = told.get("images", {}).get(image)
    if one is None:
        raise FileNotFoundError(image)
    picture = np.asarray(Image.open(run / TASTE / _SHOWN / f"{image}.png").convert("RGB"))
    place = {"iteration": one["iteration"], "place": one["place"], "now": told["iteration"]}
    corrections.say(picture, one["prompt"], liked=one["liked"] < 0.5, **place)
    return corrections.said(image)


def _images(believed: Believed) -> dict[str, dict[str, Any]]:
    """Of a group, by their ids; none while nothing is believed."""
    if believed.liked is None:
        return {}
    found = {}
    likely: Sequence[float] = believed.liked.tolist()
    for number, (picture, liked) in enumerate(zip(shown_pictures(believed.images), likely, strict=True)):
        place = believed.group * _LARGEST_GROUP + number
        id = correction_id(picture, believed.prompt, iteration=believed.iteration, place=place)
        about = {"iteration": believed.iteration, "place": place, "prompt": believed.prompt, "liked": liked}
        found[id] = {**about, "made": time.time(), "pixels": picture}
    return found


def _group(one: Mapping[str, Any]) -> int:
    return int(one["place"]) // _LARGEST_GROUP


def _read(folder: Path) -> dict[str, Any]:
    """What is believed; nothing where nothing is, or where the file is damaged: the next group writes it anew."""
    try:
        found = json.loads(read_text(folder / _BELIEVED))
        for one in found["images"].values():
            float(one["liked"]), float(one["made"]), int(one["iteration"]), int(one["place"]), one["prompt"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return {name: found.get(name) for name in _FIGURES} | {"images": found["images"]}
