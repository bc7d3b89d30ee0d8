import errno
import os

import pytest
import torch

from faulty_disk import FaultyDisk, every_fault, in_use
from rmeeto.errors import RunError
from rmeeto.files import durable


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"

    def make():
        folder.mkdir()
        (folder / "a.txt").write_text("old")
        return folder

    return make


def test_every_fault_leaves_the_old_text_or_the_new_one(folder):
    def check(folder, fault, failed):
        assert (folder / "a.txt").read_text() in ("old", "new" * 500), fault
        assert failed is None or isinstance(failed, RunError), fault
        if failed is not None and "unlink" not in fault:
            assert [path.name for path in folder.iterdir()] == ["a.txt"], fault

    assert every_fault(folder, lambda folder: durable.write_text(folder / "a.txt", "new" * 500), check) == 6 * 5


def test_the_order_is_write_sync_rename_sync(folder):
    folder = folder()
    with in_use(FaultyDisk(folder)) as disk:
        durable.write_text(folder / "a.txt", "new")
    assert disk.calls == ["open", "write", "fsync", "replace", "fsync"]


def test_what_a_writer_makes_of_a_full_disk_is_still_called_a_full_disk(folder):
    """torch.save hides the OSError behind an internal error of its archive."""
    folder = folder()
    content = {f"w{i}": torch.zeros(300) for i in range(9)}
    for at in (2, 5, 9):
        with in_use(FaultyDisk(folder, at, "disk full")) as disk, pytest.raises(RunError) as caught:
            durable.write_file(folder / "a.txt", lambda file: torch.save(content, file))
        assert disk.calls[at - 1] == "write"
        assert "the disk refused it" in caught.value.why
        assert "No space left" in caught.value.why
        assert (folder / "a.txt").read_text() == "old"


def test_an_exception_of_the_writer_itself_is_passed_on(folder):
    folder = folder()

    def write(file):
        file.write(b"some")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        durable.write_file(folder / "a.txt", write)
    assert [path.name for path in folder.iterdir()] == ["a.txt"]


def test_an_interruption_within_a_write_is_not_hidden_by_torch(folder, monkeypatch):
    folder = folder()

    class Interrupting(FaultyDisk):
        def write(self, descriptor, data):
            raise KeyboardInterrupt

    with in_use(Interrupting(folder)), pytest.raises(KeyboardInterrupt):
        durable.write_file(folder / "a.txt", lambda file: torch.save({"w": torch.zeros(300)}, file))


def test_small_and_large_portions_arrive_in_order_and_are_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "BUFFER", 16)
    portions = [bytes([number]) * size for number, size in enumerate((1, 20, 3, 3, 15, 40, 0, 2))]

    def write(file):
        for portion in portions:
            assert file.write(portion) == len(portion)

    digest = durable.write_file(tmp_path / "x", write)
    assert (tmp_path / "x").read_bytes() == b"".join(portions)
    assert durable.sha256_of(tmp_path / "x") == digest


def test_a_disk_that_takes_a_byte_at_a_time(tmp_path):
    class Slow(FaultyDisk):
        def write(self, descriptor, data):
            return os.write(descriptor, data[:1])

    with in_use(Slow(tmp_path)):
        durable.write_text(tmp_path / "x", "slowly")
        durable.append(tmp_path / "x", b" on")
    assert (tmp_path / "x").read_text() == "slowly on"


def test_a_file_system_that_cannot_sync_folders_is_no_error(tmp_path):
    class Network(FaultyDisk):
        def _sync(self, descriptor):
            if self._opened[descriptor].is_dir():
                raise OSError(errno.EINVAL, "Invalid argument")

    with in_use(Network(tmp_path)):
        durable.write_text(tmp_path / "x", "there")
    assert (tmp_path / "x").read_text() == "there"


def test_new_files_have_ordinary_permissions(tmp_path):
    (tmp_path / "beside").touch()
    durable.write_text(tmp_path / "x", "text")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "beside").stat().st_mode


def test_folders_are_made_and_named_and_their_parents_synced(tmp_path):
    with in_use(FaultyDisk(tmp_path)) as disk:
        made = durable.make_folder(tmp_path / "a" / "b")
        assert durable.make_folder(tmp_path / "a" / "b") == []
    assert made == [tmp_path / "a", tmp_path / "a" / "b"]
    assert disk.calls == ["mkdir", "fsync", "mkdir", "fsync"]


def test_a_folder_that_cannot_be_made_leaves_no_parents(tmp_path):
    for at in (3, 4):
        with in_use(FaultyDisk(tmp_path, at)), pytest.raises(OSError, match="Input/output"):
            durable.make_folder(tmp_path / "a" / "b")
    assert not (tmp_path / "a" / "b").exists()
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        durable.make_folder(tmp_path / "file")


def test_only_leftovers_of_the_given_names_are_found(tmp_path):
    ours = {".state.pt.0123abcd", ".config.json.ffffffff"}
    others = {"state.pt", ".state.pt", ".state.pt.012", ".state.pt.0123abcde", ".other.0123abcd", ".statexpt.0123abcd"}
    for name in ours | others:
        (tmp_path / name).touch()
    assert {path.name for path in durable.leftovers(tmp_path, ("state.pt", "config.json"))} == ours
    assert durable.leftovers(tmp_path / "missing", ("state.pt",)) == []
