"""The README's tree as a test: imports point down, foreign packages stay in their rooms, `import rmeeto` is light."""

import os
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

# Highest first; a module may import from its own layer's package and from lower layers.
LAYERS = [
    {"cli", "timm"},
    {"demo"},
    {"report"},
    {"training", "tuning"},
    {"recipe"},
    {"evaluation"},
    {"speed", "viz"},
    {"data"},
    {"models"},
    {"cost"},
    {"config", "reduction"},
    {"runtime"},
    {"ops"},
    {"files"},
    {"checks", "import_hooks"},
    {"errors"},
]
# `import rmeeto` hands out names from everywhere, lazily.
OUTSIDE = {"rmeeto", "rmeeto.__main__"}

ROOMS = {
    "triton": {"rmeeto.ops.impl.triton"},
    "timm": {
        "rmeeto.models.backbone",
        "rmeeto.models.block",
        "rmeeto.models.dense",
        "rmeeto.models.snapshot",
        "rmeeto.models.timm_registry",
        "rmeeto.models.vit",
        "rmeeto.data",
        "rmeeto.evaluation.prediction",
        "rmeeto.training",
    },
    "accelerate": {"rmeeto.training", "rmeeto.evaluation"},
    "typer": {"rmeeto.cli"},
    "rich": {"rmeeto.cli"},
    "matplotlib": {"rmeeto.viz", "rmeeto.report"},
    "jinja2": {"rmeeto.report"},
    "sklearn": {"rmeeto.data"},
    "av": {"rmeeto.data.video"},
    "safetensors": {"rmeeto.models.checkpoint", "rmeeto.models.weight_file", "rmeeto.evaluation.prediction"},
    "huggingface_hub": {"rmeeto.models.checkpoint"},
}


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("rmeeto", include_external_packages=True, exclude_type_checking_imports=True)


def part(module: str) -> str:
    return module.split(".")[1]


def test_every_module_has_its_layer(graph):
    ours = {m for m in graph.modules if m.startswith("rmeeto.")} - OUTSIDE
    assert {part(m) for m in ours} == set().union(*LAYERS)


def test_imports_point_down(graph):
    depth = {name: level for level, names in enumerate(LAYERS) for name in names}
    upward = [
        f"{importer} imports {imported}"
        for importer in graph.modules - OUTSIDE
        if importer.startswith("rmeeto.")
        for imported in graph.find_modules_directly_imported_by(importer) - OUTSIDE
        if imported.startswith("rmeeto.")
        and part(imported) != part(importer)
        and depth[part(imported)] < depth[part(importer)]
    ]
    assert upward == []


@pytest.mark.parametrize("package", ROOMS)
def test_foreign_packages_stay_in_their_rooms(graph, package):
    assert package in graph.modules, f"nothing imports {package}: strike it from the rooms and the dependencies"
    strangers = [
        importer
        for importer in graph.find_modules_that_directly_import(package)
        if not any(importer == room or importer.startswith(room + ".") for room in ROOMS[package])
    ]
    assert strangers == []


def test_implementations_do_not_know_each_other(graph):
    parts = {m: m.split(".")[3] for m in graph.modules if m.startswith("rmeeto.ops.impl.")}
    assert set(parts.values()) == {"reference", "cpp", "triton"}
    for importer, implementation in parts.items():
        imported = graph.find_modules_directly_imported_by(importer)
        assert {parts[m] for m in imported if m in parts} <= {implementation}


def test_only_the_mixer_calls_the_scan_and_only_the_backbone_reduces(graph):
    in_models = {m for m in graph.modules if m.startswith("rmeeto.models.")}
    callers = {m for m in in_models if "rmeeto.ops" in graph.find_modules_directly_imported_by(m)}
    assert callers == {"rmeeto.models.mixers"}
    released = graph.find_modules_that_directly_import("rmeeto.reduction.released")
    assert released == {"rmeeto.reduction"}


def test_import_is_light_and_touches_nothing():
    code = (
        "import sys, random; before = random.getstate(); import rmeeto\n"
        "heavy = {'torch', 'timm', 'numpy', 'typer', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert random.getstate() == before\n"
        "assert set(rmeeto.__all__) <= set(dir(rmeeto))\n"
        "for name in rmeeto.__all__: getattr(rmeeto, name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_foreign_mamba_ssm_is_never_touched(tmp_path):
    (tmp_path / "mamba_ssm.py").write_text("raise RuntimeError('touched')")
    (tmp_path / "causal_conv1d.py").write_text("raise RuntimeError('touched')")
    code = "import torch, rmeeto; rmeeto.create_model('vim_digits')(torch.zeros(1, 1, 16, 16))"
    source = Path(__file__).parents[1] / "src"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(source)])}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=environment)
