"""Explanation cards: what an explanation of one image assumes, what it may be used for, and one that disagrees.

A card names the run that it is of, the model and the image by their hashes, and the numbers of its maps: asked again
(:func:`replay`) it must give them again. The panel of dissent is part of a card; there is no card without one.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from medaudit import __version__
from medaudit.audits.explanations.opened import Explained
from medaudit.audits.explanations.study import Study, Tested
from medaudit.errors import DataError, UsageError
from medaudit.explanation.assumptions import Configuration, diff, registry
from medaudit.explanation.attributions.run import attribute
from medaudit.report import gallery
from medaudit.report.atomic import write_atomically

FOLDER = "cards"
SCHEMA = 1
_SIDE = 160
_NEEDED = ("case", "configuration", "dissent", "numbers", "image", "model", "seed")


def cards(result: Study, name: str) -> list[dict[str, Any]]:
    """Return a card of each explained image: its explanation by configuration ``name``, and the one that disagrees."""
    found = result.explained
    tested = result.tested[name]
    model = model_hash(found)
    return [_card(result, name, tested, k, model) for k in range(len(found.rows))]


def _card(result: Study, name: str, tested: Tested, k: int, model: str) -> dict[str, Any]:
    found = result.explained
    shown, row = found.pictures, int(found.rows[k])
    other, alike = result.dissent(name, k)
    against = result.config_of(other)
    maps = tested.maps
    assert maps is not None
    told = int(found.told[int(np.searchsorted(shown.held, row))])
    return {
        "schema": SCHEMA,
        "case": shown.case_ids[row],
        "explained": _explained(tested.config, _class(found, int(found.about[k])), _class(found, told)),
        "predicted": _class(found, told),
        "configuration": {"name": name, **tested.config.as_dict(), "key": tested.config.key},
        "says": tested.config.says(),
        "assume": [asdict(one) for one in tested.config.sentences()],
        "paradigms": [asdict(one) for one in tested.config.paradigms()],
        "claims": [{"claim": one.claim.kind, "verdict": one.verdict, "why": one.why} for one in tested.licences],
        "warrants": [one.as_dict() for one in tested.warrants],
        "not_run": dict(tested.not_run or {}),
        "profile": None if result.profile is None else result.profile.as_dict(),
        "noise_floor": {pair: float(one.effect.floor[k]) for pair, one in result.pairs.items()
                        if one.effect is not None and one.a.key == tested.config.key},
        "dissent": {"name": other, **against.as_dict(), "key": against.key, "similarity": alike,
                    "assume": [asdict(one) for one in diff(tested.config, against).added]},
        "numbers": {"explanation": numbers(maps[k]), "dissent": numbers(result.maps_of(other)[k])},
        "image": image_hash(shown.images[row]), "model": model, "registry": registry().hash,
        "seed": result.settings.seed, "medaudit": __version__, "torch": torch.__version__,
    }  # fmt: skip


def _class(found: Explained, number: int) -> str:
    classes = found.pictures.classes
    return classes[number] if classes else str(number)


def _explained(config: Configuration, about: str, predicted: str) -> str:
    what = config["explanandum"].value
    if what == "whole-model":
        return f"the whole model at this image, which it gives class '{predicted}'"
    given = (
        "which the model gives this image" if about == predicted else f"and the model gives this image '{predicted}'"
    )
    return f"the {what} of class '{about}', {given}"


def numbers(values: np.ndarray) -> dict[str, float]:
    """Return what two maps that are the same agree in: sum, mass, and the largest value with its place."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    place = int(np.abs(flat).argmax())
    return {"sum": float(flat.sum()), "mass": float(np.abs(flat).sum()), "largest": float(flat[place]), "at": place}


def write_cards(result: Study, name: str, out: Path) -> list[dict[str, Any]]:
    """Write every card as JSON and as a page; return them."""
    made = cards(result, name)
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    for k, card in enumerate(made):
        text = json.dumps(_strict(card), indent=1, sort_keys=True, allow_nan=False)
        write_atomically(out / FOLDER / f"{file_name(card['case'])}.json", (text + "\n").encode())
        write_atomically(out / FOLDER / f"{file_name(card['case'])}.html", card_page(card, _picture(result, card, k)))
    return made


