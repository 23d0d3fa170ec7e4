"""The gallery: fixed prompts from the same noise, made while a run goes on and changing nothing of it."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from toy import Red, ToyModel

from mixgrpo_core import RunFolder, SlidingWindow, TrainConfig, WindowPlanner, load_lora, train
from mixgrpo_core.demo import demo_config
from mixgrpo_core.evaluation import shown
from mixgrpo_core.runs.errors import RunError
from mixgrpo_core.runs.gallery import Gallery, result_of
from mixgrpo_core.runs.reports import Pictured, Progress
from mixgrpo_core.sampling.ode import decode, sample
from mixgrpo_core.support.seeds import derive_seed
from mixgrpo_core.training.gallery import is_due
from mixgrpo_core.training.workload import Workload

PROMPTS = ["a red circle", "a blue square", "green"]
HELD_OUT = ["a yellow star", "grey"]
CONFIG = TrainConfig(
    iterations=6,
    seed=3,
    steps=6,
    images_per_prompt=14,
    prompts_per_iteration=3,
    planner=WindowPlanner(window=SlidingWindow(size=2, stride=1, hold=2)),
    learning_rate=0.05,
    updates=1,
    ema=0.5,
    eval_every=3,
    eval_images=2,
    checkpoint_every=3,
)


class Hasty(Exception):
    pass


def going(run, config=CONFIG, **options):
    return train(ToyModel(1), PROMPTS, {"red": Red()}, config, held_out=HELD_OUT, run=run, **options)


def timeless(report):
    return {key: value for key, value in report.to_json().items() if key not in ("seconds", "peak_memory")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    return path, [timeless(report) for report in going(RunFolder.create(path, CONFIG))]


def files(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in (path / "gallery").rglob("*.png")}


def test_it_has_the_start_every_few_iterations_and_the_end(undisturbed):
    entries = Gallery(RunFolder.open(undisturbed[0])).entries()
    assert [entry.iteration for entry in entries] == [0, 2, 4, 6]
    assert all(entry.prompts == tuple(HELD_OUT) and not entry.asked for entry in entries)
    shots = [np.asarray(Image.open(entry.pictures[0])) for entry in entries]
    assert all((one != other).any() for one, other in pairwise(shots)), "the policy learns"


def test_a_picture_is_what_the_lora_beside_it_makes_of_the_same_noise(undisturbed):
    """Sampled anew, by a model of another start that reads the LoRA's file."""
    for entry in Gallery(RunFolder.open(undisturbed[0])).entries():
        model = ToyModel(7)
        model.load_lora_state(load_lora(entry.lora).state)
        for index, prompt in enumerate(HELD_OUT):
            noise = model.noise(derive_seed("shown", index), 1)
            image = decode(model, sample(model, model.encode(prompt), noise, CONFIG.eval_sigmas(model)), 1)[0]
            shot = np.asarray(Image.open(entry.pictures[index]))
            assert np.array_equal(shot, (image * 255).round().byte().numpy())


def test_a_run_with_it_is_the_run_without_it_bit_for_bit(undisturbed, tmp_path):
    """Without a folder there is none; and one that is asked for after every iteration changes nothing either."""
    torch.manual_seed(5)
    bare = [timeless(report) for report in going(None)]
    torch.manual_seed(5)
    run = RunFolder.create(tmp_path / "run", CONFIG)
    often = [timeless(report) for report in going(run, pictures_wanted=lambda: True)]
    assert bare == often == undisturbed[1]
    assert [entry.asked for entry in Gallery(run).entries()] == [True] * 7, "asked for, also where it was due anyway"
    one, other = (RunFolder.open(path).latest() for path in (undisturbed[0], tmp_path / "run"))
    assert all(torch.equal(other.tensors[name], tensor) for name, tensor in one.tensors.items() if "random" not in name)
    before = torch.get_rng_state()
    model = ToyModel(1)
    list(zip(range(1), going(RunFolder.create(tmp_path / "other", CONFIG)), strict=False))
    assert torch.equal(before, torch.get_rng_state()) and model.evaluations == 0


@pytest.mark.parametrize("when", [(0, 0), (2, 2), (4, 0), (6, 2)])
def test_a_run_that_ends_while_it_is_made_goes_on_with_it(undisturbed, tmp_path, when):
    def observer(event):
        if isinstance(event, Progress) and event.phase == "gallery" and (event.iteration, event.done) == when:
            raise Hasty

    run = RunFolder.create(tmp_path / "run", CONFIG)
    with pytest.raises(Hasty):
        list(going(run, observer=observer))
    assert when[0] not in [entry.iteration for entry in Gallery(run).entries()]
    list(going(RunFolder.open(tmp_path / "run")))
    assert files(tmp_path / "run") == files(undisturbed[0])
    assert [line["iteration"] for line in run.metrics()] == list(range(6))


def test_an_entry_that_is_there_is_made_again_where_somebody_asks_for_it(undisturbed, tmp_path):
    """A run that is over, is given more iterations, and is asked for pictures before the first of them."""
    short = replace(CONFIG, iterations=4)
    run = RunFolder.create(tmp_path / "run", short)
    list(going(run, short))
    before = [(entry.iteration, entry.asked) for entry in Gallery(run).entries()]
    asking, told = iter([True]), []
    options = {"pictures_wanted": lambda: next(asking, False), "observer": told.append}
    next(going(RunFolder.open(tmp_path / "run"), **options))
    after = [(entry.iteration, entry.asked) for entry in Gallery(run).entries()]
    assert before[-1] == (4, False) and after == [*before[:-1], (4, True)]
    assert [event.iteration for event in told if isinstance(event, Pictured)] == [4]
    of_four = {name: data for name, data in files(tmp_path / "run").items() if "000004" in name}
    assert of_four and of_four.items() <= files(undisturbed[0]).items()


