"""Recipe: everything that decides a run, as one frozen value that reads and prints as TOML.

The defaults are the paper's (section 3.1): AdamW, 2e-5 falling to 1e-6 by a cosine, weight decay 0.05, 3 epochs.
Where the paper gives no value, they follow the DeiT augmentation that Vim was trained with.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from rmeeto.errors import ConfigError, UnknownName
from rmeeto.files.paths import given_path, is_folder, read_text
from rmeeto.files.toml_values import check_text, checked, to_toml

if TYPE_CHECKING:  # imported where they are made: a recipe is read without waiting for torch
    from rmeeto.data import Augmentation, BatchPlan, Views

Device = Literal["auto", "cpu"]
Precision = Literal["auto", "float32", "bfloat16"]
Impl = Literal["auto", "reference", "cpp", "triton"]
Sampling = Literal["sparse", "dense"]
Options = tuple[tuple[str, Any], ...]
PUBLISHED = "published"
OPTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training or re-training run.

    What:
        model: name or folder, as :func:`rmeeto.create_model` takes it. model_options: fields of its config to change.
        weights: a file, folder or hub address; ``published`` for the named model's own; None starts from scratch
            (or, if ``model`` is a folder, from the weights in it).
        num_classes: None keeps the head of given weights, and takes the data's classes from scratch.
        reduction: a line such as ``merge:r=11``; ``none`` trains the model whole.
        data: an image folder, a timm dataset string or ``digits``; see :func:`rmeeto.data.open_data`.
        subset: share of the training images to use, drawn class by class with the seed. Validation stays whole.

    How much:
        epochs: passes over the training images. batch_size: images per forward pass on one device.
        accumulate: forward passes per optimiser step. Their product is fixed; several processes share it.

    Optimiser (AdamW):
        lr, min_lr: first and last learning rate of a cosine that moves at every step.
        warmup_steps: steps of linear rise before it. weight_decay: not on norms, biases, embeddings, A and skip.
        clip_grad: largest gradient norm, or None. ema_decay: evaluate and save an average of the weights.
        distill: weight of the divergence to the unreduced model, added to the loss (temperature 1).
        anneal: share of the steps over which the reduction grows from nothing to its full value, as EViT's does.

    Augmentation: label_smoothing, mixup, cutmix, auto_augment, color_jitter, random_erasing, drop_path_rate as
        timm has them. flip: probability of mirroring; 0 where left and right are different classes. The frames of a
        clip are augmented alike. Digits are always only shifted and turned a little.
        What is drawn for an image depends on the seed, the step and its place there, not on the number of processes,
        ``accumulate`` or ``workers``. mixup and cutmix draw one ratio and one box for each 128 images of a step.

    Clips:
        sampling: ``sparse``, a frame from each of as many parts as the model takes frames, or ``dense``, one frame
            every ``frame_stride``. segments, crops: views of a clip in evaluations, scores averaged.

    Where:
        device: ``auto`` is the GPU if there is one. precision: ``auto`` is bfloat16 autocast on a GPU that has it,
            else float32. impl: kernels to use.
        workers: processes that read images; 0 reads in the main one. They do not change the result.
        output: folder for weights, state, log and results. save_every_seconds: how much work an interruption may cost.
        log_every_steps: how often a line is logged.

    Raises:
        ConfigError: a value of the wrong type or out of range.
    """

    model: str = "vim_tiny"
    model_options: Options = ()
    weights: str | None = None
    num_classes: int | None = None
    reduction: str = "none"
    data: str = "data"
    subset: float = 1.0

    epochs: int = 3
    batch_size: int = 128
    accumulate: int = 1
    seed: int = 0

    lr: float = 2e-5
    min_lr: float = 1e-6
    warmup_steps: int = 0
    weight_decay: float = 0.05
    clip_grad: float | None = 1.0
    ema_decay: float | None = None
    distill: float = 0.0
    anneal: float = 0.0

    label_smoothing: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    auto_augment: str | None = "rand-m9-mstd0.5-inc1"
    color_jitter: float = 0.4
    random_erasing: float = 0.25
    drop_path_rate: float = 0.0
    flip: float = 0.5

    sampling: Sampling = "sparse"
    frame_stride: int = 4
    segments: int = 1
    crops: int = 1

    device: Device = "auto"
    precision: Precision = "auto"
    impl: Impl = "auto"
    workers: int = 2
    output: str = "run"
    save_every_seconds: float = 300.0
    log_every_steps: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "model_options", _frozen_options(self.model_options))
        for name, hint in _hints().items():
            object.__setattr__(self, name, checked(name, getattr(self, name), hint))
        _check_ranges(self)

    @property
    def from_scratch(self) -> bool:
        """Whether nothing trained is given: neither weights nor a folder that holds some."""
        saved = self.model.startswith(("hf-hub:", "local-dir:")) or is_folder(self.model)
        return self.weights is None and not saved

    @property
    def images_per_step(self) -> int:
        """Images behind every optimiser step, over all processes."""
        return self.batch_size * self.accumulate

    @property
    def augmentation(self) -> Augmentation:
        """How training images are varied one by one, before they are mixed."""
        from rmeeto.data import Augmentation

        return Augmentation(**{field.name: getattr(self, field.name) for field in fields(Augmentation)})

    @property
    def views(self) -> Views:
        """How clips are sampled, in training and in evaluations."""
        from rmeeto.data import Views

        return Views(self.sampling, self.frame_stride, self.segments, self.crops)

    def batch_plan(self, images: int, processes: int = 1) -> BatchPlan:
        """The steps of this run on ``images`` training images. Raises what :class:`rmeeto.data.BatchPlan` raises."""
        from rmeeto.data import BatchPlan

        return BatchPlan(
            images=images,
            epochs=self.epochs,
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            processes=processes,
            seed=self.seed,
            pairs=self.mixup > 0 or self.cutmix > 0,
        )

    def changed(self, **changes: Any) -> Recipe:
        """A copy with some fields changed.

        Raises:
            UnknownName: a field that does not exist, with the nearest that do.
        """
        for name in changes:
            if name not in _hints():
                raise UnknownName("recipe field", name, _hints())
        return replace(self, **changes)

    def differences(self, other: Recipe) -> tuple[str, ...]:
        """One ``field: mine → theirs`` per field in which another recipe differs."""
        mine, theirs = asdict(self), asdict(other)
        return tuple(f"{name}: {mine[name]!r} → {theirs[name]!r}" for name in mine if mine[name] != theirs[name])

    def to_toml(self) -> str:
        """All fields as TOML that :func:`parse_recipe` reads back to an equal value."""
        lines = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "model_options":
                inside = ", ".join(f"{name} = {to_toml(v)}" for name, v in value)
                lines.append(f"model_options = {{ {inside} }}" if inside else "model_options = {}")
            elif value is not None:
                lines.append(f"{field.name} = {to_toml(value)}")
            elif field.default is not None:
                lines.append(f'{field.name} = "none"')
        return "\n".join(lines) + "\n"


