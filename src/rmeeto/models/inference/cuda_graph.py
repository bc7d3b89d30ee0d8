"""A forward pass recorded once and repeated by the GPU alone (CUDA graphs).

A Vision Mamba launches hundreds of kernels that take microseconds each, so at small batches a GPU waits for Python. How
many tokens every block sees is settled by the schedule before any image is: the launches never change, and the GPU
can repeat them by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rmeeto.errors import ConfigError, UnsupportedInput
from rmeeto.models.inference.conditions import why_not_record

WARM_UP = 3


class CudaGraph:
    """A model's forward pass on inputs of one shape and dtype, in inference mode, as it is when this is made.

    Weights, reduction and autocast are those of now: change one, and record anew. It holds the memory of one pass.

    Raises:
        ConfigError: the images are not on a GPU, the model is training, or how many tokens its reduction removes
            depends on what the images show.

    >>> recorded = CudaGraph(rmeeto.freeze(model.cuda()), images)
    >>> logits = recorded(images)
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        for why, fix in why_not_record(model, images):
            raise ConfigError("record a model's forward pass as a CUDA graph", why=why, fix=fix)
        self._images = images.clone()
        here = torch.cuda.current_stream(images.device)
        # PyTorch wants first calls, which allocate and tune, off the main stream
        aside = torch.cuda.Stream(images.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        with torch.inference_mode(), _autocast():
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    model(self._images)
            here.wait_stream(aside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._logits: Tensor = model(self._images)

    def __call__(self, images: Tensor) -> Tensor:
        """The logits of images as those it was recorded with.

        Raises:
            UnsupportedInput: another shape, dtype or device.
        """
        ours = self._images
        if (images.shape, images.dtype, images.device) != (ours.shape, ours.dtype, ours.device):
            raise UnsupportedInput(
                "repeat a recorded forward pass",
                given=f"{tuple(images.shape)} {images.dtype} on {images.device}",
                why=f"it was recorded with {tuple(ours.shape)} {ours.dtype} on {ours.device}",
                fix="record another, or fill the batch up",
            )
        ours.copy_(images)
        self._graph.replay()
        return self._logits.clone()


def _autocast() -> torch.autocast:
    """Autocast as it is, without its store of converted weights: what that frees, the graph would still read."""
    dtype, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
    return torch.autocast("cuda", dtype, enabled=enabled, cache_enabled=False)
