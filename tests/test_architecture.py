"""The README's tree as a test: imports point down, foreign packages stay in their rooms, `import rmeeto` is light."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

SOURCE = Path(__file__).parents[1] / "src"

# What stands directly under a package, highest first. A module may import what stands lower; the members of a layer do
# not import each other.
ORDERS = {
    "rmeeto": [
        {"cli", "timm"},
        {"demo"},
        {"experiments"},
        {"report"},
        {"training", "tuning"},
        {"recipe"},
        {"exporting"},
        {"evaluation"},
        {"speed", "viz", "analysis", "native"},
        {"data"},
        {"models"},
        {"cost"},
        {"config"},
        {"reduction"},
        {"runtime"},
        {"ops"},
        {"files"},
        {"checks", "import_hooks"},
        {"errors"},
    ],
    "rmeeto.models": [
        {"timm_registry"},
        {"factory", "dyvm"},
        {"description"},
        {"family"},
        {"vit", "inference"},
        {"loading"},
        {"described", "vim"},
        {"checkpoint", "maps"},
        {"weight_file"},
        {"images", "layers", "pooling", "reducible", "seal"},
    ],
    "rmeeto.models.vim": [
        {"feature_maps"},
        {"backbone"},
        {"block", "timm_interface"},
        {"as_written", "fitting"},
        {"mixers", "timm_description", "zoo"},
    ],
    "rmeeto.models.layers": [{"freezing"}, {"linear", "norm", "patch_embed", "position"}],
    "rmeeto.models.inference": [
        {"freezing", "explanation"},
        {"network"},
        {"ends", "block", "cuda_graph"},
        {"conditions", "snapshot"},
    ],
    "rmeeto.exporting": [
        {"run"},
        {"gate", "readme", "onnx_format", "pt2_format", "native_format"},
        {"inputs", "runners", "parity", "truth", "lowering", "folder", "conditions"},
        {"choices", "trace", "standalone"},
        {"around", "plain_torch"},
    ],
    "rmeeto.exporting.lowering": [
        {"walk"},
        {"ours", "shapes"},
        {"plain", "layers"},
        {"match", "table"},
        {"scan", "rows"},
        {"graph"},
    ],
    "rmeeto.analysis": [
        {"information", "verdict"},
        {"signals", "gaussians", "better", "equal", "monotone", "ratio", "printed"},
        {"estimators", "causality", "finding", "words"},
        {"comparison"},
        {"contrast"},
        {"mean"},
        {"distributions"},
    ],
    "rmeeto.analysis.estimators": [
        {"estimate"},
        {"neural", "neighbours"},
        {"critic", "projections"},
        {"bounds", "samples"},
    ],
    "rmeeto.ops": [
        {"packed"},
        {"block", "merging", "watch"},
        {"bidirectional", "pairs"},
        {"scan", "conv", "norm", "nearest", "layout", "merge"},
        {"registration"},
        {"impl"},
        {"select", "rows", "memory", "autocast", "flop_formulas"},
        {"operands", "without_kernels"},
    ],
    "rmeeto.native": [{"saving"}, {"conditions"}, {"binding"}],
    # implementations do not know each other
    "rmeeto.ops.impl": [{"reference", "cpp", "triton"}],
}
# `import rmeeto` hands out names from everywhere, lazily. Others read only its version; commands may use its names.
OUTSIDE = {"rmeeto", "rmeeto.__main__"}

ROOMS = {
    "triton": {"rmeeto.ops.impl.triton"},
    "timm": {
        "rmeeto.models.inference.snapshot",
        "rmeeto.models.timm_registry",
        "rmeeto.models.vim",
        "rmeeto.models.vit",
        "rmeeto.data",
        "rmeeto.evaluation.prediction",
        "rmeeto.training",
    },
    "accelerate": {"rmeeto.training", "rmeeto.evaluation"},
    "typer": {"rmeeto.cli"},
    "rich": {"rmeeto.cli"},
    "matplotlib": {"rmeeto.viz", "rmeeto.report", "rmeeto.experiments.charts"},
    "jinja2": {"rmeeto.report"},
    "sklearn": {"rmeeto.data"},
    "av": {"rmeeto.data.video"},
    "safetensors": {
        "rmeeto.models.checkpoint",
        "rmeeto.models.weight_file",
        "rmeeto.evaluation.prediction",
        "rmeeto.native.saving",
    },
    "onnx": {"rmeeto.exporting.lowering"},
    "onnxruntime": {"rmeeto.speed.engines", "rmeeto.exporting.runners", "rmeeto.exporting.standalone"},
    "openvino": {"rmeeto.speed.engines", "rmeeto.exporting.runners", "rmeeto.exporting.standalone"},
    "huggingface_hub": {"rmeeto.models.checkpoint"},
}


@pytest.fixture(scope="module")
def graph():
    # without grimp's cache, which takes a file for unchanged while its time of modification is
    return grimp.build_graph("rmeeto", include_external_packages=True, cache_dir=None)


@pytest.fixture(scope="module")
def imports(graph):
    """Which of our modules imports which, at any time: under TYPE_CHECKING and inside functions too."""
    ours = {m for m in graph.modules if m.split(".")[0] == "rmeeto"} - OUTSIDE
    return {importer: graph.find_modules_directly_imported_by(importer) & ours for importer in ours}


def part(module, package):
    """The member of a package that a module belongs to; None outside of the package and for the package itself."""
    return module.removeprefix(package + ".").split(".")[0] if module.startswith(package + ".") else None


@pytest.mark.parametrize("package", ORDERS)
def test_every_module_has_its_layer(imports, package):
    layers = ORDERS[package]
    assert sum(map(len, layers)) == len(set().union(*layers)), "a name stands twice"
    assert {part(m, package) for m in imports} - {None} == set().union(*layers)


@pytest.mark.parametrize("package", ORDERS)
def test_imports_point_down(imports, package):
    depth = {name: level for level, names in enumerate(ORDERS[package]) for name in names}
    parts = {m: part(m, package) for m in imports}
    upward = {
        (importer, imported)
        for importer in imports
        for imported in imports[importer]
        if None not in (parts[importer], parts[imported]) and parts[importer] != parts[imported]
        if depth[parts[imported]] <= depth[parts[importer]]
    }
    assert upward == set()


def test_no_modules_import_each_other_in_a_circle(imports):
    assert circles(imports) == set()


def circles(imports):
    """Groups of modules each of which reaches all the others of its group by imports."""
    reached = {module: everything_behind(module, imports) for module in imports}
    return {frozenset(n for n in reached[m] if m in reached[n]) for m in imports if m in reached[m]}


def everything_behind(module, imports):
    seen, waiting = set(), [module]
    while waiting:
        new = imports[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"b"}, "e": {"a"}}) == {frozenset("abcd")}
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == set()


def test_only_commands_read_more_than_the_version_from_the_face_of_the_package(graph):
    lines = {
        details["line_contents"]
        for reader in graph.find_modules_that_directly_import("rmeeto") - OUTSIDE
        if part(reader, "rmeeto") != "cli"
        for details in graph.get_import_details(importer=reader, imported="rmeeto")
    }
    assert lines == {"from rmeeto import __version__"}


@pytest.mark.parametrize("package", ROOMS)
def test_foreign_packages_stay_in_their_rooms(graph, package):
    assert package in graph.modules, f"nothing imports {package}: strike it from the rooms and the dependencies"
    strangers = [
        importer
        for importer in graph.find_modules_that_directly_import(package)
        if not any(importer == room or importer.startswith(room + ".") for room in ROOMS[package])
    ]
    assert strangers == []


def test_only_the_mixer_calls_the_scan(imports):
    scans = {"rmeeto.ops", "rmeeto.ops.scan", "rmeeto.ops.bidirectional", "rmeeto.ops.conv"}
    callers = {m for m in imports if part(m, "rmeeto") == "models" and imports[m] & scans}
    assert callers == {"rmeeto.models.vim.mixers"}


def test_only_the_two_networks_reduce_tokens():
    callers = {
        str(path.relative_to(SOURCE / "rmeeto/models"))
        for path in (SOURCE / "rmeeto/models").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "step"
    }
    assert callers == {"vim/backbone.py", "vit/transformer.py"}


def test_only_reduction_knows_the_rules_of_the_released_program(graph):
    assert graph.find_modules_that_directly_import("rmeeto.reduction.released") == {"rmeeto.reduction"}


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
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(SOURCE)])}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=environment)