def load_recipe(source: str | Path, **changes: Any) -> Recipe:
    """A recipe that ships with rmeeto, by name, or a TOML file, with fields changed.

    Raises:
        UnknownName: neither a file nor a shipped recipe; or an unknown field.
        ConfigError: a file that is not TOML, or a value that does not fit.

    >>> load_recipe("vim_small", data="imagenet", epochs=3).reduction
    'merge:r=11'
    """
    path = given_path(source, "read a recipe", ConfigError)
    if not path.exists():
        if str(source) not in list_recipes():
            raise UnknownName("recipe", str(source), list_recipes())
        path = Path(str(files("rmeeto") / "recipes" / f"{source}.toml"))
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"read the recipe {path}", why=str(error)) from error
    return parse_recipe(text, source=str(path)).changed(**changes)


def parse_recipe(text: str, *, source: str = "recipe") -> Recipe:
    """The recipe that a TOML text describes; fields it leaves out keep their defaults, ``"none"`` switches one off."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"read the recipe {source}", why=f"it is not TOML: {error}") from error
    return Recipe().changed(**table)


def list_recipes() -> list[str]:
    """Names of the recipes that ship with rmeeto."""
    folder = files("rmeeto") / "recipes"
    return sorted(Path(str(item)).stem for item in folder.iterdir() if str(item).endswith(".toml"))


@cache
def _hints() -> dict[str, Any]:
    return get_type_hints(Recipe)


def _frozen_options(options: object) -> Options:
    """Names with plain values, sorted, from a table or from pairs."""
    pairs = list(options.items()) if isinstance(options, Mapping) else options
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    ):
        raise _refused_options(repr(options), "they are names with values")
    frozen: dict[str, Any] = {}
    for name, value in pairs:
        plain = tuple(value) if isinstance(value, list) else value
        values = plain if isinstance(plain, tuple) else (plain,)
        if not isinstance(name, str) or not OPTION_NAME.fullmatch(name):
            raise _refused_options(repr(name), "an option's name is a word")
        if not all(isinstance(one, bool | int | float | str | None) for one in values):
            raise _refused_options(
                f"{name}={value!r}", "a value is a number, a string, true or false, or a list of them"
            )
        for one in values:
            if isinstance(one, str):
                check_text(f"model_options.{name}", one)
        frozen[name] = plain
    return tuple(sorted(item for item in frozen.items() if item[1] is not None))


def _refused_options(given: str, why: str) -> ConfigError:
    return ConfigError(
        "set model_options", given=given[:200], why=why, fix="model_options = { depth = 12, img_size = 64 }"
    )


def _check_ranges(recipe: Recipe) -> None:
    one_or_more = ("epochs", "batch_size", "accumulate", "log_every_steps", "frame_stride", "segments", "crops")
    zero_or_more = ("seed", "min_lr", "warmup_steps", "weight_decay", "distill", "mixup", "cutmix", "color_jitter")
    shares = ("label_smoothing", "random_erasing", "drop_path_rate")
    bounds: list[tuple[tuple[str, ...], str, Any]] = [
        (one_or_more, "at least 1", lambda v: v >= 1),
        ((*zero_or_more, "workers", "save_every_seconds"), "zero or more", lambda v: v >= 0),
        (shares, "at least 0 and below 1", lambda v: 0 <= v < 1),
        (("flip", "anneal"), "at least 0, at most 1", lambda v: 0 <= v <= 1),
        (("subset",), "above 0, at most 1", lambda v: 0 < v <= 1),
        (("lr",), f"above 0 and at least min_lr = {recipe.min_lr:g}", lambda v: v > 0 and v >= recipe.min_lr),
        (("ema_decay",), "between 0 and 1", lambda v: v is None or 0 < v < 1),
        (("clip_grad",), 'above 0, or "none"', lambda v: v is None or v > 0),
        (("num_classes",), "at least 1", lambda v: v is None or v >= 1),
    ]
    for names, meaning, fits in bounds:
        for name in names:
            if not fits(getattr(recipe, name)):  # a NaN fails every comparison, as it should
                raise ConfigError(f"set {name}", given=repr(getattr(recipe, name)), why=f"{name} is {meaning}")
    if recipe.batch_size % 2 and (recipe.mixup or recipe.cutmix):
        raise ConfigError(
            "mix images in pairs",
            given=f"batch_size = {recipe.batch_size}",
            why="mixup and cutmix pair the images of a batch, so it needs an even number",
            fix="use an even batch_size, or mixup = 0 and cutmix = 0",
        )
