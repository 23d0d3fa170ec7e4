"""``mixgrpo score`` and ``mixgrpo verify-rewards``, as one types them."""

import json
import re
import sys
import weakref
from dataclasses import MISSING, fields

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from mixgrpo_core.cli import main, reward_calls
from mixgrpo_core.cli.picture_files import batches, grouped, picture_files, read_picture
from mixgrpo_core.cli.score import _show
from mixgrpo_core.cli.stopping import Stopped
from mixgrpo_core.cli.verify import Checked, checked, drawings, verdicts
from mixgrpo_core.evaluation.ranking import ranked
from mixgrpo_core.rewards import FunctionReward, PixelReward, ShapeReward
from mixgrpo_core.rewards.pixels.measures import Brightness
from mixgrpo_core.rewards.port import Context, RewardBatch, RewardInfo, Scores
from mixgrpo_core.settings.kinds import REWARDS
from mixgrpo_core.settings.parts import require_parts


@pytest.fixture
def pictures(tmp_path):
    """Three grey pictures of two sizes, and one drawing with its caption beside it."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, level, size in (("dark", 51, (8, 8)), ("light", 204, (8, 8)), ("middle", 102, (12, 6))):
        Image.new("RGB", size, (level, level, level)).save(folder / f"{name}.png")
    return folder


def scored(tmp_path, *arguments):
    """The exit status and what --json holds."""
    out = tmp_path / "scores.json"
    status = main(["score", *map(str, arguments), "--json", str(out)])
    return status, json.loads(out.read_text()) if out.exists() else None


LIGHT = ("--rewards", "light", "PixelReward(Brightness())")


def test_a_folder_is_ranked_whatever_the_sizes(tmp_path, pictures, capsys):
    status, found = scored(tmp_path, pictures, *LIGHT)
    assert status == 0
    assert [(entry["picture"][-10:], round(entry["scores"]["light"], 4)) for entry in found] == [
        ("/light.png", 0.8),
        ("middle.png", 0.4),
        ("s/dark.png", 0.2),
    ]
    shown = capsys.readouterr().out
    assert shown.index("light.png") < shown.index("middle.png") < shown.index("dark.png")


@pytest.fixture
def many(tmp_path, monkeypatch):
    """Thirty pictures in batches of four, of which the tenth is cut off behind its header."""
    monkeypatch.setattr("mixgrpo_core.cli.picture_files.BATCH_BYTES", 4 * 8 * 8 * 12)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(30):
        Image.new("RGB", (8, 8), (8 * number,) * 3).save(folder / f"{number:02}.png")
    whole = (folder / "10.png").read_bytes()
    (folder / "10.png").write_bytes(whole[:45])
    return folder


def test_pictures_are_read_when_their_turn_comes_and_none_is_kept(many):
    files = picture_files([str(many)])
    alive = weakref.WeakSet()
    counts = []
    for read in batches(grouped(dict.fromkeys(files, "")), Context(), whole=False):
        alive.add(read.batch.images)
        counts.append((len(read.files), len(read.faults), len(alive)))
        del read
    assert counts == [(4, 0, 1)] * 2 + [(3, 1, 1)] + [(4, 0, 1)] * 4 + [(2, 0, 1)]


def test_a_picture_that_is_cut_off_costs_its_own_score(tmp_path, many, capsys):
    status, found = scored(tmp_path, many, *LIGHT)
    assert status == 0 and len(found) == 29 and found[0]["picture"].endswith("29.png")
    shown = capsys.readouterr().out
    assert re.search(r"10\.png cannot be read as a picture \(.*\): is it whole\?", shown.replace("\n", " "))
    assert shown.index("00.png: light 0\n") < shown.index("29.png: light 0.9098")  # as they came


@pytest.mark.parametrize(("stop", "status"), [(KeyboardInterrupt(), 130), (Stopped(15), 143)])
def test_an_interrupt_keeps_what_has_been_scored(tmp_path, many, monkeypatch, capsys, stop, status):
    def tired(images, prompts):
        if float(images.max()) > 0.5:
            raise stop
        return images.mean((1, 2, 3))

    monkeypatch.setattr(reward_calls, "made", lambda calls: {"light": FunctionReward(tired)})
    ended, found = scored(tmp_path, many, *LIGHT)
    assert ended == status and len(found) == 15 and found[0]["picture"].endswith("15.png")
    assert "stopped after 15 of 30 pictures" in capsys.readouterr().out


def test_rewards_that_compare_get_all_that_are_alike(many, monkeypatch, tmp_path):
    (many / "10.png").unlink()
    (many / "09.txt").write_text("another prompt")
    sizes = []

    class Comparing(FunctionReward):
        about = RewardInfo(groupwise=True)

        def __call__(self, batch):
            sizes.append(len(batch.images))
            return super().__call__(batch)

    monkeypatch.setattr(
        reward_calls, "made", lambda calls: {"light": Comparing(lambda images, prompts: [0] * len(images))}
    )
    scored(tmp_path, many, *LIGHT)
    assert sorted(sizes) == [1, 28]


def test_weights_turn_the_order(tmp_path, pictures):
    rewards = (*LIGHT, "dark", "PixelReward(Brightness(), Less())")
    _, found = scored(tmp_path, pictures, *rewards, "--weights", "dark", "1.5")
    assert found[0]["picture"].endswith("dark.png") and found[0]["scores"].keys() == {"light", "dark"}


def test_a_picture_has_the_caption_beside_it(tmp_path):
    drawn = (drawings()[0] * 255).round().to(torch.uint8).numpy()
    for name, caption in (("right", "a large red circle in the middle"), ("wrong", "a large blue cross in the middle")):
        Image.fromarray(np.asarray(drawn)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(caption)
    files = [tmp_path / "wrong.png", tmp_path / "right.png"]
    _, found = scored(tmp_path, *files, "--rewards", "shape", "ShapeReward()")
    assert found[0]["picture"].endswith("right.png")
    assert found[0]["scores"]["shape"] > 0.9 > 0.1 > found[1]["scores"]["shape"]


@pytest.mark.parametrize(
    "arguments,words",
    [
        (("nowhere.png", *LIGHT), "found nothing"),
        ((), "found none|expected"),
        (("{pictures}",), "at least one reward"),
        (("{pictures}", "--rewards", "light", "PixelReward(Glow())"), "Glow"),
        (("{pictures}", "--rewards", "light", "Brightness()"), "expected a reward for light"),
        (("{pictures}", *LIGHT, "--weights", "dark", "1"), "dark"),
        (("{empty}", *LIGHT), "found none"),
        (("{text}", *LIGHT), "cannot be read as a picture"),
        (("{pictures}", *LIGHT, "--weights", "light", "0"), "above 0"),
        (("{pictures}", *LIGHT, "--json", "{empty}/none/scores.json"), "expected a folder"),
        (("{latin}", *LIGHT), "latin.txt is not UTF-8"),
        (("{pictures}", "--rewards", "judge", "JudgeReward(Endpoint('qwen'), YesNo())"), "mixgrpo-judge"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, pictures, capsys, monkeypatch, arguments, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "latin.png")
    (tmp_path / "latin.txt").write_bytes("une pomme fra\xeeche".encode("latin-1"))
    monkeypatch.setitem(sys.modules, "mixgrpo_judge", None)  # as where the client is not installed
    places = {"pictures": pictures, "empty": tmp_path / "empty", "text": tmp_path / "text.png"}
    places["latin"] = tmp_path / "latin.png"
    assert main(["score", *(argument.format(**places) if "{" in argument else argument for argument in arguments)]) == 2
    out, error = capsys.readouterr()
    assert any(word in error for word in words.split("|")) and not out


def test_the_orientation_that_a_camera_wrote_down_is_kept_to(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    path = tmp_path / "camera.jpg"
    Image.new("RGB", (8, 4)).save(path, exif=exif)
    assert read_picture(path).shape == (8, 4, 3)


def test_brackets_in_names_and_in_what_failed_are_text(tmp_path, capsys):
    """rich takes [words] for markup, and [/words] without a beginning for an error."""

    def fails(images, prompts):
        raise ValueError("found '[/INST]'")

    batch = RewardBatch(images=torch.zeros(1, 8, 8, 3), prompts=("",))
    _show(ranked([batch], {"judge [b]": FunctionReward(fails)}), [tmp_path / "cat [draft].png"], Console())
    shown = capsys.readouterr().out
    assert "cat [draft].png" in shown and "judge [b]" in shown and "[/INST]" in shown


def test_scores_are_not_written_over(tmp_path, pictures, capsys):
    (tmp_path / "scores.json").write_text("{}")
    assert scored(tmp_path, pictures, *LIGHT) == (2, {})
    assert "already" in capsys.readouterr().err


def test_a_reward_that_behaves_and_ones_that_do_not(capsys):
    assert main(["verify-rewards", "--rewards", "shape", "ShapeReward()"]) == 0
    assert "4 of 4 drawings prefer their own caption" in capsys.readouterr().out
    found = checked(ShapeReward())
    assert all(right > 0.9 > 0.1 > wrong for right, wrong in zip(found.own, found.other, strict=True))
    upside_down = Checked(own=found.other, other=found.own, failures=[])
    assert [right for _, right in verdicts(upside_down, RewardInfo(expected=(0.0, 1.0)))] == [True, False]
    assert [right for _, right in verdicts(found, RewardInfo(expected=(15.0, 28.0)))] == [False, True]


def test_a_reward_that_tells_nothing_apart_is_seen():
    blind = FunctionReward(lambda images, prompts: [0.5] * len(images))
    [(words, right)] = verdicts(checked(blind), RewardInfo())
    assert not right and "tells no image from another" in words
    [(_, right)] = verdicts(checked(PixelReward(Brightness())), RewardInfo())
    assert right


def test_a_reward_that_fails_is_said():
    broken = FunctionReward(lambda images, prompts: Scores.of(torch.full((len(images),), float("nan"))).values)
    [(words, right)] = verdicts(checked(broken), RewardInfo())
    assert not right and "NaN" in words


@pytest.mark.parametrize(
    "call,words",
    [
        ("PickScore(5)", "expected file of PickScore to be text in quotes, found 5"),
        ("PickScore('a', precision='fp8')", "'float32', 'float16', 'bfloat16', found 'fp8'"),
        ("PickScore('a', batch='4')", "expected batch of PickScore to be a whole number"),
        ("PickScore('a', place='cpu')", "a call of Resident, Offloaded, Released, found 'cpu'"),
        ("PickScore('a', place=Resident('gpu'))", "device of this machine such as cpu or cuda, found 'gpu'"),
        ("JudgeReward('qwen', YesNo())", "expected chat of JudgeReward to be a call of Endpoint, LocalChat"),
        ("JudgeReward(Endpoint('qwen'), Verdict())", "expected mode of JudgeReward"),
        ("Gated(ShapeReward(), by='PixelReward(Contrast())', least=0.1)", "expected by of Gated"),
        ("Transformed(PixelReward('Brightness'), Rank())", "expected measure of PixelReward to be a call"),
        ("PixelReward(Palette((1, 2)))", "expected a colour"),
        ("ImageClassifier('a', label=3)", "expected label of ImageClassifier"),
    ],
)
def test_parts_of_another_kind_are_said_before_any_file_is_opened(call, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        reward_calls.made({"one": call})


def test_every_reward_that_is_spelled_right_has_parts_that_fit():
    for cls in REWARDS.by_name().values():
        required = {item.name for item in fields(cls) if item.default is MISSING and item.default_factory is MISSING}
        if not required:
            require_parts(cls(), REWARDS)
    for call in (
        "PixelReward(Palette(['#ff0000']), Near(1))",
        "Gated(HumanVote(fallback=ShapeReward()), by=ImageSimilarity(DinoV2('a'), Picture('b')), least=1)",
        "PairwiseReward(Endpoint('qwen'), PairScores(aspects=(('Style Score', 1),)), opponents=2)",
        "EditPreservation(SSIM(), Picture('a'), mask=Picture('b'))",
        "Penalised(CLIPScore('a', scale=100, place=Offloaded('cpu')), by=TextAccuracy(), most=0.5)",
        "JudgeReward(LocalChat('a'), Levels(levels=(('a', 1), ('b', 2))))",
    ):
        made = reward_calls.made({"one": call})
        assert type(made["one"]).__name__ == call.partition("(")[0]
