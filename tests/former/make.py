"""Make the files of this folder with the former version of rmeeto, whose source is commit 93506ef.

    PYTHONPATH=OTHER_CHECKOUT/src:tests python tests/former/make.py

They were made once, and are what users of that version have on their disks: do not make them anew with a later one.
"""
# ruff: noqa: I001 - some of these modules no longer exist under these names

import lzma
import os
import pickle
import shutil
import signal
import tarfile
import tempfile
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from former.answers import answers
from rmeeto import create_model, freeze, parse_reduction, retrain, save_model, tune
from rmeeto.bench.report import BenchReport, Measurement, Spread
from rmeeto.config import DynamicConfig
from rmeeto.doctor import Machine
from rmeeto.models.dense import FeatureMaps
from rmeeto.models.dyvm import DynamicMamba
from rmeeto.recipe import Recipe
from rmeeto.reduction.plan import Plan
from rmeeto.reduction.schedule import Schedule, Stack, Step
from rmeeto.results import Score
from rmeeto.tokens import AttentionFeatures, Features
from rmeeto.training.interruption import Interrupted
from toys import Recorder, make_folder

HERE = Path(__file__).parent
SIZES = {"img_size": 16, "patch_size": 4, "stride": 4, "dim": 4, "depth": 2, "state": 2, "num_classes": 3}
TRANSFORMER = {"img_size": 16, "patch_size": 4, "embed_dim": 4, "depth": 2, "num_heads": 2, "num_classes": 3}
LINES = (
    "merge:r=2",
    "merge:r=2,stretch=0.5",
    "merge:r=2,frames=0",
    "prune:r=2",
    "evit:r=2,features=X,fused=True",
    "hsa:r=2,missing=last",
    "mtr:r=2",
    "utr:r=2",
    "stm:r=2,guard=1",
    "pitome:r=2",
    "tofu:r=2",
    "tome:r=2,features=X",
    "famba:r=2",
    "random-prune:r=2",
    "random-merge:r=2",
    "similar-merge:r=2,threshold=-1",
    "similar-prune:r=2,threshold=-1",
    "released:r=2",
)
RECIPE = Recipe(
    model="vim_tiny",
    model_options=SIZES,
    reduction="merge:r=2,blocks=all",
    data="toys",
    output="run",
    epochs=2,
    batch_size=4,
    accumulate=2,
    lr=3e-3,
    warmup_steps=2,
    ema_decay=0.9,
    anneal=0.5,
    auto_augment=None,
    color_jitter=0,
    random_erasing=0,
    drop_path_rate=0.3,
    impl="reference",
    device="cpu",
    precision="float32",
    workers=0,
    log_every_steps=1,
)
STOPPED_AFTER = 8  # of 12 steps: in the second epoch


def images(*shape):
    return torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(1))


def with_opinions(model):
    """Heads of a fresh network give nearly nothing; then all logits would agree."""
    nn.init.normal_(model.head.weight)
    return model.eval()


def mamba(name, reduction, **options):
    return with_opinions(create_model(name, reduction=reduction, **SIZES, **options))


def transformer(name, **options):
    return with_opinions(create_model(name, reduction="tome:r=2", **TRANSFORMER, **options))


def dynamic():
    model = DynamicMamba(mamba("vim_tiny", None), DynamicConfig(keep=0.7, directions=0.8, blocks=(1,)))
    for gates in model.gates:
        nn.init.normal_(gates.linear.weight)
        nn.init.zeros_(gates.linear.bias)
    return model.eval()


def networks():
    image, clip = images(16, 16), images(2, 16, 16)
    vim = mamba("vim_tiny", "merge:r=2,blocks=all")
    vim.class_names = ("blue", "green", "red")
    return {
        "vim": (vim, image),
        "videomamba": (mamba("videomamba_tiny", "prune:r=2,blocks=all"), image),
        "clips": (mamba("videomamba_tiny_video", "merge:r=3,frames=0,blocks=all", frames=2), clip),
        "vit": (transformer("vit_tiny_patch16_224"), image),
        "deit": (transformer("deit_tiny_distilled_patch16_224"), image),
        "dyvm": (dynamic(), image),
    }


