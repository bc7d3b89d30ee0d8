"""Fuzz the loader of model files: python benchmarks/fuzz_native.py --count 1000000.

Compiles the library and tests/native/fuzz.cpp with AddressSanitizer and UndefinedBehaviorSanitizer, writes small models
of different sizes, and opens and runs as many changed copies of their files as asked for. It ends with an error at the
first fault that a sanitizer finds.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from rmeeto import create_model, native
from rmeeto.reduction import parse_reduction

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src/rmeeto/ops/csrc"
HARNESS = ROOT / "tests/native/fuzz.cpp"
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
FLAGS = ["-std=c++17", "-O1", "-g1", "-fno-math-errno", "-fno-trapping-math", "-pthread", "-DRMEETO_HIDES_KERNELS"]
AVX512 = ["-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512bf16"]
ENVIRONMENT = {
    "ASAN_OPTIONS": "allocator_may_return_null=1:max_allocation_size_mb=4096:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}
# Sizes that no vector's width divides, images and clips, with and without merging.
MODELS = [
    ("vim_tiny", {"img_size": 12}, "merge:r=1,blocks=all", "float32"),
    ("vim_tiny", {"img_size": 16, "registers": 2, "dim": 5, "state": 3}, "merge:r=2,distance=l2", "float32"),
    ("vim_tiny", {"img_size": (8, 20), "dim": 17, "conv_width": 2, "expand": 1}, None, "bfloat16"),
    ("vim_tiny", {"img_size": 16, "in_chans": 1, "mean": (0.5,), "std": (0.5,)}, "merge:r=3,window=1", "bfloat16"),
    ("videomamba_tiny", {"img_size": 8, "frames": 4, "tubelet": 2}, "merge:r=1,nth=2,distance=l1", "float32"),
    ("vim_tiny", {"img_size": 16, "dim": 19}, "stm:r=2", "float32"),
    ("videomamba_tiny", {"img_size": 12, "frames": 2}, "stm:r=3,guard=0", "bfloat16"),
]
SIZES = {"img_size": 16, "patch_size": 4, "stride": 4, "dim": 8, "depth": 3, "state": 5, "num_classes": 3}


def build(folder: Path, *, wide: bool) -> Path:
    """The harness; wide: with the kernels for AVX-512 too, which take longer to compile."""
    sources = [*SOURCES.glob("native/*.cpp"), *SOURCES.glob("*.cpp"), HARNESS]
    left_out = {"run.cpp", "picture.cpp", "jpeg.cpp", "png.cpp", "sequential.cpp", "file.cpp"}
    jobs = [(source, []) for source in sources if source.name not in left_out | {"kernels.cpp", "library.cpp"}]
    jobs += [(SOURCES / "kernels.cpp", ["-DRMEETO_ISA=portable"]), (SOURCES / "library.cpp", [])]
    if wide:
        jobs[-1][1].append("-DRMEETO_HAS_AVX512_BF16")
        jobs[-1][1].append("-DRMEETO_HAS_AVX512")
        jobs.append((SOURCES / "kernels.cpp", ["-DRMEETO_ISA=avx512_bf16", *AVX512]))
        jobs.append((SOURCES / "kernels.cpp", ["-DRMEETO_ISA=avx512", *AVX512[:-1]]))

    def compile_one(number: int) -> Path:
        source, flags = jobs[number]
        target = folder / f"{number}.o"
        include = [f"-I{SOURCES}", f"-I{SOURCES / 'native'}"]
        subprocess.run(["g++", *FLAGS, *SANITIZERS, *flags, *include, "-c", source, "-o", target], check=True)
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = [*pool.map(compile_one, range(len(jobs)))]
    subprocess.run(["g++", *SANITIZERS, "-pthread", *objects, "-o", folder / "fuzz"], check=True)
    return folder / "fuzz"


def write_models(folder: Path) -> list[Path]:
    torch.manual_seed(0)
    paths = []
    for number, (name, options, line, precision) in enumerate(MODELS):
        model = create_model(name, weights=None, **{**SIZES, **options}).eval()
        model.reduction = line and parse_reduction(line)
        names = ["a", "naïve", 'c"\\'] if number % 2 else None
        paths.append(native.save(model, folder / f"{number}.rmeeto", precision=precision, class_names=names))
    return paths


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wide", action="store_true", help="with the kernels for AVX-512 too")
    parser.add_argument("--harness", type=Path, help="use this program, or put it there if it does not exist")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if given.harness is None or not given.harness.exists():
            built = build(folder, wide=given.wide)
            harness = built if given.harness is None else built.replace(given.harness)
        else:
            harness = given.harness
        began = time.monotonic()
        command = [harness, str(given.count), str(given.seed), *write_models(folder)]
        done = subprocess.run(command, env=os.environ | ENVIRONMENT, check=False)
        print(f"{time.monotonic() - began:.0f} s")
        return done.returncode


if __name__ == "__main__":
    sys.exit(main())
