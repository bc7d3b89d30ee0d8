"""Builds the C++ kernels during installation; everything else about the package is in pyproject.toml.

The kernels have a plain C interface and are loaded with ctypes, so a C++ compiler is all it takes: neither Python's
nor PyTorch's headers, and one library serves every version of both. Without a compiler the installation succeeds all
the same, says so, and the slow plain PyTorch implementation runs.
"""

import os
import platform
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

SOURCES = Path(__file__).parent / "src/rmeeto/ops/csrc"
LIBRARY = Path("rmeeto/ops/rmeeto_kernels.so")
fingerprint = runpy.run_path(str(SOURCES.parent / "impl/cpp/sources.py"))["fingerprint"]
SLOWDOWN = runpy.run_path(str(SOURCES.parent / "without_kernels.py"))["SLOWDOWN"]

COMPILE = shlex.split("-std=c++17 -O3 -fPIC -fvisibility=hidden -fno-math-errno -fno-trapping-math")
LINK = ["-shared", "-pthread"]
# Of the library for other languages, what Python uses too.
NATIVE = ("json", "tensor_file", "description", "packed_model", "prepare", "refusal", "model", "file")

# The same source once for each of these that the compiler knows; the library chooses at run time.
AVX512 = shlex.split("-mavx2 -mfma -mavx512f -mavx512bw -mavx512dq -mavx512vl")
INSTRUCTION_SETS = {"portable": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    INSTRUCTION_SETS |= {"avx2": ["-mavx2", "-mfma"], "avx512": AVX512, "avx512_bf16": [*AVX512, "-mavx512bf16"]}

NOTICE = """
rmeeto: THE C++ KERNELS WERE NOT BUILT
  {reason}
  Everything works without them, but scans run {slowdown} on the processor.
  To get them: install a C++ compiler (g++ or clang++) and run the same pip command again.
"""


class BuildFailed(Exception):
    """The compiler is missing or refused the sources."""


def find_compiler():
    if "CXX" in os.environ:
        return shlex.split(os.environ["CXX"])
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    raise BuildFailed("no C++ compiler found (looked at $CXX, c++, g++, clang++)")


def run(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise BuildFailed(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        output = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise BuildFailed(f"`{shlex.join(command)}` failed ({done.returncode})\n  {output}".rstrip())


def knows(compiler, flags):
    """Whether a compiler takes these flags: older ones lack the newest instructions."""
    return subprocess.run([*compiler, *flags, "-x", "c++", "-E", os.devnull], capture_output=True).returncode == 0


def build_library(target):
    """Compile and link the kernels into the file ``target``, which is replaced only when all went well."""
    compiler = find_compiler()
    with tempfile.TemporaryDirectory() as folder:
        known = {name: flags for name, flags in INSTRUCTION_SETS.items() if knows(compiler, flags)}
        has = [f"-DRMEETO_HAS_{name.upper()}" for name in known]
        jobs = {name: ["kernels.cpp", f"-DRMEETO_ISA={name}", *flags] for name, flags in known.items()} | {
            "library": ["library.cpp", f'-DRMEETO_SOURCES="{fingerprint(SOURCES)}"', *has],
            **{name: [f"{name}.cpp"] for name in ("parallel", "helpers", "memory")},
            **{name: [f"native/{name}.cpp", f"-I{SOURCES}"] for name in NATIVE},
        }

        def compile_one(name):
            source, *flags = jobs[name]
            run([*compiler, *COMPILE, *flags, "-c", str(SOURCES / source), "-o", f"{folder}/{name}.o"])

        with ThreadPoolExecutor() as pool:
            list(pool.map(compile_one, jobs))
        linked = Path(folder, "linked.so")
        run([*compiler, *LINK, *(f"{folder}/{name}.o" for name in jobs), "-o", str(linked)])
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(linked, target)


class BuildKernels(Command):
    """``setup.py build_kernels``: into the build folder; ``--inplace``, or in an editable installation, into src."""

    user_options: ClassVar = [("inplace", "i", "build into src, where a source tree and an editable installation look")]
    boolean_options: ClassVar = ["inplace"]

    def initialize_options(self):
        self.build_lib = None
        self.inplace = False
        self.editable_mode = False

    def finalize_options(self):
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self):
        target = self.target()
        try:
            build_library(target)
        except BuildFailed as failure:
            target.unlink(missing_ok=True)  # an older library would answer for sources it was not made from
            say(NOTICE.format(reason=failure, slowdown=SLOWDOWN))

    def target(self):
        in_place = self.editable_mode or self.inplace
        root = self.get_finalized_command("build_py").get_package_dir("") if in_place else self.build_lib
        return Path(root) / LIBRARY

    def get_outputs(self):
        return [str(self.target())] if self.target().exists() else []

    def get_output_mapping(self):
        return {}

    def get_source_files(self):
        return [str(path.relative_to(Path(__file__).parent)) for path in sorted(SOURCES.rglob("*")) if path.is_file()]


def say(text):
    """Print on the terminal itself as well: pip keeps a build's output to itself unless the build fails."""
    print(text, file=sys.stderr)
    with suppress(OSError), open("/dev/tty", "w") as terminal:  # or nobody is watching
        terminal.write(text)


class PlatformWheel(bdist_wheel):
    """Tags the wheel py3-none-<platform> when it holds a library, py3-none-any when it does not."""

    def run(self):
        self.run_command("build")
        if self.get_finalized_command("build_kernels").get_outputs():
            self.root_is_pure = False
            self.distribution.has_ext_modules = lambda: True  # or setuptools files everything as pure Python
        super().run()

    def get_tag(self):
        python, abi, system = super().get_tag()
        return (python, abi, system) if self.root_is_pure else ("py3", "none", system)


build.sub_commands.append(("build_kernels", None))
setup(cmdclass={"build_kernels": BuildKernels, "bdist_wheel": PlatformWheel})
