"""The scale of an experiment: which models, data and trainings stand for the paper's.

``full`` is the paper's own: published weights on ImageNet-1K and Kinetics-400. ``small`` trains small models on small
real images, on two cores in hours. A scale is one TOML file in ``scales/``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from rmeeto.errors import UnknownName
from rmeeto.recipe import Recipe, load_recipe

FREE = "free"


@dataclass(frozen=True)
class DataSet:
    """Labelled images or clips.

    title: what they are. where: how to get them. fingerprint: of the data that the expected times and the stored cells
    are about (:func:`rmeeto.data.fingerprint`); None if any copy will do.
    """

    title: str
    where: str
    fingerprint: str | None = None


@dataclass(frozen=True)
class Estimating:
    """How cells of ``nats`` estimate mutual information; part of their key.

    images: of each draw. tokens: drawn from each image, so that a draw has ``images`` × ``tokens`` samples. draws: each
    with images of its own; every estimator gives one figure for each. estimators: names, as
    :mod:`rmeeto.analysis.estimators` has them. steps: of training a critic, at most.
    truths: nats of the Gaussians that each estimator is shown beside the model, with as many samples of as many
    columns. shared: directions that carry the Gaussians' information.
    """

    images: int
    tokens: int
    draws: int
    estimators: tuple[str, ...]
    steps: int
    truths: tuple[float, ...]
    shared: int


@dataclass(frozen=True)
class Drawing:
    """What cells of ``pictures`` keep; part of their key.

    images: how many, for models of images. clips, frames: how many clips, and how many frames of each, for models of
    clips. pixels: of the longer side of what is kept of an image or frame.
    """

    images: int
    clips: int
    frames: int
    pixels: int


@dataclass(frozen=True)
class StandIn:
    """What runs in place of one of the paper's models.

    model, options: as :func:`rmeeto.create_model` takes them. data: a data set of the scale. r: tokens that the paper
    removes per reducing block of it, or of the model ``like`` whose reduction ratio it shares. seconds: measured
    duration of one ``base``, ``free``, ``trained``, ``speed``, ``nats`` and ``pictures`` cell. trainings: changes to a
    training (``base`` is the one from scratch) that this model needs.
    """

    model: str
    data: str
    r: int
    like: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    trainings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scale:
    """A scale by name.

    amount: how a reduction says how many tokens go: ``r``, as the paper does, or ``ratio``, the share that the same r
    saves in the paper's model. base: recipe changes to train a model from scratch; None takes published weights.
    trainings: recipe changes by name, for models that were reduced. seeds: repetitions of a table for which there is no
    time to repeat it as often as it asks for, by the table's name. nats, pictures: sizes of those cells; None if the
    scale has none of them.
    """

    name: str
    title: str
    amount: Literal["r", "ratio"]
    data: Mapping[str, DataSet]
    models: Mapping[str, StandIn]
    trainings: Mapping[str, Mapping[str, Any]]
    base: Mapping[str, Any] | None = None
    seeds: Mapping[str, int] = field(default_factory=dict)
    nats: Estimating | None = None
    pictures: Drawing | None = None

    def sizes(self, work: str) -> Estimating | Drawing | None:
        """The sizes of cells of a work; None if the scale has none, or the work needs none."""
        known: dict[str, Estimating | Drawing | None] = {"nats": self.nats, "pictures": self.pictures}
        return known.get(work)

    def base_recipe(self, model: str) -> Recipe | None:
        """The run that trains a stand-in from scratch; None if published weights stand for it.

        There is one such network for each stand-in, as there is one file of published weights: what is repeated with
        other seeds is re-training.
        """
        if self.base is None:
            return None
        one = self.models[model]
        changes = {**self.base, **one.trainings.get("base", {})}
        return Recipe().changed(model=one.model, model_options=one.options, weights=None, **changes)

    def training_recipe(self, model: str, training: str, seed: int, **changes: Any) -> Recipe:
        """The run that re-trains a reduced stand-in; its model, reduction and folder are still to be filled in.

        Raises:
            UnknownName: a training that the scale does not have.
        """
        if training not in self.trainings:
            raise UnknownName(f"training of the scale {self.name}", training, self.trainings)
        one = self.models[model]
        known = {**self.trainings[training], **one.trainings.get(training, {}), **changes}
        recipe = load_recipe(known.pop("recipe")) if "recipe" in known else Recipe()
        return recipe.changed(model=one.model, model_options=one.options, seed=seed, **known)


def list_scales() -> list[str]:
    """Names of the scales."""
    folder = files("rmeeto") / "experiments" / "scales"
    return sorted(Path(str(item)).stem for item in folder.iterdir() if str(item).endswith(".toml"))


@cache
def load_scale(name: str) -> Scale:
    """The scale of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in list_scales():
        raise UnknownName("scale", name, list_scales())
    text = (files("rmeeto") / "experiments" / "scales" / f"{name}.toml").read_text(encoding="utf-8")
    content = tomllib.loads(text)
    data = {key: DataSet(**value) for key, value in content.pop("data").items()}
    models = {key: StandIn(**{"model": key, **value}) for key, value in content.pop("models").items()}
    for key, kind in (("nats", Estimating), ("pictures", Drawing)):
        if key in content:
            sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content[key].items()}
            content[key] = kind(**sizes)
    return Scale(name=name, data=data, models=models, **content)
