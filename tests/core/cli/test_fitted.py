"""A run file that is fitted to the family of its model."""

import json
from pathlib import Path

import pytest
import tiny_pipelines

from mixgrpo_core.cli.settings import RunConfig, from_values
from mixgrpo_core.models.diffusers.loading import ModelFilesError
from mixgrpo_core.models.facts import FEW, FLUX_DEV, OTHER, SD35
from mixgrpo_core.models.families.facts_of import facts_of
from mixgrpo_core.models.families.table import FAMILIES
from mixgrpo_core.settings.presets import mixgrpo, mixgrpo_flash, mixgrpo_sd35


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: tiny_pipelines.make_folder(name, root / name) for name in ("sd3", "flux-dev", "flux-schnell")}


def run(folder: Path | str, **values) -> RunConfig:
    table = {"folder": str(folder), **values.pop("model", {})}
    return from_values({"preset": "mixgrpo_flash", "fitted": True, "model": table, **values})


def test_what_the_family_wants_is_taken_and_what_the_file_says_stays(folders: dict[str, Path]) -> None:
    found = run(folders["flux-dev"])
    assert (found.train.steps, found.train.prompts_per_iteration) == (FLUX_DEV.steps, FLUX_DEV.prompts)
    assert (found.model.guidance, found.model.height, found.model.width) == (1.0, 720, 720)
    assert found.train.planner.tail_ratio == mixgrpo_flash().planner.tail_ratio
    found = run(folders["sd3"])
    assert found.model.guidance == SD35.cfg
    assert (found.train.steps, found.train.objective.kl) == (10, mixgrpo_sd35().objective.kl), "published for it"
    own = run(folders["sd3"], model={"guidance": 2.0, "height": 64, "width": 96}, train={"steps": 14, "iterations": 7})
    assert (own.model.guidance, own.model.height, own.model.width) == (2.0, 64, 96)
    assert (own.train.steps, own.train.iterations) == (14, 7)


def test_without_it_the_publication_stands(folders: dict[str, Path]) -> None:
    assert from_values({"preset": "mixgrpo", "model": {"folder": str(folders["sd3"])}}).train == mixgrpo()


def test_few_steps_are_read_from_the_folder_its_name_and_its_loras(folders: dict[str, Path], tmp_path: Path) -> None:
    assert facts_of(folders["flux-schnell"]) is FEW
    assert facts_of(folders["sd3"]) is SD35
    assert facts_of(folders["sd3"], ["SD3.5-Hyper-8steps-lora.safetensors"]) is FEW
    turbo = tmp_path / "stable-diffusion-3.5-large-turbo"
    turbo.symlink_to(folders["sd3"])
    assert facts_of(turbo) is FEW
    found = run(folders["sd3"], model={"loras": ["lightning.safetensors:0.5"]})
    assert (found.train.steps, found.model.guidance, found.train.planner.window.size) == (FEW.steps, 1.0, 2)
    assert found.train.planner.tail_ratio == 1.0, "with so few steps there is no tail to shorten"


def test_a_pipeline_without_a_row_has_no_guidance(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "NoPipeline"}))
    (tmp_path / "transformer" / "config.json").write_text("{}")
    assert (facts_of(tmp_path).steps, facts_of(tmp_path).cfg) == (OTHER.steps, 1.0)
    with pytest.raises(ModelFilesError, match="expected a model folder"):
        run(tmp_path / "none")
    with pytest.raises(ValueError, match="fitted expects true or false"):
        from_values({"fitted": "yes"})


def test_no_row_wants_a_guidance_that_its_pipeline_has_not() -> None:
    for family in FAMILIES:
        assert family.guidance is not None or family.guider is not None or family.facts.cfg == 1, family.name
        assert (family.embedded_value is None) == (family.embedded is None), family.name
