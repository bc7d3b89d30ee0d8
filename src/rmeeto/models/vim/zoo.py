"""The named models: sizes, the official long names, and where the official weights are."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

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


def _vim(size: str, stride: int = 16, token: str = "midclstok") -> str:
    step = "" if stride == 16 else f"_stride{stride}"
    return f"vim_{size}_patch16{step}_224_bimambav2_final_pool_mean_abs_pos_embed_with_{token}_div2"


def _videomamba(letter: str, dim: int, depth: int, top1_percent: float) -> ZooEntry:
    config = ModelConfig(dim=dim, depth=depth, cls_place="first", halve=False)
    return _from_videomamba(f"videomamba_{letter}16_in1k_res224", config, top1_percent)


def _videomamba_video(letter: str, dim: int, depth: int, top1_percent: float) -> ZooEntry:
    config = ModelConfig(
        dim=dim,
        depth=depth,
        frames=8,
        num_classes=400,
        cls_place="first",
        halve=False,
        crop_pct=1.0,
        interpolation="bilinear",
    )
    return _from_videomamba(f"videomamba_{letter}16_k400_f8_res224", config, top1_percent)


def _from_videomamba(weights: str, config: ModelConfig, top1_percent: float) -> ZooEntry:
    return ZooEntry(config, f"OpenGVLab/VideoMamba/{weights}.pth", None, weights, top1_percent)


ZOO: dict[str, ZooEntry] = {
    "vim_tiny": ZooEntry(
        ModelConfig(dim=192), "hustvl/Vim-tiny-midclstok/vim_t_midclstok_76p1acc.pth", None, _vim("tiny"), 76.1
    ),
    "vim_small": ZooEntry(
        ModelConfig(dim=384),
        "hustvl/Vim-small-midclstok/vim_s_midclstok_80p5acc.pth",
        None,
        _vim("small"),
        80.5,
    ),
    "vim_base": ZooEntry(
        ModelConfig(dim=768),
        "hustvl/Vim-base-midclstok/vim_b_midclstok_81p9acc.pth",
        None,
        _vim("base", token="middle_cls_token"),
        81.9,
    ),
    "vim_tiny_plus": ZooEntry(
        ModelConfig(dim=192, stride=8),
        "hustvl/Vim-tiny-midclstok/vim_t_midclstok_ft_78p3acc.pth",
        None,
        _vim("tiny", stride=8),
        78.3,
    ),
    "vim_small_plus": ZooEntry(
        ModelConfig(dim=384, stride=8),
        "hustvl/Vim-small-midclstok/vim_s_midclstok_ft_81p6acc.pth",
        None,
        _vim("small", stride=8),
        81.6,
    ),
    "videomamba_tiny": _videomamba("t", 192, 24, 76.9),
    "videomamba_small": _videomamba("s", 384, 24, 81.2),
    "videomamba_middle": _videomamba("m", 576, 32, 82.8),
    "videomamba_base": _videomamba("b", 768, 24, 82.7),
    "videomamba_tiny_video": _videomamba_video("t", 192, 24, 76.9),
    "videomamba_small_video": _videomamba_video("s", 384, 24, 79.3),
    "videomamba_middle_video": _videomamba_video("m", 576, 32, 80.6),
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
