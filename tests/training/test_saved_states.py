"""Two generations of a run's state: after every kind of failed save, the old state or the new one is found."""

import io
import itertools
import os
import zipfile
from contextlib import suppress

import pytest
import torch

from faulty_disk import STOPS, FaultyDisk, Killed, every_fault, in_use
from rmeeto.errors import RunError
from rmeeto.files import durable
from rmeeto.files.run_files import read_manifest
from rmeeto.training.saved_states import SavedStates


def state(number):
    content = io.BytesIO()
    torch.save({"number": number, "weights": torch.full((400,), float(number))}, content)
    return content.getvalue()


STATES = [state(number) for number in range(6)]


def save(states, number):
    def write(file):
        for start in range(0, len(STATES[number]), 300):
            file.write(STATES[number][start : start + 300])

    states.save(write, step=10 * number)


def found(folder):
    """The number of the state that a new process finds; None without one."""
    states = SavedStates(folder)
    if not states.exist():
        return None
    states.settle()
    return STATES.index(states.newest.read_bytes())


def flip(path, at=0.5):
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """What a real disk does when it is synced is not tested here, and takes time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def folders(tmp_path):
    """Makes folders in which states 0, 1, … have been saved."""
    numbers = itertools.count()

    def make(saved):
        folder = tmp_path / f"run{next(numbers)}"
        folder.mkdir()
        states = SavedStates(folder)
        for number in range(saved):
            save(states, number)
        return folder

    return make


def attach(folder):
    """As a resumed run has it."""
    states = SavedStates(folder)
    if states.exist():
        states.settle()
    return states


@pytest.mark.parametrize("saved", [0, 1, 2, 3])
def test_every_fault_in_a_save_leaves_the_old_state_or_the_new_one(folders, saved):
    old = saved - 1 if saved else None

    def check(folder, fault, failed):
        assert failed is None or isinstance(failed, RunError), fault
        assert found(folder) in (old, saved), fault

    tried = every_fault(lambda: folders(saved), lambda folder: save(attach(folder), saved), check)
    assert tried >= 6 * 15


@pytest.mark.parametrize("saved", [0, 2])
def test_a_process_that_survives_the_fault_can_save_again(folders, saved):
    """And an error during that second save still leaves the first state, or one of those that came after it."""
    attached = {}

    def act(folder):
        attached[folder] = attach(folder)
        save(attached[folder], saved)

    def check(folder, fault, failed):
        again = folders(0)
        for name in os.listdir(folder):
            (again / name).write_bytes((folder / name).read_bytes())
        states = attached[folder]
        for at in range(1, 25):
            with in_use(FaultyDisk(folder, at, "error")), suppress(RunError):
                save(states, saved + 1)
            assert found(folder) in ({saved - 1, saved, saved + 1} if saved else {None, 0, 1}), (fault, at)
        save(states, saved + 2)
        assert found(folder) == saved + 2, fault

    every_fault(lambda: folders(saved), act, check, faults=("error", "error after the fact"))


def test_a_kill_while_cleaning_up_after_a_kill(folders):
    """Every pair of a place in a save and a place in what the next process does first."""
    tried = 0

    def check(folder, fault, failed):
        nonlocal tried
        for at in itertools.count(1):
            with in_use(FaultyDisk(folder, at, "kill")) as disk:
                SavedStates(folder).settle()
            assert SavedStates(folder).exist()
            tried += 1
            if not disk.dead:
                break
        assert found(folder) in (1, 2), fault

    every_fault(lambda: folders(2), lambda folder: save(attach(folder), 2), check, faults=STOPS)
    assert tried > 60


def two_saves(folders, **disk):
    """Faults in two saves after one another; what the first one has promised must be kept in the second."""
    promised = {}

    def act(folder):
        states = attach(folder)
        for number in (2, 3):
            save(states, number)
            promised[folder] = number

    def check(folder, fault, failed):
        assert found(folder) >= promised.get(folder, 1), fault

    return every_fault(lambda: folders(2), act, check, faults=STOPS, **disk)


def test_a_save_that_has_returned_survives_every_stop(folders):
    assert two_saves(folders) > 3 * 30


@pytest.mark.parametrize("forgotten", ["file", "folder"])
def test_these_tests_notice_a_missing_sync(folders, forgotten):
    with pytest.raises((RunError, AssertionError)):
        two_saves(folders, ignore=(forgotten,))


def test_a_process_that_is_really_killed(folders):
    """The same with ``os._exit`` in a child, at every call."""

    class Exits(FaultyDisk):
        def _cut_power(self):
            os._exit(9)

    for at in itertools.count(1):
        folder = folders(2)
        child = os.fork()
        if child == 0:
            with in_use(Exits(folder, at, "kill")):
                save(attach(folder), 2)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert found(folder) in (1, 2)
        if os.waitstatus_to_exitcode(status) == 0:
            break
    assert at > 15
    assert found(folder) == 2


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_one_flipped_bit_in_the_newest_state_falls_back_to_the_one_before_it(folders, at):
    folder = folders(3)
    flip(folder / "state.pt", at)
    states = SavedStates(folder)
    assert "after step 10 instead of 20" in states.settle()
    assert states.newest.read_bytes() == STATES[1]
    assert SavedStates(folder).settle() is None, "said once"
    save(states, 3)
    flip(folder / "state.pt", at)
    assert found(folder) == 1, "the state that it went on from was kept"


def test_a_newest_state_that_is_gone_or_cut_falls_back_too(folders):
    folder = folders(3)
    (folder / "state.pt").unlink()
    assert found(folder) == 1
    folder = folders(3)
    (folder / "state.pt").write_bytes(STATES[2][:500])
    assert found(folder) == 1


def test_a_state_that_cannot_be_read_is_damaged(folders, monkeypatch):
    folder = folders(3)
    read = durable.sha256_of

    def unreadable(path):
        if path.name == "state.pt":
            raise OSError(5, "Input/output error")
        return read(path)

    monkeypatch.setattr(durable, "sha256_of", unreadable)
    assert "damaged" in SavedStates(folder).settle()


def test_both_damaged_is_one_clear_error(folders):
    folder = folders(3)
    flip(folder / "state.pt")
    flip(folder / "state.previous.pt")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RunError, match=r"state\.pt, state\.previous\.pt(.|\n)*another output folder"):
        SavedStates(folder).settle()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("damage", [b"", b"\0" * 400, b"[]", b'{"format": 1, "states": [{}]}', b'{"format": 9}', None])
def test_without_a_manifest_the_archives_checksums_decide(folders, damage):
    folder = folders(3)
    (folder / "state.json").unlink()
    if damage is not None:
        (folder / "state.json").write_bytes(damage)
    assert "state.json is missing or damaged" in SavedStates(folder).settle()
    assert found(folder) == 2
    flip(folder / "state.pt")
    assert found(folder) == 1
    flip(folder / "state.pt")
    with pytest.raises(RunError, match="damaged"):
        found(folder)


def test_a_state_that_no_manifest_names_is_better_than_nothing(folders):
    """A kill before the manifest was replaced, and then a disk that damages the state before."""
    folder = folders(2)
    (folder / "state.pt").rename(folder / "state.previous.pt")
    (folder / "state.pt").write_bytes(STATES[2])
    flip(folder / "state.previous.pt")
    states = SavedStates(folder)
    assert "no saved state has a SHA-256 from state.json" in states.settle()
    assert states.newest.read_bytes() == STATES[2]


def test_the_manifest_names_both_newest_first(folders):
    folder = folders(3)
    assert [state.step for state in read_manifest(folder)] == [20, 10]
    for saved, name in zip(read_manifest(folder), ("state.pt", "state.previous.pt"), strict=True):
        assert durable.sha256_of(folder / name) == saved.sha256
        assert (folder / name).stat().st_size == saved.size


def test_nothing_but_the_two_states_and_the_manifest_is_left(folders):
    folder = folders(4)
    assert sorted(path.name for path in folder.iterdir()) == ["state.json", "state.previous.pt", "state.pt"]
    SavedStates(folder).remove()
    assert list(folder.iterdir()) == []


def test_torch_writes_checksums(folders):
    """What is checked where no manifest is left."""
    with zipfile.ZipFile(folders(1) / "state.pt") as archive:
        assert all(entry.CRC for entry in archive.infolist() if entry.file_size)


def test_a_kill_is_not_an_error():
    assert not issubclass(Killed, Exception)
