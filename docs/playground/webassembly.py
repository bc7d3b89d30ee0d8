"""The C library as WebAssembly, compiled by Debian's clang: no threads, no files, no exceptions."""

import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[1] / "src/rmeeto/ops/csrc"
KERNELS = ("kernels.cpp", "library.cpp", "memory.cpp")
CORE = ("sequential", "json", "tensor_file", "description", "packed_model", "prepare", "refusal", "model")
FILES = (
    *(SOURCES / name for name in KERNELS),
    *(SOURCES / f"native/{name}.cpp" for name in CORE),
    HERE / "library.cpp",
)

TARGET = ("--target=wasm32-wasi",)
COMPILE = (
    *("-std=c++17", "-O3", "-msimd128", "-fno-math-errno", "-fno-trapping-math", "-fno-exceptions", "-fno-rtti"),
    *("-fvisibility=hidden", "-ffunction-sections", "-fdata-sections"),
    *("-DRMEETO_ISA=portable", "-DRMEETO_HIDES_KERNELS", f"-I{SOURCES}", f"-I{SOURCES / 'native'}"),
)
# A library for JavaScript to call, which has no main(). Its stack is that of a usual thread.
LINK = ("-mexec-model=reactor", "-fno-exceptions")
LINKER = ("--export=malloc", "--export=free", "--gc-sections", "--strip-all", "-z", "stack-size=1048576")


class CannotBuild(Exception):
    """A tool is missing, or refuses; the text says which, and the way out."""


def missing_packages() -> list[str]:
    """The Debian packages that have to be installed before the library can be compiled; none if all are there."""
    compiler = shutil.which("clang++")
    missing = [] if compiler else ["clang"]
    if not shutil.which("wasm-ld"):
        missing.append("lld")
    version = "14"
    if compiler:
        found = re.search(r"version (\d+)", _output(compiler, "--version"))
        version = found[1] if found else version
    for package, asked in (
        ("wasi-libc", ("-print-file-name=crt1-reactor.o",)),
        (f"libc++-{version}-dev-wasm32", ("-print-file-name=libc++.a",)),
        (f"libc++abi-{version}-dev-wasm32", ("-print-file-name=libc++abi.a",)),
        (f"libclang-rt-{version}-dev-wasm32", ("-print-libgcc-file-name", "-rtlib=compiler-rt")),
    ):
        if not compiler or not Path(_output(compiler, *TARGET, *asked).strip()).is_file():
            missing.append(package)
    return missing


def compile_library() -> bytes:
    """The compiled library.

    Raises:
        CannotBuild: a package is missing, or the compiler refuses the sources.
    """
    missing = missing_packages()
    if missing:
        raise CannotBuild(f"WebAssembly cannot be compiled here: apt-get install {' '.join(missing)}")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as processes:
        objects = [f"{folder}/{number}.o" for number in range(len(FILES))]

        def compile_file(source: Path, to: str) -> None:
            _run("clang++", *TARGET, *COMPILE, "-c", str(source), "-o", to)

        list(processes.map(compile_file, FILES, objects))
        linked = f"{folder}/library.wasm"
        _run("clang++", *TARGET, *LINK, *objects, f"-Wl,{','.join(LINKER)}", "-o", linked)
        return Path(linked).read_bytes()


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotBuild(f"{' '.join(command)}\n{done.stderr}")
