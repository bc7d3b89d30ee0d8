import pytest
from timm.data.auto_augment import augment_and_mix_transform, auto_augment_transform, rand_augment_transform

from rmeeto.data.policy import check_policy
from rmeeto.errors import ConfigError

BY_TIMM = {"rand": rand_augment_transform, "augmix": augment_and_mix_transform}


@pytest.mark.parametrize(
    "policy",
    [
        "rand-m9-mstd0.5-inc1", "rand-m9-n3-mstd0.5", "rand-mstd1-tweights", "rand-m7-p0.7-mmax15-t3a", "rand",
        "augmix-m5-w4-d2", "augmix-b1-a0.5-mstd2", "original-mstd0.5", "originalr", "v0", "v0r-mstd1", "3a",
    ],
)  # fmt: skip
def test_what_timm_documents_is_taken(policy):
    check_policy(policy)
    BY_TIMM.get(policy.split("-")[0], auto_augment_transform)(policy, {})


@pytest.mark.parametrize(
    ("policy", "section"),
    [
        ("rand-m9-nonsense", "nonsense"),
        ("rand-m9-tnonsense", "tnonsense"),
        ("rand-m-n3", "m"),
        ("rand--m9", ""),
        ("rand-M9", "M9"),
        ("rand-q9", "q9"),
        ("augmix-m5-tweights", "tweights"),
        ("original-m9", "m9"),
    ],
)
def test_what_timm_would_ignore_or_does_not_know_is_named(policy, section):
    with pytest.raises(ConfigError) as caught:
        check_policy(policy)
    assert f"the section {section!r}" in str(caught.value)
