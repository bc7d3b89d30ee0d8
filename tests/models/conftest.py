import pytest

from rmeeto.ops.packed.network import PackedNetwork


@pytest.fixture
def calls(monkeypatch):
    """Whole networks that computed anything."""
    found, run = [], PackedNetwork.__call__

    def count(self, images):
        found.append(self)
        return run(self, images)

    monkeypatch.setattr(PackedNetwork, "__call__", count)
    return found
