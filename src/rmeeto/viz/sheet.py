"""Pictures laid out on a sheet, and sheets as files."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from PIL import Image

from rmeeto.data.video import write_mp4
from rmeeto.errors import ConfigError
from rmeeto.files.durable import write_bytes
from rmeeto.files.paths import shown
from rmeeto.viz.rows import Row

CELL_INCHES = 2.1
ANIMATIONS = (".gif", ".mp4")
ANIMATION_DPI = 120
FRAMES_PER_SECOND = 4  # slow enough to look at


def figure(rows: Sequence[Row]) -> Figure:
    """Lay out rows of pictures, titles above the columns and names at the left."""
    columns = max(len(row.panels) for row in rows)
    tight = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    sheet = Figure(figsize=(columns * CELL_INCHES, len(rows) * CELL_INCHES + 0.25), layout=tight)
    FigureCanvasAgg(sheet)
    axes = sheet.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for place, (cell, panel) in enumerate(zip(line, row.panels, strict=True)):
            cell.imshow(panel.picture, interpolation="antialiased")
            cell.set_xticks([])
            cell.set_yticks([])
            for spine in cell.spines.values():
                spine.set_visible(False)
            if row is rows[0]:
                cell.set_title(panel.title, fontsize=8)
            if place == 0:
                cell.set_ylabel(shown(row.name), fontsize=7, color="0.35", parse_math=False)
    return sheet


def check_format(path: Path, *, films: bool = False) -> str:
    """The format that a path's ending names. films: whether animations are possible, as for clips.

    Raises:
        ConfigError: there is no such format.
    """
    form = path.suffix.removeprefix(".").lower()
    known = {f".{name}" for name in FigureCanvasAgg.get_supported_filetypes()} | set(ANIMATIONS if films else ())
    if f".{form}" not in known:
        raise ConfigError(
            f"write the picture {path}",
            why=f"{path.suffix!r} is not the ending of a picture" if form else "its name has no ending",
            fix=f"end it with one of: {', '.join(sorted(known))}",
        )
    return form


def is_animation(path: Path) -> bool:
    """Whether a path's ending names a film."""
    return path.suffix.lower() in ANIMATIONS


def save_animation(sheets: Iterable[Figure], path: Path) -> None:
    """Write figures, one for each frame, as a repeating GIF or an MP4, by the path's ending.

    Raises:
        DataError: PyAV, which writes MP4, is missing.
        RunError: the disk refused it.
    """
    frames, film = [rendered(sheet) for sheet in sheets], BytesIO()
    if path.suffix.lower() == ".mp4":
        write_mp4(film, frames, FRAMES_PER_SECOND)
    else:
        first, *others = map(Image.fromarray, frames)
        milliseconds = round(1000 / FRAMES_PER_SECOND)
        first.save(film, format="GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)
    write_bytes(path, film.getbuffer())


def rendered(sheet: Figure) -> NDArray[np.uint8]:
    """A figure's pixels, ``(height, width, 3)``."""
    sheet.set_dpi(ANIMATION_DPI)
    canvas: Any = FigureCanvasAgg(sheet)
    with _any_letters():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_figure(sheet: Figure, path: Path) -> None:
    """Write a figure in the format that the path's ending names.

    Raises:
        ConfigError: there is no such format.
        RunError: the disk refused it.
    """
    form = check_format(path)
    content = BytesIO()
    with _any_letters():
        sheet.savefig(content, format=form, dpi=200)
    write_bytes(path, content.getbuffer())


@contextmanager
def _any_letters() -> Iterator[None]:
    """A block without warnings about letters that the font lacks; matplotlib draws a box for them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield
