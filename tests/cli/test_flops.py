import pytest


@pytest.mark.parametrize(
    ("name", "whole", "reduced", "exact"),
    [
        ("vim_tiny", "1.45", "1.28", "3.06"),
        ("vim_small", "5.08", "3.58", "10.65"),
        ("vim_base", "18.87", "13.21", "39.42"),
    ],
)
def test_both_conventions_stand_side_by_side_and_reproduce_table_2(rmeeto_cli, name, whole, reduced, exact):
    lines = rmeeto_cli("flops", name).stdout.splitlines()
    header = " ".join(lines[:3])
    assert "paper convention" in header
    assert "G operations" in header
    assert "exact convention" in header
    assert "GFLOPs" in header
    unreduced, papers_own = (line for line in lines if line.startswith(("none", "merge:")))
    assert whole in unreduced
    assert exact in unreduced
    assert reduced in papers_own


def test_clips_are_counted_with_the_papers_setting_on_kinetics(rmeeto_cli):
    lines = rmeeto_cli("flops", "videomamba_tiny_video").stdout.splitlines()
    assert "one clip of 8 224×224 images" in " ".join(lines)
    (reduced,) = (line for line in lines if line.startswith("merge:r=88"))
    assert "1569 → 601" in reduced
    assert "9.49" in reduced


def test_the_papers_reduction_ratios(rmeeto_json):
    arguments = [part for r in (5, 10, 11, 15, 20) for part in ("--reduce", f"merge:r={r}")]
    found = rmeeto_json("flops", "vim_small", *arguments)["reductions"]
    assert [round(one["reduction_ratio"], 2) for one in found] == [0.14, 0.28, 0.31, 0.42, 0.54]


def test_a_saved_model_is_counted_with_its_own_reduction(rmeeto_json, model_folder):
    found = rmeeto_json("flops", model_folder)
    assert found["model"] == "toy"
    assert [one["reduction"] for one in found["reductions"]] == ["none", "merge:r=3"]
    assert found["reductions"][1]["tokens"] == [17, 17, 14, 14]


def test_blocks_and_terms_add_up_to_the_total(rmeeto_cli, rmeeto_json):
    text = rmeeto_cli("flops", "vim_tiny", "--reduce", "merge:r=5", "--blocks", "--terms").stdout
    one = rmeeto_json("flops", "vim_tiny", "--reduce", "merge:r=5")["reductions"][0]
    assert sum(one["exact_terms"].values()) == pytest.approx(one["exact_flops"])
    assert sum(one["paper_terms"].values()) == pytest.approx(one["paper_operations"])
    blocks = text[text.index("blocks, merge:r=5") :].splitlines()
    exact = [
        float(line.split()[-1]) for line in blocks if line.strip() and line.split()[0] in {*map(str, range(24)), "rest"}
    ]
    assert len(exact) == 25
    assert sum(exact) == pytest.approx(one["exact_flops"] / 1e9, abs=2e-3)


def test_what_depends_on_the_images_is_marked(rmeeto_cli, rmeeto_json):
    lines = ("--reduce", "merge:r=5", "--reduce", "similar-merge:r=5")
    shown = rmeeto_cli("flops", "vim_tiny", *lines)
    plain, bound = (line for line in shown.stdout.splitlines() if ":r=5" in line)
    assert ("≥" in plain, "≥ 142" in bound, "≤ 0.14" in bound) == (False, True, True)
    assert [one["lower_bound"] for one in rmeeto_json("flops", "vim_tiny", *lines)["reductions"]] == [False, True]


def test_none_is_the_unreduced_model(rmeeto_json):
    (only,) = rmeeto_json("flops", "vim_tiny", "--reduce", "none")["reductions"]
    assert (only["reduction"], only["reduction_ratio"]) == ("none", 0)


@pytest.mark.parametrize(
    "content", [None, "{}", '{"config": 3}', '{"config": {"dim": "x"}}', '{"config": {"dam": 3}}', "{"]
)
def test_a_folder_that_describes_no_model(rmeeto_cli, tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert "config.json" in rmeeto_cli("flops", tmp_path, code=2).stderr
