"""Scripts that know timm alone, run with our models."""

import subprocess
import sys

SCRIPT = """
import sys
import helper
import timm
model = timm.create_model(sys.argv[1], depth=int(sys.argv[2]))
print(__name__, helper.VALUE, type(model).__name__, len(model.layers))
sys.exit(3)
"""


def run(*arguments, cwd):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd)


def test_a_script_that_imports_timm_alone_finds_our_models(tmp_path):
    folder = tmp_path / "somebody's scripts"
    folder.mkdir()
    (folder / "helper.py").write_text("VALUE = 'from beside the script'")
    (folder / "train.py").write_text(SCRIPT)
    done = run("-m", "rmeeto.timm", str(folder / "train.py"), "vim_digits", "2", cwd=tmp_path)
    assert done.stdout.split("\n")[0] == "__main__ from beside the script VisionMamba 2", done.stderr
    assert done.returncode == 3


def test_a_script_that_is_not_there_is_said_to_be_missing(tmp_path):
    for arguments, words in (((), "which script"), (("train.py", "--model", "vim_tiny"), "no file train.py")):
        done = run("-m", "rmeeto.timm", *arguments, cwd=tmp_path)
        assert done.returncode != 0
        assert words in done.stderr
        assert "Traceback" not in done.stderr