def file_name(case: str) -> str:
    """Return a name that any case may have on disk: its letters and digits, and what tells it from another."""
    kept = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in case)[:60]
    return kept if kept == case else f"{kept}-{hashlib.sha256(case.encode()).hexdigest()[:8]}"


def read_card(path: Path) -> dict[str, Any]:
    """Return a card; DataError for a file that is none."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such card") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is no card: {str(error).splitlines()[0]}") from None
    if not isinstance(card, dict) or card.get("schema") != SCHEMA or not set(_NEEDED) <= set(card):
        raise DataError(f"{path} is no card of this version; expected one that medaudit explain audit wrote")
    return card


def replay(card: dict[str, Any], found: Explained) -> list[str]:
    """Return what differs when a card's two maps are made again; nothing where they are the same."""
    shown = found.pictures
    if card["case"] not in shown.case_ids:
        raise DataError(f"case {card['case']} is not in this run")
    row = shown.case_ids.index(card["case"])
    if row not in found.rows:
        raise DataError(f"case {card['case']} was not explained in this run")
    apart = []
    for what, own in (("image", image_hash(shown.images[row])), ("model", model_hash(found))):
        if own != card[what]:
            apart.append(f"the {what} is another: {own[:16]}, the card's {str(card[what])[:16]}")
    place = int(np.flatnonzero(found.rows == row)[0])
    for what in ("explanation", "dissent"):
        try:
            config = Configuration.from_dict(card["configuration" if what == "explanation" else "dissent"])
            seed, theirs = (
                int(card["seed"]),
                {key: float(card["numbers"][what][key]) for key in _numbers_of(card, what)},
            )
        except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
            raise DataError(
                f"the card of case {card['case']} is damaged: its {what} cannot be read ({error})"
            ) from None
        try:
            made = numbers(attribute(config, found.subject, seed=seed).maps[place].cpu().numpy())
        except Exception as error:  # of a model of somebody's own, that may raise anything
            apart.append(f"{what}: it cannot be made again ({type(error).__name__}: {error})")
            continue
        for key, value in theirs.items():
            # Sums of many numbers are as exact as their sizes are, and not as what is left of them.
            scale = theirs["mass"] if key == "sum" else abs(value)
            if not abs(made[key] - value) <= 1e-4 * scale + 1e-12:
                apart.append(f"{what}: {key} is {made[key]:.6g}, the card's {value:.6g}")
    return apart


def _numbers_of(card: dict[str, Any], what: str) -> list[str]:
    """Return the names of a card's numbers of a map; ValueError where they are not all there."""
    names = ["at", "largest", "mass", "sum"]
    if sorted(card["numbers"][what]) != names:
        raise ValueError(f"expected the numbers {', '.join(names)}")
    return names


def image_hash(image: np.ndarray) -> str:
    """Return the SHA-256 of an image as it was prepared."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def model_hash(found: Explained) -> str:
    """Return the SHA-256 of a model's parameters and statistics."""
    digest = hashlib.sha256()
    for name, value in found.subject.model.state_dict().items():
        # As bytes: numpy has not every type that torch has. What is no tensor is a module's own extra state.
        held = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if isinstance(
            value, torch.Tensor) else repr(value).encode()  # fmt: skip
        digest.update(name.encode() + held)
    return digest.hexdigest()


