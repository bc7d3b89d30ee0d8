"""``--format native``: a model file and the C library that runs it."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rmeeto import native
from rmeeto.errors import ConfigError
from rmeeto.exporting.conditions import check_precision
from rmeeto.exporting.folder import made_folder, write_run
from rmeeto.exporting.runners import Answer, Array, Runner
from rmeeto.exporting.trace import Batch
from rmeeto.exporting.truth import reducing_blocks
from rmeeto.files.durable import write_bytes, write_text
from rmeeto.models.reducible import ReducibleModel
from rmeeto.native import binding
from rmeeto.ops.impl import cpp

FILE, LIBRARY, BINDING = "model.rmeeto", "librmeeto.so", "rmeeto_native.py"


class NativeFormat:
    """The kernels of this package as a library with a C interface."""

    name = "native"
    packages: tuple[str, ...] = ("rmeeto",)
    needs: tuple[str, ...] = ("numpy", "pillow")
    runs = (
        "`librmeeto.so` is the library for this operating system and processor; `rmeeto_native.py` calls it.\n"
        "`docs/native.md` of rmeeto says how to call it from C, and how to build it elsewhere."
    )
    map_text = (
        "`rmeeto_native.load(file).with_map(images)` gives the logits and the source map, int64 `(images, {tokens})`:\n"
        "which of the tokens that are left holds each token that entered.\n"
    )
    any_batch = True

    def check(self, model: ReducibleModel, precision: str) -> None:
        """Raise :class:`ConfigError` for another precision than float32, a model that is not for it, or no library."""
        check_precision(self.name, precision)
        if reasons := native.why_not_save(model):
            raise ConfigError(
                "export to native",
                given=f"a {type(model).__name__}",
                why="; ".join(reasons),
                fix="--format onnx or pt2",
            )
        if not cpp.library_path().is_file():
            raise ConfigError(
                "export to native",
                why="the C library has not been built: there was no C++ compiler when rmeeto was installed",
                fix="install a compiler, then rmeeto again",
            )

    def write(self, model: ReducibleModel, folder: Path, *, batch: Batch, maps: bool) -> Sequence[Runner]:
        """Write the model, the library and their ``run.py``; what runs them. The source map can always be asked for."""
        from rmeeto.exporting.standalone import native_runtime

        made_folder(folder)
        native.save(model, folder / FILE)
        write_bytes(folder / LIBRARY, cpp.library_path().read_bytes())
        write_text(folder / BINDING, inspect.getsource(binding))
        write_run(folder, native_runtime)
        return [Opened.of(folder, reducing_blocks(model.schedule.counts))]


@dataclass(frozen=True)
class Opened:
    """A model in the C library of its folder. blocks: those that reduce."""

    model: native.Model
    file: Path
    load_seconds: float
    blocks: tuple[int, ...]
    runtime = "librmeeto"
    precision = "float32"
    gated = True

    @classmethod
    def of(cls, folder: Path, blocks: tuple[int, ...]) -> Opened:
        """Open the model of a folder by the library beside it."""
        start = time.perf_counter()
        model = native.load(folder / FILE, library_path=folder / LIBRARY)
        return cls(model, folder / FILE, time.perf_counter() - start, blocks)

    def logits(self, batch: Array) -> Array:
        """Logits."""
        return self.model(batch)

    def answer(self, batch: Array) -> Answer:
        """Logits, and the plan of each block.

        The library gives the source map after all blocks. Merging up to one block only gives the map there, and two
        maps that follow each other say how the tokens moved in between.
        """
        before = np.tile(np.arange(self.model.tokens), (len(batch), 1))
        places = {}
        for block in self.blocks:
            removed = [count if at <= block else 0 for at, count in enumerate(self.model.removed)]
            _, after = self.model.with_map(batch, removed)
            places[block] = between(before, after)
            before = after
        return Answer(self.logits(batch), places)


def between(before: Array, after: Array) -> Array:
    """How tokens moved from one source map ``(b, l0)`` to the next: their new places, ``(b, l)``.

    A token whose parts have gone to different places is given the place -2, which is no plan.
    """
    places = np.full((len(before), int(before.max()) + 1), -2)
    np.put_along_axis(places, before, after, axis=1)
    apart = np.take_along_axis(places, before, axis=1) != after
    rows, columns = apart.nonzero()
    places[rows, before[rows, columns]] = -2
    return places
