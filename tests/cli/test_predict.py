import pytest


def test_each_image_gets_its_classes(rmeeto_json, model_folder, pictures):
    found = rmeeto_json("predict", model_folder, pictures / "val", "--top", 2)["predictions"]
    assert len(found) == 6
    for prediction in found:
        assert [guess["name"] for guess in prediction["guesses"]] == [
            guess["name"] for guess in sorted(prediction["guesses"], key=lambda guess: -guess["probability"])
        ]
        assert {guess["name"] for guess in prediction["guesses"]} <= {"blue", "green", "red"}


def test_an_unreadable_image_is_named_and_the_others_predicted(
    rmeeto_cli, rmeeto_json, model_folder, pictures, tmp_path
):
    bad = tmp_path / "bad.png"
    bad.write_bytes((pictures / "val/red/0.png").read_bytes()[:60])
    arguments = ("predict", model_folder, bad, pictures / "val/red/1.png")
    broken, whole = rmeeto_json(*arguments, code=1)["predictions"]
    assert broken["image"] == str(bad)
    assert broken["error"]
    assert not broken["guesses"]
    assert len(whole["guesses"]) == 3
    assert "unreadable" in rmeeto_cli(*arguments, code=1).stderr


def test_labels_from_a_file_take_precedence(rmeeto_json, model_folder, pictures, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("sky\ngrass\nrose\n")
    (found,) = rmeeto_json("predict", model_folder, pictures / "val/red/1.png", "--labels", labels)["predictions"]
    assert {guess["name"] for guess in found["guesses"]} == {"sky", "grass", "rose"}


@pytest.mark.parametrize("place", ["nowhere.png", "no*.png"])
def test_nothing_to_read_is_an_error(rmeeto_cli, model_folder, place):
    assert place in rmeeto_cli("predict", model_folder, place, code=2).stderr


def test_weights_that_are_not_there(rmeeto_cli, pictures):
    shown = rmeeto_cli("predict", "vim_tiny", pictures / "val", "--weights", "missing.pth", code=2).stderr
    assert "missing.pth" in shown