def card_page(card: dict[str, Any], picture: bytes) -> bytes:
    """Return a card as a page that loads nothing; all that comes from data is escaped."""

    def rows(some: list[tuple[str, str]]) -> str:
        return "".join(f"<tr><th scope='row'>{escape(a)}</th><td>{escape(b)}</td></tr>" for a, b in some)

    claims = [(f"{one['claim']}: {one['verdict']}", one["why"]) for one in card["claims"]]
    tests = [(one["id"], f"{'passed' if one['passed'] else 'not told' if one['passed'] is None else 'FAILED'}: "
              f"{one['value']:.3g}" + (f" ({one['note']})" if one["note"] else "")) for one in card["warrants"]
             if one["value"] is not None]  # fmt: skip
    assume = "".join(f"<li>{escape(one['text'])} <small>({escape(one['source'])}: {escape(one['atom'])})</small></li>"
                     for one in card["assume"])  # fmt: skip
    against = card["dissent"]
    other = "".join(f"<li>{escape(one['text'])}</li>" for one in against["assume"])
    alike = (
        f"agrees with this by {against['similarity']:.2f} (rank correlation)"
        if math.isfinite(against["similarity"])
        else "cannot be compared with this, which says nothing here: it is the same everywhere"
    )
    image = base64.b64encode(picture).decode()
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>Explanation card: {escape(card['case'])}</title><style>body{{font:16px/1.5 system-ui,sans-serif;"
        "max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}table{border-collapse:collapse}th{text-align:"
        "left;vertical-align:top;padding:.2rem 1rem .2rem 0;font-weight:600}td{padding:.2rem 0}img{max-width:100%}"
        "section{border-top:1px solid #bbb;margin-top:1.5rem}small{color:#555}</style></head><body>"
        f"<h1>{escape(card['case'])}</h1><p>Explained is {escape(card['explained'])}, by "
        f"<b>{escape(card['configuration']['name'])}</b>.</p>"
        f"<img alt='The image, its explanation, and the one that disagrees most' src='data:image/png;base64,{image}'>"
        f"<p>Image, explanation, dissent; red speaks for, blue against.</p>"
        f"<section><h2>What you must assume</h2><ul>{assume}</ul><p>{escape(card['says'])} Positions are inferred by "
        "medaudit, not the paper's word (arXiv 2510.02996).</p></section>"
        f"<section><h2>What may be claimed</h2><table>{rows(claims)}</table></section>"
        f"<section><h2>Tests</h2><table>{rows(tests)}</table></section>"
        f"<section><h2>Dissent</h2><p><b>{escape(against['name'])}</b> explains the same answer of the same model and "
        f"{alike}. It assumes instead:</p><ul>{other}</ul></section><section><h2>Provenance</h2><table>"
        + rows([("configuration", card["configuration"]["key"]), ("model", card["model"]), ("image", card["image"]),
                ("registry", card["registry"]), ("seed", str(card["seed"])), ("medaudit", card["medaudit"]),
                ("torch", card["torch"])])
        + "</table></section></body></html>"
    ).encode()  # fmt: skip


def coloured(values: np.ndarray) -> np.ndarray:
    """Return a map (H, W) as colours: red where it speaks for, blue against, white where it says nothing."""
    scale = float(np.quantile(np.abs(values), 0.99)) or 1.0
    share = np.clip(values / max(scale, 1e-30), -1, 1)[..., None]
    red, blue, white = np.array([178, 24, 43]), np.array([33, 102, 172]), np.array([255, 255, 255])
    made = np.where(share > 0, white + share * (red - white), white - share * (blue - white))
    return np.rint(made).astype(np.uint8)


def grey(image: np.ndarray) -> np.ndarray:
    """Return an image (channels, H, W) of 0 to 1 as (H, W, 3) bytes."""
    made = np.asarray(image, dtype=np.float32)
    made = np.repeat(made, 3, 0) if len(made) == 1 else made[:3]
    return np.rint(255 * np.clip(made.transpose(1, 2, 0), 0, 1)).astype(np.uint8)


def _picture(result: Study, card: dict[str, Any], k: int) -> bytes:
    found = result.explained
    own = result.tested[card["configuration"]["name"]].maps
    assert own is not None
    row = [grey(found.pictures.images[found.rows[k]]), coloured(own[k]),
           coloured(result.maps_of(card["dissent"]["name"])[k])]  # fmt: skip
    large = [np.asarray(Image.fromarray(one).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)) for one in row]
    stream = io.BytesIO(gallery.tiles([large], pixels=_SIDE))
    return stream.getvalue()


def _strict(value: Any) -> Any:
    """Return plain data for strict JSON: None for a number that is not finite."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        return {str(key): _strict(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
