"""``mixgrpo probe-reward``, as one types it, on the shipped model."""

from PIL import Image

from mixgrpo_core.cli import main


def test_a_reward_is_looked_at_before_a_run(tmp_path, capsys):
    out = tmp_path / "probe"
    prompts = ("a small red circle on the left", "a large blue cross at the top")
    calls = ("shape", "ShapeReward()", "far", "PixelReward(Brightness(), Near(5.0))")
    words = ["probe-reward", "--prompts", *prompts, "--rewards", *calls, "--out", str(out), "--steps", "4"]
    assert main([*words, "--images", "3"]) == 0
    told = capsys.readouterr().out
    assert "shape: can this be learned from? yes" in told
    assert "shape and far: correlation within prompts" in told
    assert sorted(path.name for path in out.iterdir()) == ["far.png", "shape.png"]
    with Image.open(out / "shape.png") as sheet:
        assert sheet.width > 6 * 128
    assert main([*words, "--images", "1"]) == 2
    assert "two images of it at least" in capsys.readouterr().err
    assert main([*words, "--images", "3"]) == 2
    assert "choose another --out" in capsys.readouterr().err
