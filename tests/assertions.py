"""Comparisons that raise. A kernel's error may be that of plain arithmetic in its precision, and no more."""

import torch
from torch import Tensor

EPSILON = torch.finfo(torch.float32).eps  # of the arithmetic, for every storage


def assert_within_budget(actual: Tensor, plain: Tensor, truth: Tensor, *, what: str = "", slack: float = 8.0) -> None:
    """Assert that ``actual`` is no further from the truth than the plain version is, but for a small tolerance.

    ``truth`` is the float64 result, ``plain`` the reference's in the dtype of ``actual``. Two checks, because either
    alone hides a class of error: every element's error may exceed the plain one's by ``slack`` float32 epsilons of the
    largest true value (and by one rounding of the storage); the error's root mean square may be twice the plain
    one's plus half that tolerance.
    """
    assert actual.shape == plain.shape == truth.shape, f"{what}: {actual.shape}, {plain.shape}, {truth.shape}"
    assert actual.dtype == plain.dtype, f"{what}: {actual.dtype}, not {plain.dtype}"
    if not truth.numel():
        return
    assert actual.isfinite().all(), f"{what}: not finite"
    error, allowed = (actual.double() - truth).abs(), (plain.double() - truth).abs()
    rounding = 0.0 if actual.dtype == torch.float32 else torch.finfo(actual.dtype).eps
    excess = error - allowed - rounding * truth.abs() - slack * EPSILON * truth.abs().max()
    assert excess.max() <= 0, (
        f"{what}: off by {error.flatten()[excess.argmax()]:.3e} where the plain version is off by "
        f"{allowed.flatten()[excess.argmax()]:.3e} and the largest value is {truth.abs().max():.3e}"
    )
    budget = 2 * _rms(allowed) + slack / 2 * EPSILON * _rms(truth)
    assert _rms(error) <= budget, f"{what}: root mean square error {_rms(error):.3e}, budget {budget:.3e}"


def _rms(x: Tensor) -> float:
    return x.double().square().mean().sqrt().item()
