"""How many instructions the C++ kernels execute on small fixed inputs: a measure of speed that no noise touches.

    python tests/instruction_counts.py            store this compiler's figures anew, after an intended change
    python tests/instruction_counts.py LIBRARY    the same of a library that was built elsewhere

Counted by callgrind (`apt-get install valgrind`), which knows no AVX-512: the same sources compiled for AVX2 and for
any processor stand for it. Compilers differ by more than a regression would, so every one has figures of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from rmeeto.ops.impl import cpp

STORED = Path(__file__).parent / "ops/instruction_counts.json"
DRIVER = STORED.with_suffix(".cpp")
INTERFACE = Path(cpp.__file__).parents[2] / "csrc"
INSTRUCTION_SETS = ("avx2", "portable")
COUNTED = "counted"  # the function of the driver around each call

Counts = dict[str, int]  # by kernel and what it works on


def driver_compiler() -> list[str] | None:
    """The command that compiles the driver, which is not what is counted; None without a compiler."""
    if "CXX" in os.environ:
        return shlex.split(os.environ["CXX"])
    return next(([name] for name in ("c++", "g++", "clang++") if shutil.which(name)), None)


def built_with(library: Path) -> str | None:
    """The compiler that made the library, as ``gcc 12 x86_64``; None if the library does not tell."""
    content = library.read_bytes()
    # Clang first: the start-up code that it links was made by GCC and says so.
    for name, pattern in (("clang", rb"clang version (\d+)\."), ("gcc", rb"GCC: \([^)]*\) (\d+)\.")):
        if found := re.search(pattern, content):
            return f"{name} {found[1].decode()} {platform.machine()}"
    return None


def stored() -> dict[str, dict[str, Counts]]:
    """Figures by compiler and instruction set."""
    return json.loads(STORED.read_text()) if STORED.exists() else {}


def count(library: Path, instruction_set: str) -> Counts:
    """Compile the driver, run it under callgrind, and read what each call took."""
    with tempfile.TemporaryDirectory() as folder:
        driver, output = Path(folder, "driver"), Path(folder, "counts")
        run([*driver_compiler(), "-std=c++17", "-O1", f"-I{INTERFACE}", str(DRIVER), "-ldl", "-o", str(driver)])
        callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}"]
        callgrind += [f"--zero-before={COUNTED}", f"--dump-after={COUNTED}"]
        names = run([*callgrind, str(driver), str(library), instruction_set]).splitlines()
        return {name: total(Path(f"{output}.{part}")) for part, name in enumerate(names, start=1)}


def run(command: list[str]) -> str:
    # Symbols are bound at once, lest the first call pay for it.
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"LD_BIND_NOW": "1"})
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} failed ({done.returncode})\n{done.stderr}")
    return done.stdout


def total(part: Path) -> int:
    return int(next(line for line in part.read_text().splitlines() if line.startswith("totals:")).split()[1])


def changes(found: Counts, expected: Counts, tolerance: float) -> list[str]:
    """A line for each kernel whose count left the tolerance, or that only one side knows."""
    lines = [f"{name}: only {'now' if name in found else 'stored'}" for name in found.keys() ^ expected.keys()]
    for name in found.keys() & expected.keys():
        ratio = found[name] / expected[name]
        if abs(ratio - 1) > tolerance:
            lines.append(f"{name}: {found[name]:,} instructions, {expected[name]:,} stored ({ratio - 1:+.1%})")
    return sorted(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", nargs="?", type=Path, default=cpp.library_path())
    library = parser.parse_args().library.resolve()
    compiler = built_with(library)
    if compiler is None:
        parser.error(f"{library} does not say which compiler made it")
    figures = stored()
    found = {name: count(library, name) for name in INSTRUCTION_SETS if cpp.use_instruction_set(name)}
    for name, counts in found.items():
        before = figures.get(compiler, {}).get(name, {})
        print(f"{compiler}, {name}:", *(changes(counts, before, 0.0) or ["as stored"]), sep="\n  ")
    figures[compiler] = figures.get(compiler, {}) | found
    STORED.write_text(json.dumps(dict(sorted(figures.items())), indent=2) + "\n")


if __name__ == "__main__":
    main()