def test_a_half_written_entry_is_none_and_what_is_ahead_is_made_again(undisturbed, tmp_path):
    """A kill between the pictures and ``entry.json``; iterations after the newest checkpoint are done again."""
    run = RunFolder.create(tmp_path / "run", CONFIG)
    for report, _ in zip(going(run), range(5), strict=False):
        if report.iteration == 4:
            break
    gallery = Gallery(run)
    assert [entry.iteration for entry in gallery.entries()] == [0, 2, 4]
    for path in run.checkpoints:
        if int(path.stem) > 3:
            path.unlink()
    Image.new("RGB", (2, 2)).save(gallery.place(4) / "1.png")  # of a run that went another way
    (gallery.place(2) / "entry.json").write_bytes(b'{"iteration": 2, "pro')
    assert [entry.iteration for entry in gallery.entries()] == [0, 4]
    list(going(RunFolder.open(tmp_path / "run")))
    assert [entry.iteration for entry in gallery.entries()] == [0, 4, 6], "the past is not made up"
    expected = {name: data for name, data in files(undisturbed[0]).items() if "000002" not in name}
    assert {name: data for name, data in files(tmp_path / "run").items() if "000002" not in name} == expected


def test_an_entry_that_is_made_anew_is_none_until_it_is_whole(tmp_path):
    """A kill then leaves neither the pictures of one LoRA beside another, nor a file that is torn."""
    run = RunFolder.create(tmp_path / "run", replace(CONFIG, iterations=1))
    list(going(run, replace(CONFIG, iterations=1)))
    gallery = Gallery(run)
    assert gallery.entry(1) is not None
    gallery.begin(1)
    assert gallery.entry(1) is None and [entry.iteration for entry in gallery.entries()] == [0]
    gallery.add(1, [("grey", Image.new("RGB", (2, 2)))], asked=True)
    assert gallery.entry(1).prompts == ("grey",)


def test_a_gallery_that_cannot_be_written_is_told_and_ends_no_run(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG)
    (run.path / "gallery").write_text("a file in its place")
    events = []
    with pytest.warns(RuntimeWarning, match="iteration 0 is not in the gallery.*the training goes on"):
        assert len(list(going(run, observer=events.append))) == 6
    told = [event for event in events if isinstance(event, Pictured)]
    assert [event.iteration for event in told] == [0, 2, 4, 6] and all(event.problem for event in told)


def test_one_that_is_kept_is_the_runs_lora_and_the_training_goes_on_from_its_last(undisturbed, tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG)
    list(going(run))
    gallery = Gallery(run)
    assert result_of(run, averaged=True) == (run.lora("ema"), None)
    before = {path.name: path.read_bytes() for path in (run.path / "lora").iterdir()}
    assert gallery.keep(2) == run.lora("kept")
    assert (gallery.kept, result_of(run, averaged=True)) == (2, (run.lora("kept"), 2))
    kept, entry = load_lora(run.lora("kept")), load_lora(gallery.lora(2))
    assert all(torch.equal(kept.state[name], tensor) for name, tensor in entry.state.items())
    assert {name: (run.path / "lora" / name).read_bytes() for name in before} == before, "nothing else is touched"
    with pytest.raises(RunError, match=r"no iteration 3: it has 0, 2, 4, 6"):
        gallery.keep(3)
    longer = [report.iteration for report in going(RunFolder.open(run.path), replace(CONFIG, iterations=8))]
    assert longer == [6, 7] and gallery.kept == 2
    gallery.keep(None)
    assert (gallery.kept, run.lora("kept").exists()) == (None, False)
    run.lora("kept").write_bytes(b"something else")
    with pytest.raises(RunError, match="is not the LoRA of an iteration"):
        assert gallery.kept


def test_without_held_out_prompts_training_prompts_are_shown(tmp_path):
    run = RunFolder.create(tmp_path / "run", replace(CONFIG, iterations=1))
    list(train(ToyModel(), PROMPTS, {"red": Red()}, replace(CONFIG, iterations=1), run=run))
    (first, last) = Gallery(run).entries()
    assert list(first.prompts) == PROMPTS and last.iteration == 1
    assert json.loads((Gallery(run).place(0) / "entry.json").read_text())["iteration"] == 0


def due(config, stop):
    return [iteration for iteration in range(stop) if is_due(config, iteration)]


def test_it_is_about_eight_entries_a_run_and_a_small_part_of_its_images():
    assert due(demo_config(), 36) == [*range(0, 33, 4), 35]
    assert due(TrainConfig(iterations=300, prompts_per_iteration=32), 301) == [*range(0, 300, 38), 300]
    few = TrainConfig(iterations=40, prompts_per_iteration=1, images_per_prompt=4)
    assert due(few, 41) == [0, 20, 40], "4 pictures are made for 80 images or more"
    endless = replace(demo_config(), iterations=-1)
    assert due(endless, 200) == [0, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192]


def test_what_it_costs_the_demo_by_rows_of_the_network():
    """Counted, of 35 iterations and six evaluations of 96 images."""
    config = demo_config()
    work, steps = Workload(config, held_out=32), config.eval_steps
    trained = work.rows(0, 35) + work.units(0, 35) + 6 * 96 * steps
    entries = work.entries(0, 35) + 1
    assert entries == 10
    assert entries * shown.PROMPTS * steps / trained < 0.03
