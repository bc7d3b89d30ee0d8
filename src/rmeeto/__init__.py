"""Make Vision Mamba faster in minutes: merge similar tokens in order, re-train briefly, show the evidence.

>>> import rmeeto
>>> model = rmeeto.create_model("vim_small", reduction=rmeeto.TokenMerge(r=11))
>>> model.schedule.tokens[-1]
76
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import TYPE_CHECKING

from rmeeto.import_hooks import MovedModule, when_imported

if TYPE_CHECKING:
    from rmeeto.cost import flops as flops
    from rmeeto.evaluation import evaluate as evaluate
    from rmeeto.evaluation import predict as predict
    from rmeeto.exporting import export as export
    from rmeeto.models.checkpoint import save_model as save_model
    from rmeeto.models.factory import create_model as create_model
    from rmeeto.models.inference.cuda_graph import CudaGraph as CudaGraph
    from rmeeto.models.inference.explanation import explain as explain
    from rmeeto.models.inference.freezing import freeze as freeze
    from rmeeto.models.layers.freezing import thaw as thaw
    from rmeeto.models.vim.zoo import list_models as list_models
    from rmeeto.models.vit import reduce as reduce
    from rmeeto.models.vit import restore as restore
    from rmeeto.recipe import load_recipe as load_recipe
    from rmeeto.reduction import TokenMerge as TokenMerge
    from rmeeto.runtime.allocator import keep_freed_memory as keep_freed_memory
    from rmeeto.speed import bench as bench
    from rmeeto.training import retrain as retrain
    from rmeeto.tuning import tune as tune

__version__ = "0.1.0"

# The public names. Loaded at first use, so that `import rmeeto` and `rmeeto --help` do not wait for torch.
_HOMES = {
    "CudaGraph": "rmeeto.models.inference.cuda_graph",
    "TokenMerge": "rmeeto.reduction",
    "bench": "rmeeto.speed",
    "create_model": "rmeeto.models.factory",
    "evaluate": "rmeeto.evaluation",
    "explain": "rmeeto.models.inference.explanation",
    "export": "rmeeto.exporting",
    "flops": "rmeeto.cost",
    "freeze": "rmeeto.models.inference.freezing",
    "keep_freed_memory": "rmeeto.runtime.allocator",
    "list_models": "rmeeto.models.vim.zoo",
    "load_recipe": "rmeeto.recipe",
    "predict": "rmeeto.evaluation",
    "reduce": "rmeeto.models.vit",
    "restore": "rmeeto.models.vit",
    "retrain": "rmeeto.training",
    "save_model": "rmeeto.models.checkpoint",
    "thaw": "rmeeto.models.layers.freezing",
    "tune": "rmeeto.tuning",
}

__all__ = [*_HOMES]

# Former names that go on working for one version, and where they are now: of this module, and of modules in it.
_MOVED_NAMES = {
    "ModelConfig": "rmeeto.config",
    "Plan": "rmeeto.reduction",
    "Recipe": "rmeeto.recipe",
    "ReleasedMerge": "rmeeto.reduction",
    "RmeetoError": "rmeeto.errors",
    "RmeetoWarning": "rmeeto.errors",
    "TokenPrune": "rmeeto.reduction",
    "Tokens": "rmeeto.reduction",
    "VisionMamba": "rmeeto.models.vim.backbone",
    "causal_conv": "rmeeto.ops",
    "parse_reduction": "rmeeto.reduction",
    "selective_scan": "rmeeto.ops",
}
_MOVED_MODULES = {
    "allocator": "runtime.allocator",
    "bench": "speed",
    "bench.report": "speed.report",
    "devices": "runtime.devices",
    "doctor": "runtime.doctor",
    "durable": "files.durable",
    "jsontext": "files.jsontext",
    "models.as_written": "models.vim.as_written",
    "models.backbone": "models.vim.backbone",
    "models.block": "models.vim.block",
    "models.cuda_graph": "models.inference.cuda_graph",
    "models.dense": "models.vim.feature_maps",
    "models.freezable": "models.layers.freezing",
    "models.freezing": "models.inference.freezing",
    "models.linear": "models.layers.linear",
    "models.mixers": "models.vim.mixers",
    "models.timm_description": "models.vim.timm_description",
    "models.timm_interface": "models.vim.timm_interface",
    "models.zoo": "models.vim.zoo",
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
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in _MOVED_NAMES:
        home = _MOVED_NAMES[name]
        warnings.warn(f"rmeeto.{name} has moved: import it from {home}", DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(home), name)
    if name in _MOVED_MODULES:
        return sys.modules[f"rmeeto.{name}"]
    raise AttributeError(f"module 'rmeeto' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def _register_with_timm() -> None:
    from rmeeto.models.timm_registry import register_with_timm

    register_with_timm()


# timm takes seconds to import and has no entry points for other packages' models
when_imported("timm", _register_with_timm)
for _name, _new_name in _MOVED_MODULES.items():
    sys.modules[f"rmeeto.{_name}"] = MovedModule(f"rmeeto.{_name}", f"rmeeto.{_new_name}")
