"""What is said where several processes cannot be one run: settings, devices, folders, a base in shards."""

import json
import os
from dataclasses import replace

import pytest
import torch
from ranks import together
from torch import nn

from mixgrpo_core.cli import main
from mixgrpo_core.cli.all_ranks import created, own_device, require_same_file
from mixgrpo_core.cli.model_config import ModelConfig
from mixgrpo_core.cli.settings import PromptConfig, RunConfig
from mixgrpo_core.models.diffusers.shards import Shards
from mixgrpo_core.models.diffusers.smaller import Smaller
from mixgrpo_core.models.quantization import FLOAT8, TORCHAO
from mixgrpo_core.runs.folder import RunFolder
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.support.ranks import Ranks

SETTINGS = RunConfig(out="run", prompts=PromptConfig(train=("a dot", "a line"), held_out=("a cross",)))


def two():
    """Two ranks in name."""
    return Ranks.foreseen(2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_ranks_without_gpus_say_so():
    assert own_device(None, two()) == "cpu"
    with pytest.raises(ValueError, match="expected a GPU for each rank, found 0 on the machine of rank 0"):
        own_device("cuda", two())
    with pytest.raises(ValueError, match="is one GPU, and 2 ranks were started"):
        own_device("cuda:1", two())


def elsewhere(ranks, folder, there):
    """The second rank has another disk, where ``there`` tells whether a run of this name lies, too."""
    own = folder / str(ranks.rank)
    own.mkdir()
    os.chdir(own)
    if ranks.rank and there:
        settings = RunFolder.create("run", TrainConfig(), {}).path / "config.json"
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "started": "2020-01-01T00:00:00+00:00"}))
    with ranks.together():
        created(SETTINGS, ranks)


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (False, "rank 1 does not see the run folder run"),
        (True, "expected the start of the run in run to be the same on all 2 ranks"),
    ],
)
def test_a_run_folder_that_not_all_see_is_said(there, words, tmp_path):
    (tmp_path / "disks").mkdir()
    for _, said in together(2, tmp_path / "meet", elsewhere, tmp_path / "disks", there):
        assert words in said


def differently(ranks):
    require_same_file(replace(SETTINGS, model=ModelConfig(sharded=ranks.is_first)), ranks)


def test_ranks_that_differ_in_shards_say_so(tmp_path):
    for kind, said in together(2, tmp_path, differently):
        assert kind == "RankFailed"
        assert "expected model.sharded to be the same on all 2 ranks, found True on rank 0 and False on rank 1" in said


def test_one_process_alone_holds_no_part(tmp_path, capsys):
    out = ("--out", str(tmp_path / "run"))
    assert main(["train", "--model.sharded", *out]) == 2
    assert "model.sharded deals the base out to several processes, found one" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="the demo model is as small as it gets: leave .* and model.sharded out"):
        ModelConfig(sharded=True).make(two())


def test_what_cannot_be_dealt_out_is_refused():
    assert Smaller(quantization=FLOAT8, ranks=two()).quantization == FLOAT8
    with pytest.raises(ValueError, match="expected model.offload or model.sharded, found both"):
        Smaller(offload=3, ranks=two())
    for how in ({"quantization": TORCHAO}, {"gguf": "a.gguf"}):
        with pytest.raises(ValueError, match="expected plain weights or model.quantization = 'float8' with model.shar"):
            Smaller(**how, ranks=two())
    network, device = nn.Sequential(nn.Linear(2, 2)), torch.device("cpu")
    with pytest.raises(ValueError, match="expected a network of repeated blocks for model.sharded, found none in Seq"):
        Shards(network, [], [], two(), device)
    with pytest.raises(ValueError, match="expected the device cuda or cpu for model.sharded, found mps"):
        Shards(network, [*network, *network], [], two(), torch.device("mps"))
    network[0].weight = nn.Parameter(network[0].weight.detach().to(torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match=r"or those of float8 for model.sharded, found torch.int8 in Sequential"):
        Shards(network, [*network, *network], [], two(), device)
