"""``mixgrpo train`` on a folder of another family than the demo's: a run file, a run folder, a resume."""

import json
from pathlib import Path

import pytest
import tiny_pipelines

from mixgrpo_core.cli import main
from mixgrpo_core.models.lora_file import load_lora
from mixgrpo_core.runs.folder import RunFolder

RUN = """
out = "{out}"
[model]
folder = "{folder}"
rank = 2
dtype = "float32"
height = 32
width = 32
device = "cpu"
{more}
[prompts]
train = ["a red circle", "a blue square"]
held_out = ["a green cross"]
[rewards]
bright = "PixelReward(Brightness(), More())"
[train]
iterations = 1
steps = 4
images_per_prompt = 2
prompts_per_iteration = 1
updates = 1
planner = "WindowPlanner(window=FrozenWindow(size=1, start=1))"
eval_images = 1
"""


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.make_folder("qwen-image", tmp_path_factory.mktemp("models") / "qwen")


def written(folder: Path, place: Path, more: str = "") -> list[str]:
    (place / "run.toml").write_text(RUN.format(out=place / "run", folder=folder, more=more))
    return ["train", str(place / "run.toml")]


def test_a_run_file_names_a_folder_of_any_family_and_the_run_goes_on(qwen: Path, tmp_path: Path) -> None:
    assert main(written(qwen, tmp_path, "guidance = 3.0")) == 0
    run = RunFolder.open(tmp_path / "run")
    assert len(list(run.texts.iterdir())) == 3, "the prompt of the iteration, a held-out one, and the negative"
    assert load_lora(run.path / "lora" / "last.safetensors").metadata["modelspec.architecture"] == "qwen-image/lora"
    assert main(["resume", str(run.path), "--iterations", "2"]) == 0
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["update"]["ratio_first"] < 1e-4 for line in lines] == [True, True]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("embedded_guidance = 2.0", "this network of Qwen-Image is not told of any"),
        ("lora = 'none.safetensors'", "none.safetensors"),
        ("guidance = 0.5", "guidance"),
    ],
)
def test_what_the_model_does_not_have_is_one_sentence_and_no_run(
    qwen: Path, tmp_path: Path, capsys, more: str, sentence: str
) -> None:
    assert main(written(qwen, tmp_path, more)) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
