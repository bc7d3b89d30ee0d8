"""Make Vision Mamba faster in minutes: merge similar tokens in order, re-train briefly, show the evidence.

>>> import rmeeto
>>> model = rmeeto.create_model("vim_small", reduction=rmeeto.TokenMerge(r=11))
>>> model.schedule.tokens[-1]
76
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from rmeeto.import_hooks import MovedModule, when_imported

if TYPE_CHECKING:
    from rmeeto.config import ModelConfig
    from rmeeto.cost import flops
    from rmeeto.errors import RmeetoError, RmeetoWarning
    from rmeeto.evaluation import evaluate
    from rmeeto.models.backbone import VisionMamba
    from rmeeto.models.checkpoint import save_model
    from rmeeto.models.cuda_graph import CudaGraph
    from rmeeto.models.factory import create_model
    from rmeeto.models.freezable import thaw
    from rmeeto.models.freezing import freeze
    from rmeeto.models.vit import reduce, restore
    from rmeeto.models.zoo import list_models
    from rmeeto.ops import causal_conv, selective_scan
    from rmeeto.recipe import Recipe, load_recipe
    from rmeeto.reduction import Plan, ReleasedMerge, TokenMerge, TokenPrune, parse_reduction
    from rmeeto.reduction.tokens import Tokens
    from rmeeto.runtime.allocator import keep_freed_memory
    from rmeeto.training import retrain
    from rmeeto.tuning import tune

__version__ = "0.1.0"

# Loaded at first use, so that `import rmeeto` and `rmeeto --help` do not wait for torch.
_HOMES = {
    "CudaGraph": "rmeeto.models.cuda_graph",
    "ModelConfig": "rmeeto.config",
    "Plan": "rmeeto.reduction",
    "Recipe": "rmeeto.recipe",
    "ReleasedMerge": "rmeeto.reduction",
    "RmeetoError": "rmeeto.errors",
    "RmeetoWarning": "rmeeto.errors",
    "TokenMerge": "rmeeto.reduction",
    "TokenPrune": "rmeeto.reduction",
    "Tokens": "rmeeto.reduction.tokens",
    "VisionMamba": "rmeeto.models.backbone",
    "causal_conv": "rmeeto.ops",
    "create_model": "rmeeto.models.factory",
    "evaluate": "rmeeto.evaluation",
    "flops": "rmeeto.cost",
    "freeze": "rmeeto.models.freezing",
    "keep_freed_memory": "rmeeto.runtime.allocator",
    "list_models": "rmeeto.models.zoo",
    "load_recipe": "rmeeto.recipe",
    "parse_reduction": "rmeeto.reduction",
    "reduce": "rmeeto.models.vit",
    "restore": "rmeeto.models.vit",
    "retrain": "rmeeto.training",
    "save_model": "rmeeto.models.checkpoint",
    "selective_scan": "rmeeto.ops",
    "thaw": "rmeeto.models.freezable",
    "tune": "rmeeto.tuning",
}

# Modules of version 0.1 whose names go on working for one version.
_MOVED_MODULES = {
    "allocator": "runtime.allocator",
    "devices": "runtime.devices",
    "doctor": "runtime.doctor",
    "durable": "files.durable",
    "jsontext": "files.jsontext",
    "nonfinite": "runtime.nonfinite",
    "paths": "files.paths",
    "predict": "evaluation.prediction",
    "processes": "runtime.processes",
    "progress": "runtime.progress",
    "randomness": "runtime.randomness",
    "results": "evaluation.results",
    "run_files": "files.run_files",
    "table": "evaluation.scores",
    "timing": "reduction.elapsed",
    "tokens": "reduction.tokens",
    "when_imported": "import_hooks",
    "bench": "speed",
}

__all__ = [
    "CudaGraph",
    "ModelConfig",
    "Plan",
    "Recipe",
    "ReleasedMerge",
    "RmeetoError",
    "RmeetoWarning",
    "TokenMerge",
    "TokenPrune",
    "Tokens",
    "VisionMamba",
    "causal_conv",
    "create_model",
    "evaluate",
    "flops",
    "freeze",
    "keep_freed_memory",
    "list_models",
    "load_recipe",
    "parse_reduction",
    "reduce",
    "restore",
    "retrain",
    "save_model",
    "selective_scan",
    "thaw",
    "tune",
]


def __getattr__(name: str) -> object:
    if name in _MOVED_MODULES:
        return sys.modules[f"rmeeto.{name}"]
    if name not in _HOMES:
        raise AttributeError(f"module 'rmeeto' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def _register_with_timm() -> None:
    from rmeeto.models.timm_registry import register_with_timm

    register_with_timm()


# timm takes seconds to import and has no entry points for other packages' models
when_imported("timm", _register_with_timm)
for _name, _new_name in _MOVED_MODULES.items():
    sys.modules[f"rmeeto.{_name}"] = MovedModule(f"rmeeto.{_name}", f"rmeeto.{_new_name}")
