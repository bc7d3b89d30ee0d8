import json
from types import SimpleNamespace

import pytest

from rmeeto.ops import selective_scan
from rmeeto.ops.select import availability
from rmeeto.runtime import doctor


def test_what_is_ready_is_right_and_timed():
    found = doctor.diagnose()
    assert found.healthy
    kernels = {kernel.name: kernel for kernel in found.kernels}
    assert set(kernels) == set(availability())
    reference = kernels["reference"]
    assert 0 < reference.error < doctor.ERROR_BUDGET
    assert reference.latency_ms > 0
    for kernel in found.kernels:
        assert (kernel.absence is None) == (kernel.error is not None)
    json.dumps(found.to_dict())


def test_a_wrong_kernel_is_found(monkeypatch):
    def wrong(**inputs):
        slip = 1e-4 if inputs["impl"] == "cpp" else 0
        return selective_scan(**{**inputs, "impl": "reference"}) * (1 + slip)

    monkeypatch.setattr(doctor, "selective_scan", wrong)
    monkeypatch.setattr(doctor, "instructions_of", lambda name: None)
    monkeypatch.setattr(doctor, "availability", lambda: {"reference": "ready", "cpp": "ready"})
    found = doctor.diagnose()
    assert [kernel.wrong for kernel in found.kernels] == [False, True]
    assert not found.healthy
    assert any("cpp" in advice.missing and "--impl reference" in advice.remedy for advice in found.advice)


def test_not_a_number_is_wrong():
    assert doctor.Kernel("cpp", None, None, float("nan"), 1.0, 1.0).wrong
    assert doctor.Kernel("cpp", None, None, float("inf"), 1.0, 1.0).wrong
    assert not doctor.Kernel("cpp", "not built").wrong


def test_missing_kernels_come_with_their_price_and_a_remedy(monkeypatch):
    monkeypatch.setattr(doctor, "availability", lambda: {"reference": "ready", "cpp": "not built", "triton": "no CUDA"})
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: False)
    found = doctor.diagnose()
    assert found.healthy
    about = [advice for advice in found.advice if "kernels" in advice.missing]
    assert [advice.missing for advice in about] == ["cpp kernels"]  # Triton is not missed without a device
    assert "10 to 20 times slower" in about[0].cost
    assert "compiler" in about[0].remedy


def test_missing_packages_name_their_extra(monkeypatch):
    absent = {"scikit-learn", "av"}
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: None if name in absent else real(name) or "1.0")
    remedies = {advice.missing: advice.remedy for advice in doctor.diagnose().advice}
    assert remedies["scikit-learn"] == 'pip install "rmeeto[demo]"'
    assert remedies["av"] == 'pip install "rmeeto[video]"'


def test_speedup_is_over_the_reference():
    ticks = iter(range(1000))
    reference, *_ = doctor.check_kernels({"reference": "ready"}, lambda: float(next(ticks)))
    assert reference.latency_ms == pytest.approx(1000)
    assert reference.speedup == pytest.approx(1)


def test_the_machine_is_described():
    found = doctor.machine()
    assert found.cores >= 1
    assert found.threads >= 1
    assert found.processor
    assert found.accelerators == () or all(found.accelerators)


def test_the_processors_name_where_there_is_no_listing(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "Path", lambda _: tmp_path / "none")
    monkeypatch.setattr(doctor, "platform", SimpleNamespace(processor=lambda: ""))
    assert doctor.processor_name() == "unknown"
