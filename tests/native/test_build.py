"""The library as other languages get it: built by one compiler line or by CMake, and used from C."""

import os
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

from cpp_kernels import needs_kernels
from rmeeto import freeze, native
from rmeeto.data.image_file import read_image_file
from rmeeto.data.transforms import Preparation, evaluation_transform
from rmeeto.ops.impl import cpp
from rmeeto.ops.impl.cpp.loading import SOURCES
from rmeeto.reduction import parse_reduction
from small_models import images_of, model_of

FOLDER = SOURCES / "native"
FUNCTIONS = {"open", "open_memory", "describe", "close", "run", "prepare", "version"}
COMPILER = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
C_COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
pytestmark = [
    needs_kernels,
    pytest.mark.skipif(not COMPILER or not C_COMPILER, reason="no compiler for C and C++"),
    pytest.mark.skipif(not FOLDER.is_dir(), reason="no sources beside the library"),
]


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, check=False, **options)
    assert not done.returncode, done.stderr[-2000:]
    return done.stdout


def has_library(header, name):
    """Whether the compiler finds a library for pictures."""
    code = f"#include <cstdio>\n#include <{header}>\nint main() {{}}"
    command = [COMPILER, "-x", "c++", "-", "-x", "none", f"-l{name}", "-o", os.devnull]
    return not subprocess.run(command, input=code, text=True, capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Python's library under the name that programs link with."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copy(cpp.library_path(), folder / "librmeeto.so")
    return folder


def link_options(folder):
    return [f"-I{FOLDER}", f"-L{folder}", "-lrmeeto", f"-Wl,-rpath,{folder}"]


@pytest.fixture(scope="module")
def program(folder):
    """rmeeto-run, and which pictures it reads."""
    kinds, sources, options = ["ppm"], ["run", "picture"], []
    for kind, header, name in (("jpeg", "jpeglib.h", "jpeg"), ("png", "png.h", "png")):
        if has_library(header, name):
            kinds.append(kind)
            sources.append(kind)
            options += [f"-DRMEETO_HAS_{kind.upper()}", f"-l{name}"]
    files = [FOLDER / f"{source}.cpp" for source in sources]
    run(COMPILER, "-std=c++17", "-O1", *files, *link_options(folder), *options, "-o", folder / "rmeeto-run")
    return folder / "rmeeto-run", kinds


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return freeze(model_of(reduction=parse_reduction("merge:r=5")))


@pytest.fixture(scope="module")
def path(model, folder):
    return native.save(model, folder / "tiny.rmeeto", name="tiny", class_names=list("abcdefg"))


@pytest.fixture(scope="module")
def picture():
    draws = np.random.default_rng(0)
    coarse = Image.fromarray(draws.integers(0, 256, (7, 9, 3), np.uint8))
    return coarse.resize((120, 75), Image.Resampling.BICUBIC)


@torch.inference_mode()
def expected(model, file):
    """What Python makes of a picture's file: logits and source map."""
    transform = evaluation_transform(Preparation.of(model), glyphs=False)
    image = transform(read_image_file(file))[None]
    return model(image)[0].numpy(), model.forward_blocks(image).group()[0].tolist()


def saved_as(picture, kind, folder):
    """A file of every form that a kind of picture has."""
    grey, colour = picture.convert("L"), picture
    forms = {
        "ppm": [("colour.ppm", colour, {}), ("grey.pgm", grey, {})],
        "jpeg": [
            ("colour.jpg", colour, {"quality": 90}),
            ("grey.jpg", grey, {}),
            ("steps.jpg", colour, {"progressive": True}),
        ],
        "png": [
            ("colour.png", colour, {}),
            ("grey.png", grey, {}),
            ("palette.png", colour.quantize(64), {}),
            ("bits.png", grey.convert("1"), {}),
            ("alpha.png", Image.merge("RGBA", (*colour.split(), grey)), {}),
            ("deep.png", Image.fromarray(np.asarray(grey).astype(np.uint16) * 251), {}),
        ],
    }
    for name, image, options in forms[kind]:
        image.save(folder / name, **options)
        yield folder / name


@pytest.mark.parametrize("kind", ["ppm", "jpeg", "png"])
def test_the_program_prints_the_logits_of_python(kind, program, path, model, picture, tmp_path):
    command, kinds = program
    if kind not in kinds:
        pytest.skip(f"no lib{kind} to build with")
    for file in saved_as(picture, kind, tmp_path):
        lines = run(command, path, file, "--logits", "--map").splitlines()
        logits, source_map = expected(model, file)
        assert np.array_equal(np.array(lines[0].split(), np.float32), logits), file.name
        assert [*map(int, lines[1].split())] == source_map, file.name


def test_the_program_names_classes(program, path, model, picture, tmp_path):
    picture.save(tmp_path / "a.ppm")
    shown = run(program[0], path, tmp_path / "a.ppm", "--top", "2").splitlines()
    logits, _ = expected(model, tmp_path / "a.ppm")
    best = np.argsort(-logits)[:2]
    assert shown[0] == str(tmp_path / "a.ppm")
    assert [line.split()[-1] for line in shown[1:]] == ["abcdefg"[label] for label in best]
    share = np.exp(logits - logits.max())[best[0]] / np.exp(logits - logits.max()).sum()
    assert shown[1].split()[0] == f"{100 * share:.1f}"
    assert "tokens    65 to 60" in run(program[0], path, "--info")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["tiny.rmeeto", "none.ppm"], "none.ppm: the file cannot be read: No such file"),
        (["tiny.rmeeto", "."], ".: the file cannot be read: Is a directory"),
        ([".", "a.ppm"], ".: the file cannot be read: Is a directory"),
        (["none.rmeeto", "a.ppm"], "none.rmeeto: the file cannot be read: No such file"),
        (["tiny.rmeeto", "empty"], "empty: the file is empty"),
        (["tiny.rmeeto", "tiny.rmeeto"], "neither PPM, PGM, JPEG nor PNG"),
        (["tiny.rmeeto", "short.ppm"], "a truncated PPM"),
        (["tiny.rmeeto"], "no image is given\nusage:"),
        (["tiny.rmeeto", "a.ppm", "--top", "none"], "--top takes a whole number from 1 to 100000\nusage:"),
        (["tiny.rmeeto", "a.ppm", "--all"], "--all is no option\nusage:"),
    ],
)
def test_the_program_says_what_is_wrong(arguments, why, program, path, tmp_path):
    shutil.copy(path, tmp_path)
    (tmp_path / "empty").touch()
    (tmp_path / "short.ppm").write_bytes(b"P6 4 4 255\n" + b"x" * 47)
    done = subprocess.run([program[0], *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert why in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full disk to write to")
@pytest.mark.parametrize("options", [[], ["--logits"], ["--map"], ["--info"]])
def test_a_full_disk_is_an_error(options, program, path, picture, tmp_path):
    picture.save(tmp_path / "a.ppm")
    with open("/dev/full", "w") as full:
        command = [program[0], path, tmp_path / "a.ppm", *options]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "rmeeto-run: the output cannot be written: No space left on device\n")


def test_damaged_pictures_end_in_an_error_or_an_answer(program, path, picture, tmp_path):
    draws = np.random.default_rng(0)
    for kind in program[1]:
        for file in [*saved_as(picture, kind, tmp_path)][:3]:
            data = bytearray(file.read_bytes())
            for length in (3, len(data) // 2, len(data) - 1):
                file.write_bytes(data[:length])
                done = subprocess.run([program[0], path, file], capture_output=True, text=True, check=False)
                assert done.returncode == 1, (file.name, length)
                assert done.stderr.count("\n") == 1
            for place in draws.integers(0, len(data), 8):
                data[place] ^= 255
            file.write_bytes(data)
            assert subprocess.run([program[0], path, file], capture_output=True, check=False).returncode in (0, 1)


@pytest.mark.parametrize("source", ["example.c", "cycles.c"])
def test_programs_in_c_compile_without_a_warning_and_run(source, folder, path, model, picture, tmp_path):
    file = FOLDER / source if source == "example.c" else os.path.join(os.path.dirname(__file__), source)
    warnings = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
    run(C_COMPILER, *warnings, file, *link_options(folder), "-o", tmp_path / "program")
    picture.save(tmp_path / "a.ppm")
    if source == "cycles.c":
        run(tmp_path / "program", path, 20)
        return
    logits, _ = expected(model, tmp_path / "a.ppm")
    name, value = re.fullmatch(r"(\w) \((.*)\)\n", run(tmp_path / "program", path, tmp_path / "a.ppm")).groups()
    assert (name, np.float32(value)) == ("abcdefg"[logits.argmax()], logits.max())


@pytest.mark.skipif(not shutil.which("valgrind"), reason="no valgrind (apt-get install valgrind)")
def test_valgrind_finds_neither_leaks_nor_faults(folder, path, tmp_path):
    run(
        C_COMPILER,
        os.path.join(os.path.dirname(__file__), "cycles.c"),
        *link_options(folder),
        "-o",
        tmp_path / "cycles",
    )
    strict = [
        "--quiet",
        "--error-exitcode=9",
        "--leak-check=full",
        "--show-leak-kinds=all",
        "--errors-for-leak-kinds=all",
    ]
    run("valgrind", *strict, tmp_path / "cycles", path, 5)


@pytest.mark.skipif(not shutil.which("cmake"), reason="no cmake (apt-get install cmake)")
def test_cmake_builds_and_installs_a_library_that_shows_its_interface_alone(path, model, tmp_path):
    build, prefix = tmp_path / "build", tmp_path / "installed"
    # not optimised and for every processor, which compiles in a tenth of the time
    options = ["-DCMAKE_BUILD_TYPE=Debug", "-DRMEETO_INSTRUCTION_SETS=portable", "-DRMEETO_EXAMPLE=ON"]
    run("cmake", "-S", FOLDER, "-B", build, f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DCMAKE_INSTALL_LIBDIR=lib", *options)
    run("cmake", "--build", build, "--parallel", "2")
    run("cmake", "--install", build)
    library = prefix / "lib/librmeeto.so"
    for name in ("include/rmeeto.h", "lib/librmeeto.a", "bin/rmeeto-run", "lib/cmake/rmeeto/rmeeto-config.cmake"):
        assert (prefix / name).is_file(), name
    shown = {line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines()}
    assert {name.removeprefix("rmeeto_") for name in shown if name.startswith("rmeeto_")} == FUNCTIONS
    if shutil.which("pkg-config"):
        flags = run(
            "pkg-config",
            "--cflags",
            "--libs",
            "rmeeto",
            env=os.environ | {"PKG_CONFIG_PATH": f"{prefix}/lib/pkgconfig"},
        )
        program = tmp_path / "example"
        run(C_COMPILER, FOLDER / "example.c", *flags.split(), f"-Wl,-rpath,{prefix}/lib", "-o", program)
    images = images_of(model)
    with native.load(path, library_path=library) as opened, torch.inference_mode():
        assert opened.kernels == "portable"
        np.testing.assert_allclose(opened(images.numpy()), model(images).numpy(), rtol=1e-3, atol=1e-4)
