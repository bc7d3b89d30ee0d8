"""Build the playground: one page that runs a Vision Mamba in the browser, with nothing beside it.

    python docs/playground/build.py --output DIR

writes ``DIR/index.html``. It needs rmeeto with its demo's digits (``pip install -e ".[demo]"``) and, of Debian, clang,
lld and the WebAssembly libraries; if one is missing, the message names it.
"""

import argparse
import base64
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined

import rmeeto
from rmeeto import native
from rmeeto.data.digits import DigitSource
from rmeeto.errors import RmeetoError
from webassembly import HERE, CannotBuild, compile_library

MODEL = "vim_digits"
REDUCTION = "merge:r=8"
IMPORT = re.compile(r'^import .* from "\./(\w+\.js)";\n', re.MULTILINE)


def main() -> None:
    """Read the command line, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("build/playground"), help="folder for index.html")
    output = parser.parse_args().output
    try:
        path = build(output)
    except (CannotBuild, RmeetoError) as error:
        sys.exit(str(error))
    print(f"wrote {path}: {path.stat().st_size / 1e6:.2f} MB")


def build(output: Path) -> Path:
    """Compile the library, save the model, and write both into one page."""
    library = compile_library()
    pages = Environment(
        loader=ChoiceLoader([FileSystemLoader(HERE), PackageLoader("rmeeto", "templates")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    page = pages.get_template("page.html.j2").render(
        title="rmeeto playground",
        version=rmeeto.__version__,
        style=(HERE / "style.css").read_text(),
        page=one_script("page.js"),
        worker=one_script("worker.js"),
        library=as_text(library),
        model=as_text(model_file()),
        examples=as_text(examples()),
    )
    output.mkdir(parents=True, exist_ok=True)
    path = output / "index.html"
    path.write_text(page)
    return path


def one_script(name: str) -> str:
    """A module and all that it imports, as one script: a page that was opened as a file may load no modules.

    Modules share one scope then, so their names must differ.
    """
    order: list[str] = []

    def add(module: str) -> None:
        for needed in IMPORT.findall((HERE / module).read_text()):
            if needed not in order:
                add(needed)
        order.append(module)

    add(name)
    text = "\n".join(IMPORT.sub("", (HERE / module).read_text()) for module in order)
    return re.sub(r"^export ", "", text, flags=re.MULTILINE)


def model_file() -> bytes:
    """The digits' model, as the library reads it."""
    model = rmeeto.create_model(MODEL, pretrained=True, reduction=REDUCTION)
    with tempfile.TemporaryDirectory() as folder:
        path = native.save(model, Path(folder) / MODEL, name=MODEL, class_names=DigitSource.classes)
        return path.read_bytes()


def examples() -> bytes:
    """One digit of each class from the test set, 8×8 bytes each."""
    source = DigitSource("val")
    chosen = [source.labels.index(label) for label in range(len(source.classes))]
    return b"".join(np.asarray(source.read(index)).tobytes() for index in chosen)


def as_text(data: bytes) -> str:
    """Bytes for an HTML page."""
    return base64.b64encode(data).decode()


if __name__ == "__main__":
    main()
