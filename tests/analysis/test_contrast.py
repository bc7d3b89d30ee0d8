import numpy as np
import pytest

from rmeeto.analysis import by_image, by_seed, image_contrast, seed_contrast
from rmeeto.errors import ConfigError


def test_images_count_in_points():
    contrast = by_image([True, True, False, True], np.array([1, 0, 0, 0]))
    assert contrast.values.tolist() == [0, 100, 0, 100]
    assert (contrast.unit, contrast.n, contrast.mean.value) == ("image", 4, 50)


def test_seeds_count_in_points():
    contrast = by_seed([60.0, 61.0], [59.5, 61.5])
    assert contrast.values.tolist() == [0.5, -0.5]
    assert (contrast.unit, contrast.n, contrast.mean.value) == ("seed", 2, 0)


def test_a_contrast_does_not_change_later():
    given = np.array([1.0, 0.0])
    contrast = image_contrast(given)
    given[0] = 0
    assert contrast.values[0] == 100
    with pytest.raises(ValueError, match="read-only"):
        contrast.values[0] = 0


@pytest.mark.parametrize(("values", "largest"), [([0, 0], 100), ([0, 2], 200), ([0.25, -0.5], 100)])
def test_the_largest_contrast_is_at_least_one_image(values, largest):
    assert image_contrast(values).largest == largest


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: by_image([], []), "at least one"),
        (lambda: by_image([1, 0], [1]), "partner"),
        (lambda: by_image([1, 1.5], [1, 0]), "correct, 1, or not, 0"),
        (lambda: by_image([1, np.nan], [1, 0]), "finite"),
        (lambda: by_image([[1, 0]], [[1, 0]]), "one number"),
        (lambda: by_image("yes", "no"), "no list of numbers"),
        (lambda: by_image(None, [1]), "one number|finite|no list"),
        (lambda: by_seed([60, np.inf], [59, 58]), "finite"),
        (lambda: by_seed([60, 101], [59, 58]), "between 0 and 100"),
        (lambda: by_seed([60, 61], [59, -58]), "between 0 and 100"),
        (lambda: by_seed([60], [59, 58]), "partner"),
        (lambda: seed_contrast([]), "at least one"),
        (lambda: image_contrast([0, 2], largest=1), "at least 2"),
        (lambda: image_contrast([0, 0], largest=0), "at least"),
        (lambda: image_contrast([0, 1], largest=np.inf), "finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(make, why):
    with pytest.raises(ConfigError, match=why):
        make()
