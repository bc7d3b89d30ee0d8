"""Models so small that exporting and checking one takes seconds: of every family, with any reduction."""

import subprocess
import sys

import torch

from rmeeto import create_model

SIZES = {"img_size": 32, "patch_size": 4, "stride": 4, "dim": 16, "depth": 3, "state": 4, "num_classes": 5}

BLOCKED = """
import sys
sys.path.insert(0, ".")
sys.modules |= dict.fromkeys(("torch", "rmeeto", "timm", "torchvision", "safetensors"))
sys.argv = ["run.py", *sys.argv[2:]]
import runpy
runpy.run_path("run.py", run_name="__main__")
"""


def vim(reduction=None, **options):
    return seeded("vim_tiny", reduction, {**SIZES, **options})


def with_registers(reduction=None):
    return vim(reduction, registers=2, global_pool="avg")


def video(reduction=None, **options):
    return seeded("videomamba_tiny", reduction, {**SIZES, "frames": 4, "tubelet": 1, "img_size": 16, **options})


def transformer(reduction=None, **options):
    sizes = {"img_size": 32, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5}
    return seeded("deit_tiny_patch16_224", reduction, {**sizes, **options})


def seeded(name, reduction, options):
    """A model whose logits and step sizes are as large as those of trained ones: fresh ones hardly scan."""
    torch.manual_seed(0)
    model = create_model(name, reduction=reduction, **options)
    if model.num_classes:
        torch.nn.init.normal_(model.head.weight)
    for name, parameter in model.named_parameters():
        if ".dt_proj" in name and name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


def images_of(model, batch=2):
    return torch.randn(batch, *model.config.input_size, generator=torch.Generator().manual_seed(1))


def run_alone(folder, *arguments):
    """What a folder's ``run.py`` prints where neither rmeeto nor torch is installed."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", BLOCKED, "--", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
