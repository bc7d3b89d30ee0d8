"""The pictures of a table's page: images or clips beside their groups of merged patches."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from rmeeto.experiments.grid import label_text
from rmeeto.experiments.pictures import Picture, Pictures
from rmeeto.experiments.store import Store
from rmeeto.experiments.summary import Summary
from rmeeto.viz import draw_clip_groups

DRAWN_PIXELS = 192  # about, of the longer side of a drawing


@dataclass(frozen=True)
class Panel:
    """One picture. address: a ``data:`` address of a PNG. alt: what it shows, for those who cannot see it."""

    address: str
    alt: str


@dataclass(frozen=True)
class Line:
    """Pictures side by side: the frames of a clip, or an image. label: what they show."""

    label: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Strip:
    """An image or a clip: itself, then its groups by each model."""

    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Gallery:
    """The pictures of one place of a table. caption: the model, its reduction and the block that was looked at."""

    caption: str
    clips: bool
    strips: tuple[Strip, ...]


def galleries(one: Summary, store: Store) -> list[Gallery]:
    """The galleries of a table, in the order of its rows; none if it has no pictures, or they are not drawn yet."""
    found = []
    for row, figures in zip(one.table.rows, one.figures, strict=True):
        labels = ", ".join(label_text(value) for value in row.coordinates.values())
        for figure in figures:
            for result in map(store.of_key, figure.keys):
                if result is not None and result.pictures is not None:
                    found.append(gallery(f"{labels}, {figure.reduction}", result.pictures))
    return found


def gallery(model: str, kept: Pictures) -> Gallery:
    """The pictures of one cell. model: what merged, in words."""
    caption = f"{model}: a group is all patches that are one token at block {kept.block}, in their mean colour"
    clips = any(len(picture.frames) > 1 for picture in kept.pictures)
    return Gallery(caption, clips, tuple(strip(kept, picture) for picture in kept.pictures))


def strip(kept: Pictures, picture: Picture) -> Strip:
    """One image or clip."""
    frames = kept.frames(picture)
    lines = [Line(picture.name, tuple(panels(frames, f"of the class {picture.name}")))]
    for model in picture.groups:
        groups = kept.groups(picture, model)
        drawn = draw_clip_groups(frames, groups, size=DRAWN_PIXELS)
        number = len(np.unique(groups[groups >= 0]))  # a group may reach over several frames
        what = f"of the class {picture.name}, {model}: its {groups.size} patches in {number} groups"
        lines.append(Line(f"{model}, {number} groups", tuple(panels(drawn, what))))
    return Strip(tuple(lines))


def panels(pictures: list[Image.Image], what: str) -> Iterator[Panel]:
    """Each picture with what it shows."""
    for number, picture in enumerate(pictures, 1):
        alt = f"Frame {number} of a clip {what}" if len(pictures) > 1 else f"Image {what}"
        yield Panel(png(picture), alt)


def png(picture: Image.Image) -> str:
    """A picture as a ``data:`` address."""
    written = BytesIO()
    picture.save(written, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode('ascii')}"
