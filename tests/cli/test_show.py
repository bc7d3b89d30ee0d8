from PIL import Image


def test_a_sheet_of_all_images_is_written(rmeeto_json, model_folder, pictures, tmp_path):
    output = tmp_path / "sheet.png"
    found = rmeeto_json("show", model_folder, pictures / "val/red", "--output", output)
    assert len(found["images"]) == 2
    assert found["tokens_at_block"] == {"2": 14}
    with Image.open(output) as sheet:
        assert sheet.width > 300
        assert sheet.height > 300


def test_chosen_blocks_and_reduction(rmeeto_json, model_folder, pictures, tmp_path):
    options = ("--reduce", "prune:r=2,blocks=all", "--blocks", "1,3", "--output", tmp_path / "a.pdf")
    found = rmeeto_json("show", model_folder, pictures / "val/red/0.png", *options)
    assert found["tokens_at_block"] == {"1": 15, "3": 11}


def test_impossible_requests_write_nothing(rmeeto_cli, model_folder, pictures, tmp_path):
    image = pictures / "val/red/0.png"
    for options, word in (
        (("--blocks", "9"), "block 9"),
        (("--blocks", "x"), "'x'"),
        (("--output", tmp_path / "a.xyz"), ".png"),
        (("--reduce", "merge:r=99"), "99"),
        (("--reduce", "merge:r=0"), "--reduce merge:r=11"),
    ):
        place = () if "--output" in options else ("--output", tmp_path / "a.png")
        assert word in rmeeto_cli("show", model_folder, image, *options, *place, code=2).stderr
    assert not list(tmp_path.iterdir())
