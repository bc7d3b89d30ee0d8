"""Training speeds that files of ours hold: the log of a run, ``benchmarks/training.py``, or ``rmeeto bench --json``."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import TypeGuard

from rmeeto.config import Sizes, changed
from rmeeto.cost import count
from rmeeto.errors import ConfigError, RmeetoError, RunError
from rmeeto.files.paths import given_path, read_text
from rmeeto.files.run_files import LOG, RECIPE
from rmeeto.models.checkpoint import CONFIG
from rmeeto.models.description import describe
from rmeeto.recipe import Recipe, parse_recipe
from rmeeto.reduction import Reduction, parse_reduction
from rmeeto.speed import Throughput, scaled
from rmeeto.speed.minutes import FORWARD_PASSES
from rmeeto.training.runlog import Record, read_log

SAME_MODEL = 0.02  # by which the operations of one model may differ between two versions of the package
CONDITIONS = ("processes", "device", "precision")  # that a speed depends on
MOST_BYTES = 1 << 28


def load_throughput(path: str | Path, config: Sizes, reduction: Reduction | None) -> Throughput:
    """How many images per second one device trains on, as a file says; scaled by the FLOPs to another reduction.

    path: the folder or ``log.jsonl`` of a run; a JSON file of ``benchmarks/training.py``; or one that ``rmeeto bench
    --json`` printed, whose forward passes are taken for a third of a training step. config, reduction: of the model
    that is asked about.

    Raises:
        RunError: the file is missing, damaged, or holds no speed.
        ConfigError: it is the speed of another model.
    """
    place = given_path(path, "read a measured speed", RunError)
    try:
        if place.is_dir() or place.suffix == ".jsonl":
            return _of_run(place, config, reduction)
        content = _read_json(place)
        if "recipe" in content and "rows" in content:
            return _of_run(place, config, reduction)
        if "measurements" in content:
            return _of_bench(content, place, config, reduction)
        if isinstance(content.get("images_per_second"), dict) and "shape" in content:
            return _of_benchmark(content, place, config, reduction)
    except RmeetoError:  # some are TypeErrors too
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _without_speed(place, f"it is damaged ({type(error).__name__}: {str(error)[:200]})") from error
    raise _without_speed(place, "it is neither a run nor a measurement of rmeeto")


def _of_run(asked: Path, config: Sizes, reduction: Reduction | None) -> Throughput:
    """From a run's log: the median over its lines, waiting for images taken out, shared among its processes."""
    folder = asked if asked.is_dir() else asked.parent
    log = asked if asked.suffix == ".jsonl" else folder / LOG
    if not log.exists():
        raise _without_speed(asked, f"a run's speed of training is in its {LOG}, and there is none in {folder}")
    speeds, conditions = _speeds_of_one_process(read_log(log))
    if not speeds:
        raise _without_speed(log, "it has no line of a training step")
    recipe = _recipe_of(folder)
    _check_same_model(_sizes_of(folder, recipe), config, recipe.model, log)
    processes = conditions.get("processes", 1)
    source = ", ".join([f"measured in {log}", *(conditions[name] for name in CONDITIONS[1:] if name in conditions)])
    if processes > 1:
        source += f", one of {processes} processes with their communication"
    if recipe.distill:
        source += ", the teacher's passes included"
    speed = statistics.median(speeds[1:] or speeds)  # the steps of the first line include warming up
    batch = min(recipe.batch_size, recipe.images_per_step // processes)
    found = Throughput(speed, "measured", source, batch)
    return scaled(found, config, measured=parse_reduction(recipe.reduction), wanted=reduction)


def _speeds_of_one_process(records: list[Record]) -> tuple[list[float], Record]:
    """Images per second of each logged interval since the last change of conditions, and those conditions."""
    speeds: list[float] = []
    conditions: Record = {}
    for record in records:
        if record["event"] in ("start", "resume"):
            if any(record.get(name) != conditions.get(name) for name in CONDITIONS):
                speeds = []
            conditions = record
        elif record["event"] == "step":
            speed, waiting = record.get("images_per_second"), record.get("data_wait_share", 0.0)
            if _is_positive(speed) and isinstance(waiting, int | float) and 0 <= waiting < 1:
                speeds.append(speed / (1 - waiting) / conditions.get("processes", 1))
    return speeds, conditions


def _recipe_of(folder: Path) -> Recipe:
    try:
        return parse_recipe(read_text(folder / RECIPE), source=str(folder / RECIPE))
    except (OSError, ValueError) as error:
        raise _without_speed(folder, f"{RECIPE}, which says what was trained, cannot be read ({error})") from error


def _sizes_of(folder: Path, recipe: Recipe) -> Sizes:
    """The trained model's: from the model in the folder, before the first epoch from the recipe."""
    if (folder / CONFIG).exists():
        return describe(str(folder)).config
    return changed(describe(recipe.model).config, dict(recipe.model_options))


def _of_benchmark(content: Record, path: Path, config: Sizes, reduction: Reduction | None) -> Throughput:
    """From ``benchmarks/training.py``: the package's kernels."""
    speed, (batch, *size) = content["images_per_second"].get("kernels"), content["shape"]
    if not _is_positive(speed):
        raise _without_speed(path, 'it has no speed of "kernels"')
    sizes = describe(content["model"]).config
    if hasattr(sizes, "img_size"):
        sizes = changed(sizes, {"img_size": tuple(size[-2:])})
    _check_same_model(sizes, config, content["model"], path)
    where = content.get("gpu") or f"{content.get('processor')}, {content.get('threads')} threads"
    source = f"measured in {path}, {where}, {content.get('dtype')}"
    found = Throughput(speed, "measured", source, batch)
    return scaled(found, config, measured=parse_reduction(content.get("reduction") or "none"), wanted=reduction)


def _of_bench(content: Record, path: Path, config: Sizes, reduction: Reduction | None) -> Throughput:
    """From ``rmeeto bench``, the fastest setting, by the reduction itself or else the unreduced model."""
    rows = content["measurements"]
    wanted = str(reduction or "none")
    same = [row for row in rows if row["reduction"] == wanted] or [row for row in rows if row["reduction"] == "none"]
    if not same:
        raise _without_speed(path, f"it has neither {wanted} nor none")
    best = max(same, key=lambda row: row["images_per_second"]["median"])
    measured = parse_reduction(best["reduction"])
    gflops = count(config, measured).total / 1e9
    if abs(best["gflops_exact"] / gflops - 1) > SAME_MODEL:
        raise _other_model(path, f"{content['model']}, {best['gflops_exact']:.2f} GFLOPs", gflops)
    source = (
        f"a third of the {best['images_per_second']['median']:.0f} images/s of forward passes in {path}, "
        f"{content['device']}, {best['precision']}: training itself was not measured"
    )
    found = Throughput(best["images_per_second"]["median"] / FORWARD_PASSES, "estimated", source, best["batch"])
    return scaled(found, config, measured=measured, wanted=reduction)


def _read_json(path: Path) -> Record:
    try:
        content = json.loads(read_text(path, most=MOST_BYTES))
    except FileNotFoundError as error:
        raise _without_speed(path, "there is no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _without_speed(path, f"it is not JSON ({str(error)[:200]})") from error
    if not isinstance(content, dict):
        raise _without_speed(path, "it is not a JSON object")
    return content


def _is_positive(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


def _check_same_model(measured: Sizes, wanted: Sizes, name: str, path: Path) -> None:
    """Two models are the same if they cost the same, unreduced and with heads for as many classes."""
    same_head = changed(measured, {"num_classes": wanted.num_classes})
    theirs, ours = count(same_head).total / 1e9, count(wanted).total / 1e9
    if abs(theirs / ours - 1) > SAME_MODEL:
        raise _other_model(path, f"{name}, {theirs:.3g} GFLOPs", ours)


def _other_model(path: Path, given: str, gflops: float) -> ConfigError:
    return ConfigError(
        f"plan with the speed in {path}",
        given=given,
        why=f"the model that is planned is another one, of {gflops:.3g} GFLOPs, and speeds do not carry over",
        fix="measure the model itself, or name the model that was measured",
    )


def _without_speed(path: Path, why: str) -> RunError:
    return RunError(
        f"read the speed of training in {path}",
        why=why,
        fix="give the folder of a run, a result of benchmarks/training.py, what rmeeto bench --json printed, or "
        "--images-per-second",
    )