def save_networks():
    found = {"images": images(16, 16), "clips": images(2, 16, 16)}
    for name, (model, given) in networks().items():
        save_model(model, HERE / "models" / name, name=name)
        with torch.inference_mode():
            found[f"models/{name}"] = model(given)
    pickled = {name: model for name, (model, _) in networks().items() if name in ("vim", "vit", "dyvm")}
    pickled["frozen_vim"] = freeze(networks()["vim"][0])
    pickled["frozen_vit"] = freeze(networks()["vit"][0])
    with torch.inference_mode():
        for name in ("frozen_vim", "frozen_vit"):
            pickled[name](found["images"])  # with whatever a frozen model keeps
    pickled["maps"] = FeatureMaps(mamba("vim_tiny", "merge:r=2,blocks=all"), (0, 1))
    for name, model in pickled.items():
        with lzma.open(HERE / "pickles" / f"{name}.pt.xz", "wb") as file:
            torch.save(model, file)
        with torch.inference_mode():
            given = model(found["images"])
        found |= {
            f"pickles/{name}/{place}": one
            for place, one in enumerate(map(Tensor.contiguous, given if name == "maps" else [given]))
        }
    save_file(found, HERE / "expected.safetensors", metadata={"timm": timm.__version__})


def traced(reduction):
    with torch.inference_mode():
        return create_model("vim_tiny", reduction=reduction, **SIZES | {"depth": 3}).eval().trace(images(16, 16))


def benchmark():
    spread, machine = Spread(1.0, 0.9, 1.1), Machine("Linux", "3.11", "a processor", 2, 1, "AVX2", ())
    speed = Measurement("none", 1, "float32", 17, 0.0, 0.1, 0.1, spread, spread, spread, 1.0, None, None)
    return BenchReport("vim_tiny", "cpu", "cpp", "eager", 5, "2.14.1", machine, (speed,))


def values():
    """What users and their tools pickle: tokens and plans of each kind, features, reductions, sizes, figures."""
    trace = traced("merge:r=2,blocks=all")
    whole, ragged = trace.final, traced("similar-merge:r=2,threshold=-1,blocks=all").final
    pair = tuple(torch.randn(2, 2, 17, 4, generator=torch.Generator().manual_seed(2)))
    found = {
        "tokens": whole,
        "dropped tokens": traced("prune:r=2,blocks=all").final,
        "ragged tokens": ragged,
        "aligned tokens": traced("hsa:r=2").final,
        "plan": Plan(*(getattr(whole.plans[-1], name) for name in ("kept", "source", "target"))),
        "ordered plan": whole.plans[-1],
        "ragged plan": ragged.plans[-1],
        "gaps": traced("hsa:r=2").final.timing,
        "stretch": traced("merge:r=2,stretch=0.5").final.timing,
        "features": Features(pair, pair, pair, pair, (pair[0][0, 0], pair[1][0, 0])),
        "attention features": AttentionFeatures(*torch.randn(3, 2, 2, 17, 4)),
        "step": Step(2, 1, 3),
        "schedule": Schedule((0, 2, 2), 17),
        "stack": Stack(3, 17),
        "sizes": create_model("vim_tiny", **SIZES).config,
        "sizes of a Transformer": transformer("vit_tiny_patch16_224").config,
        "sizes of a Dynamic Vision Mamba": DynamicConfig(keep=0.7, directions=0.8, blocks=(1,)),
        "recipe": RECIPE,
        "score": Score("reduced", 50.0, None, 1.0, 0.1, 0.2, 13.0, 0.1, 12),
        "trace": trace,
        "report of a benchmark": benchmark(),
    }
    return found | {f"reduction {line}": parse_reduction(line) for line in LINES}


def save_values():
    content = {name: (pickle.dumps(value, protocol=4), answers(value)) for name, value in values().items()}
    with lzma.open(HERE / "values.pt.xz", "wb") as file:
        torch.save(content, file)


def at(step, act):
    return Recorder(at_step=lambda now: act() if now == step else None)


def save_runs(folder):
    """One run from its beginning to its end, and the same one stopped in the middle."""
    os.chdir(folder)
    make_folder(Path("toys"), train=16, val=4)
    retrain(RECIPE)
    shutil.move("run", HERE / "finished")
    try:
        retrain(RECIPE, progress=at(STOPPED_AFTER, lambda: signal.raise_signal(signal.SIGINT)))
    except Interrupted:
        with tarfile.open(HERE / "interrupted.tar.xz", "w:xz") as archive:
            archive.add(
                "run", filter=lambda member: member.replace(uid=0, gid=0, uname="", gname="", mtime=0, deep=False)
            )
    result = tune(
        create_model(str(HERE / "finished")), "toys", "merge:r=2,blocks=all", images=8, evaluations=8, workers=0
    )
    result.save(HERE / "tuned.json")


if __name__ == "__main__":
    for name in ("models", "pickles", "finished"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    (HERE / "pickles").mkdir()
    torch.manual_seed(0)
    save_networks()
    torch.manual_seed(0)
    save_values()
    with tempfile.TemporaryDirectory() as folder:
        save_runs(folder)
