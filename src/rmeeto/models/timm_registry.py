"""Our models under timm's roof: ``timm.create_model("vim_small")``, with everything that timm passes to its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmeeto.errors import ConfigError, UnknownName
from rmeeto.models.vim import zoo
from rmeeto.models.vim.timm_description import described

if TYPE_CHECKING:
    import torch
    from timm.models import PretrainedCfg
    from torch import nn

LAST_BLOCKS = 3  # maps that features_only gives by default, as timm's ViTs do
PREPARATION = ("mean", "std", "crop_pct", "interpolation", "num_classes")  # what a ModelConfig calls by the same names
TAKE_THE_NUMBER_ASKED_FOR = -1  # num_classes in the overlay of timm's train.py --pretrained-path


def default_cfg(entry: zoo.ZooEntry) -> dict[str, Any]:
    """timm's ``default_cfgs`` entry of a zoo model: sizes, preparation of images, and where its weights are."""
    source: dict[str, Any] = {}
    if entry.packaged_path is not None:
        source["file"] = str(entry.packaged_path)
    elif entry.hub is not None:
        owner, repository, file = entry.hub.split("/", 2)
        source = {"hf_hub_id": f"{owner}/{repository}", "hf_hub_filename": file}
    return {**described(entry.config), **source}


# timm's register_model looks here for a model's description
default_cfgs = {name: default_cfg(entry) for name, entry in zoo.ZOO.items()}


def register_with_timm() -> None:
    """Make every zoo name a timm entry point."""
    from timm.models import register_model

    for name in zoo.ZOO:
        register_model(_entry_point(name))


def _entry_point(name: str) -> Callable[..., nn.Module]:
    """A function as timm wants it: named after the model, taking timm's keywords.

    ``features_only=True`` gives :class:`FeatureMaps` after the blocks in ``out_indices``. What a ``pretrained_cfg`` or
    an overlay changes against the registered description changes the model: sizes, preparation of images, weights.
    """

    def build(
        pretrained: bool = False,
        pretrained_cfg: dict[str, Any] | str | None = None,
        pretrained_cfg_overlay: dict[str, Any] | None = None,
        pretrained_model_args: object = None,
        cache_dir: str | Path | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        features_only: bool = False,
        out_indices: int | tuple[int, ...] = LAST_BLOCKS,
        feature_cls: str = "getter",
        norm: bool = False,
        output_fmt: str = "NCHW",
        **options: Any,
    ) -> nn.Module:
        # timm may be loading on their behalf just now
        import torch
        from timm.models import get_pretrained_cfg, resolve_pretrained_cfg

        from rmeeto.models.factory import create_model
        from rmeeto.models.vim.feature_maps import FeatureMaps

        if feature_cls != "getter":
            raise UnknownName("feature extractor for a Vision Mamba", str(feature_cls), ("getter",))
        cfg = resolve_pretrained_cfg(build.__name__, pretrained_cfg, pretrained_cfg_overlay)
        registered = get_pretrained_cfg(build.__name__)
        assert registered is not None, "register_model has read default_cfgs"
        changed = changes(cfg, registered)
        if pretrained and options.get("weights") is None:
            options["weights"] = weights_of(cfg, changed, name, cache_dir)
        with nullcontext() if device is None else torch.device(device):
            model: Any = create_model(name, **{**options_of(changed), **options}).to(dtype)
        model.published_cfg = cfg.to_dict()  # type: ignore[no-untyped-call]
        network: nn.Module = model
        if features_only:
            network = FeatureMaps(model, out_indices, norm=norm, output_fmt=output_fmt)
        return network

    build.__name__ = name
    build.__module__ = __name__
    return build


def changes(cfg: PretrainedCfg, registered: PretrainedCfg) -> dict[str, Any]:
    """The fields of a description that differ from the registered one."""
    return {
        field.name: value
        for field in fields(cfg)
        if as_tuple(value := getattr(cfg, field.name)) != as_tuple(getattr(registered, field.name))
    }


def as_tuple(value: object) -> object:
    """Lists as tuples: a description read from JSON has no tuples."""
    return tuple(value) if isinstance(value, list) else value


def options_of(changed: dict[str, Any]) -> dict[str, Any]:
    """The options of ``rmeeto.create_model`` that changed fields of a description stand for."""
    options = {name: as_tuple(changed[name]) for name in PREPARATION if name in changed}
    if options.get("num_classes") == TAKE_THE_NUMBER_ASKED_FOR:
        del options["num_classes"]
    if "input_size" in changed:
        channels, *frames, height, width = changed["input_size"]
        options |= {"in_chans": channels, "img_size": (height, width)}
        options |= {"frames": frames[0]} if frames else {}
    return options


def weights_of(cfg: PretrainedCfg, changed: dict[str, Any], name: str, cache_dir: str | Path | None) -> str | Path:
    """Where the published weights are, or those that a changed description names.

    Raises:
        ConfigError: weights in memory or behind an ordinary address, or no weights.
    """
    from rmeeto.models import checkpoint

    for unsupported in ("state_dict", "url"):
        if changed.get(unsupported):
            raise ConfigError(
                f"build a pretrained {name}",
                given=f"a pretrained_cfg with {unsupported}",
                why="its weights come from a file or from the Hugging Face hub",
                fix="use file=PATH, or hf_hub_id=OWNER/NAME with hf_hub_filename=FILE",
            )
    if cfg.file and ("file" in changed or "hf_hub_id" not in changed):
        return cfg.file
    if cfg.hf_hub_id:
        file = f"/{cfg.hf_hub_filename}" if cfg.hf_hub_filename else ""
        return checkpoint.resolve(f"hf-hub:{cfg.hf_hub_id}{file}", cache_dir)
    raise ConfigError(
        f"build a pretrained {name}",
        why="there are no published weights for it",
        fix="pass pretrained_cfg_overlay={'file': PATH}, or leave pretrained out",
    )
