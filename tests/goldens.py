"""The outputs of the authors' program, and models with the weights they were made with (golden/golden_weights.py:
every array depends on its official parameter name and its shape, nothing else)."""

import importlib.util
import json
from functools import cache
from pathlib import Path

import numpy as np
import torch

from rmeeto.config import ModelConfig
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.models.vim.zoo import ZOO
from rmeeto.reduction import ReleasedMerge

FOLDER = Path(__file__).parent / "golden"

_spec = importlib.util.spec_from_file_location("golden_weights", FOLDER / "golden_weights.py")
_weights = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_weights)


@cache
def table(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def shapes(model: str) -> dict[str, list[int]]:
    return table("state_dict_shapes")["shapes"][model]


def array(name: str, shape, dtype=torch.float32) -> torch.Tensor:
    return torch.from_numpy(np.array(_weights.golden_array(name, shape))).to(dtype)


def noise(name: str, shape, dtype=torch.float32) -> torch.Tensor:
    return torch.from_numpy(_weights.golden_input(name, shape)).to(dtype)


def config(model: str) -> ModelConfig:
    if model.startswith("train_small"):
        return ModelConfig(img_size=64, dim=64, depth=int(model[-1]), num_classes=10)
    return ZOO[model.replace("_video8", "_video")].config


@cache
def model(name: str, dtype: torch.dtype = torch.float32) -> VisionMamba:
    """A model with the golden weights; tests set its reduction, which is a value and leaves no trace."""
    built = VisionMamba(config(name)).to(dtype)
    built.load_state_dict({key: array(key, shape) for key, shape in shapes(name).items()})
    return built.eval()


def released(options: dict, *, last_merge_rule: bool = True, visualisation: bool = False) -> ReleasedMerge:
    """The authors' options, by their names, as one value. Only their Vim for images has the last-merge rule."""
    choose = options.get("choose", "max")
    shuffled = options.get("if_shuffle", False)
    return ReleasedMerge(
        r=options["num_prune"],
        final=197 - 11 * options.get("compare", 11) if last_merge_rule and not shuffled else None,
        features=options.get("metric", "X"),
        distance=options.get("distance", "cosine"),
        nth=1 if choose == "max" else int(choose.removesuffix("c")),
        op=options.get("merge_mode", "sum"),
        ordered=options.get("if_order", True),
        pruned=options.get("if_prune", False),
        every=options.get("merge_interval", 2),
        odd=options.get("if_merge_odd", False),
        shuffle=options["shuffle_rate"] if shuffled else None,
        visualisation=visualisation,
    )
