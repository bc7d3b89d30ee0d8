"""The named models: sizes, the official long names, and where the official weights are."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmeeto.config import ModelConfig
from rmeeto.errors import UnknownName

if TYPE_CHECKING:
    from torch import Tensor

TEMPORAL, REGISTERS = "temporal_pos_embedding", "reg_token"  # parameters that only some of the models have


@dataclass(frozen=True)
class ZooEntry:
    """One named model.

    hub: ``owner/repository/file`` on the Hugging Face hub; packaged: a file that ships with rmeeto.
    alias: the official name, of VideoMamba that of the weights. top1_percent: published accuracy on ImageNet-1K, of
    video models on Kinetics-400 over 4 × 3 views (digits: on our test split).
    """

    config: ModelConfig
    hub: str | None = None
    packaged: str | None = None
    alias: str | None = None
    top1_percent: float | None = None

    @property
    def packaged_path(self) -> Path | None:
        """The shipped weight file, or None."""
        return None if self.packaged is None else Path(str(files("rmeeto") / "weights" / self.packaged))


def _vim(size: str, dim: int, weights: str, top1_percent: float, token: str = "midclstok", **changes: Any) -> ZooEntry:
    config = ModelConfig(dim=dim, **changes)
    step = "" if config.stride == config.patch_size else f"_stride{config.stride}"
    alias = f"vim_{size}_patch16{step}_224_bimambav2_final_pool_mean_abs_pos_embed_with_{token}_div2"
    return ZooEntry(config, f"hustvl/Vim-{size}-midclstok/{weights}.pth", None, alias, top1_percent)


def _videomamba(weights: str, dim: int, depth: int, top1_percent: float, **changes: Any) -> ZooEntry:
    config = ModelConfig(dim=dim, depth=depth, cls_place="first", halve=False, **changes)
    return ZooEntry(config, f"OpenGVLab/VideoMamba/{weights}.pth", None, weights, top1_percent)


KINETICS: dict[str, Any] = {"frames": 8, "num_classes": 400, "crop_pct": 1.0, "interpolation": "bilinear"}

ZOO: dict[str, ZooEntry] = {
    "vim_tiny": _vim("tiny", 192, "vim_t_midclstok_76p1acc", 76.1),
    "vim_small": _vim("small", 384, "vim_s_midclstok_80p5acc", 80.5),
    "vim_base": _vim("base", 768, "vim_b_midclstok_81p9acc", 81.9, token="middle_cls_token"),
    "vim_tiny_plus": _vim("tiny", 192, "vim_t_midclstok_ft_78p3acc", 78.3, stride=8),
    "vim_small_plus": _vim("small", 384, "vim_s_midclstok_ft_81p6acc", 81.6, stride=8),
    "videomamba_tiny": _videomamba("videomamba_t16_in1k_res224", 192, 24, 76.9),
    "videomamba_small": _videomamba("videomamba_s16_in1k_res224", 384, 24, 81.2),
    "videomamba_middle": _videomamba("videomamba_m16_in1k_res224", 576, 32, 82.8),
    "videomamba_base": _videomamba("videomamba_b16_in1k_res224", 768, 24, 82.7),
    "videomamba_tiny_video": _videomamba("videomamba_t16_k400_f8_res224", 192, 24, 76.9, **KINETICS),
    "videomamba_small_video": _videomamba("videomamba_s16_k400_f8_res224", 384, 24, 79.3, **KINETICS),
    "videomamba_middle_video": _videomamba("videomamba_m16_k400_f8_res224", 576, 32, 80.6, **KINETICS),
    "vim_digits": ZooEntry(
        ModelConfig(
            img_size=(16, 16),
            patch_size=2,
            stride=2,
            in_chans=1,
            num_classes=10,
            dim=48,
            depth=8,
            mean=(0.5,),
            std=(0.5,),
            crop_pct=1.0,
        ),
        packaged="vim_digits.safetensors",
        top1_percent=99.4,
    ),
}


def list_models(pattern: str = "*") -> list[str]:
    """Names of the models that :func:`rmeeto.create_model` builds, filtered by a shell pattern.

    >>> list_models("vim_small*")
    ['vim_small', 'vim_small_plus']
    """
    return sorted(name for name in ZOO if fnmatch(name, pattern))


def find(name: str) -> tuple[str, ZooEntry]:
    """The short name and entry for a short or official long name.

    Raises:
        UnknownName: no such model, with the nearest that exist.
    """
    for short, entry in ZOO.items():
        if name in (short, entry.alias):
            return short, entry
    raise UnknownName("model", name, ZOO)


def likely_models(state: dict[str, Tensor]) -> str:
    """Advice on weights that do not fit: the models that their names and shapes look like."""
    if any(".attn." in name for name in state):
        return "the file looks like a ViT or DeiT"
    token = state.get("cls_token")
    if token is not None and token.dim() and any(name.startswith("layers.") for name in state):
        likely = (token.shape[-1], TEMPORAL in state)
        names = [name for name, entry in ZOO.items() if (entry.config.dim, entry.config.is_video) == likely]
        if names:
            return f"the file looks like {' or '.join(names)}"
    return "give the model that the weights were trained for"
