"""A model traced with `torch.export`: the ordinary module, our operations opaque, the steps of reduction named."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_structure

from rmeeto.exporting.around import Around
from rmeeto.models.layers.freezing import thaw
from rmeeto.models.reducible import ReducibleModel
from rmeeto.reduction import Reduction, Schedule, Tokens
from rmeeto.reduction.protocol import Step

Batch = int | None  # None: any number, which the runtime learns from its input
MOST_IMAGES = 4096  # that a program with a free batch may be given at a time
LOGITS, SOURCE_MAP = "logits", "source_map"


def place_name(block: int) -> str:
    """The name of a block's plan among the results."""
    return f"block{block:02d}/place"


@dataclass(frozen=True)
class Traced:
    """A traced model.

    program: gives the logits ``(b, classes)``, the source map ``(b, l0)`` and for each reducing block the output place
    of each token that enters it ``(b, l)``, -1 where it is dropped. results: the names of these, in order.
    """

    program: torch.export.ExportedProgram
    results: tuple[str, ...]


class StepAt(nn.Module):
    """One block's step of a reduction as a module, so that tracing gives what it computes the block's name."""

    def __init__(self, reduction: Reduction) -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, tokens: Tokens, features: Any, step: Step) -> Tokens:
        """Reduce."""
        return self.reduction.step(tokens, features, step)


class NamedSteps(Around):
    """A reduction whose steps are modules."""

    def __init__(self, reduction: Reduction, depth: int) -> None:
        super().__init__(reduction)
        self.modules = nn.ModuleDict({f"block{block:02d}": StepAt(reduction) for block in range(depth)})

    def step(self, tokens: Tokens, features: Any, step: Step) -> Tokens:
        """The reduction's, called as a module."""
        reduced: Tokens = self.modules[f"block{step.block:02d}"](tokens, features, step)
        return reduced


class SameGradMode(TorchFunctionMode):
    """Leave out what sets gradients to what they are already: `torch.export` cuts the program at each of these calls.

    Methods match under ``torch.no_grad``, as does the whole trace. The cuts take more time than everything else.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call any other function."""
        if func is torch._C._set_grad_enabled and args == (torch.is_grad_enabled(),):
            return None
        return func(*args, **(kwargs or {}))


class WithPlans(nn.Module):
    """A model that gives its plans beside its logits."""

    def __init__(self, model: ReducibleModel) -> None:
        super().__init__()
        self.model = model
        self.reduce = nn.ModuleDict()
        if model.reduction is not None:
            named = NamedSteps(model.reduction, model.config.depth)
            model.reduction = named  # type: ignore[assignment]  # it has all that a model asks of a reduction
            self.reduce = named.modules

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits, source map, and the place of each token after each reduction."""
        with SameGradMode():
            for tokens in self.model.iter_blocks(images):
                last = tokens
            logits = self.model.classify(self.model.final_norm(last))
            return logits, last.group(), *(plan.assignment() for plan in last.plans)


def result_names(schedule: Schedule) -> tuple[str, ...]:
    """Names of what a traced model gives."""
    return LOGITS, SOURCE_MAP, *(place_name(block) for block, count in enumerate(schedule.counts) if count)


def trace(model: ReducibleModel, batch: Batch = 1) -> Traced:
    """Trace a copy of the model in evaluation mode, on a processor and in float32. The model stays as it is."""
    own = thaw(copy.deepcopy(model)).eval().to(device="cpu", dtype=torch.float32).requires_grad_(False)
    images = torch.zeros(2 if batch is None else batch, *model.config.input_size)
    free = {0: torch.export.Dim("images", min=1, max=MOST_IMAGES)}
    shapes: Sequence[Any] | None = (free,) if batch is None else None
    with torch.no_grad():
        program = torch.export.export(WithPlans(own), (images,), dynamic_shapes=shapes, strict=False)
    return Traced(program, result_names(model.schedule))


def first_results(program: torch.export.ExportedProgram, count: int) -> torch.export.ExportedProgram:
    """The program that gives the first ``count`` results of another and computes nothing for the others."""
    module, calls = copy.deepcopy(program.graph_module), copy.deepcopy(program.module_call_graph)
    output = module.graph.output_node()
    output.args = (output.args[0][:count],)
    module.graph.eliminate_dead_code()
    module.recompile()
    own, signature = calls[0].signature, program.graph_signature
    assert own is not None, "the first entry is the program itself, which has a signature"
    own.outputs, own.out_spec = own.outputs[:count], tree_structure((0,) * count)
    return torch.export.ExportedProgram(
        root=module,
        graph=module.graph,
        graph_signature=torch.export.ExportGraphSignature([*signature.input_specs], [*signature.output_specs][:count]),
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=calls,
        example_inputs=program.example_inputs,
        constants=program.constants,
    )
