"""The LoRA file: what stands in it, what is refused, and that it appears whole or not at all."""

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mixgrpo_core.models.lora_file import LoraFileError, load_lora, save_lora
from mixgrpo_core.models.lora_metadata import model_metadata, training_metadata

A, B = "lora_A.weight", "lora_B.weight"


def state(rank: int = 3, modules: tuple[str, ...] = ("blocks.0.attn.to_q", "blocks.1.ff.net.2"), seed: int = 0) -> dict:
    """A LoRA with 5 inputs and 7 outputs per module."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {A: (rank, 5), B: (7, rank)}
    return {f"{m}.{kind}": torch.randn(s, generator=draw) for m in modules for kind, s in shapes.items()}


def test_the_file_has_the_names_and_the_scale_both_hosts_expect(tmp_path: Path) -> None:
    ours = state()
    path = save_lora(tmp_path / "deep" / "a.safetensors", ours, scale=0.5, metadata={"mixgrpo.x": "1"})
    raw = load_file(path)
    assert set(raw) == {f"transformer.{name}" for name in ours}
    for name, tensor in ours.items():
        assert torch.equal(raw[f"transformer.{name}"], tensor * 0.5 if name.endswith(B) else tensor)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "mixgrpo.x": "1"}
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]


@settings(max_examples=20, deadline=None)
@given(rank=st.integers(1, 6), scale=st.sampled_from([0.25, 1.0, 2.0]), seed=st.integers(0, 99))
def test_a_saved_lora_is_read_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, rank, scale, seed) -> None:
    ours = state(rank, seed=seed)
    file = load_lora(save_lora(tmp_path_factory.mktemp("lora") / "a.safetensors", ours, scale=scale))
    assert file.rank == rank
    assert list(file.state) == sorted(ours)
    assert all(torch.equal(file.state[name], t * scale if name.endswith(B) else t) for name, t in ours.items())


def test_bfloat16_halves_the_file_and_moves_the_change_by_what_the_docstring_says(tmp_path: Path) -> None:
    ours = state(rank=8)
    file = load_lora(save_lora(tmp_path / "a.safetensors", ours, dtype=torch.bfloat16))
    module = "blocks.0.attn.to_q."
    exact, stored = (s[module + B] @ s[module + A] for s in (ours, file.state))
    assert load_file(tmp_path / "a.safetensors")[f"transformer.{module}{A}"].dtype == torch.bfloat16
    assert 1e-4 < (stored - exact).norm() / exact.norm() < 5e-3


def test_views_and_shared_memory_can_be_saved(tmp_path: Path) -> None:
    whole = torch.randn(5, 10)
    ours = {f"m.{A}": whole[:, :5].T[:3], f"m.{B}": whole[:, :3]}
    file = load_lora(save_lora(tmp_path / "a.safetensors", ours))
    assert all(torch.equal(file.state[name], tensor) for name, tensor in ours.items())


def test_files_without_the_prefix_and_with_alpha_are_read_as_the_same_function(tmp_path: Path) -> None:
    ours = state(rank=4)
    save_file(ours, tmp_path / "bare.safetensors")
    alphas = {f"transformer.{m}.alpha": torch.tensor(8.0) for m in ("blocks.0.attn.to_q", "blocks.1.ff.net.2")}
    save_file({**{f"transformer.{n}": t for n, t in ours.items()}, **alphas}, tmp_path / "alpha.safetensors")
    bare, scaled = load_lora(tmp_path / "bare.safetensors"), load_lora(tmp_path / "alpha.safetensors")
    for name, tensor in ours.items():
        assert torch.equal(bare.state[name], tensor)
        assert torch.equal(scaled.state[name], tensor * 2 if name.endswith(B) else tensor)


BAD = {
    "holds only foreign tensors": ({"conv.weight": torch.ones(2, 2)}, "not a LoRA of diffusers names.*conv.weight"),
    "holds a kohya LoRA": (
        {"lora_unet_x.lora_down.weight": torch.ones(2, 2)},
        "names of kohya.*MixGRPO Convert",
    ),
    "holds nothing": ({}, "not a LoRA.*no tensors"),
    "holds A without B": ({f"m.{A}": torch.ones(2, 5)}, rf"half a LoRA: m\.{B} is missing"),
    "holds B without A": ({f"m.{B}": torch.ones(5, 2)}, rf"half a LoRA: m\.{A} is missing"),
    "holds rank 0": (
        {f"m.{A}": torch.ones(0, 5), f"m.{B}": torch.ones(5, 0), "m.alpha": torch.ones(())},
        "rank 0 for m",
    ),
    "holds nan": ({**state(2, ("m",)), f"n.{A}": torch.full((2, 5), torch.nan)}, rf"not finite .*in n\.{A}"),
    "holds infinity": ({**state(2, ("m",)), f"n.{A}": torch.full((2, 5), torch.inf)}, rf"not finite .*in n\.{A}"),
    "holds an alpha of nan": ({**state(2, ("m",)), "m.alpha": torch.tensor(torch.nan)}, r"not finite .*in m\.alpha"),
    "holds an alpha of many": ({**state(2, ("m",)), "m.alpha": torch.ones(2)}, r"one number as m\.alpha"),
    "holds a LoRA twice": ({**state(2, ("m",)), "m.lora_down.weight": torch.ones(2, 5)}, "twice, under two names"),
    "holds DoRA": ({**state(2, ("m",)), "m.lora_magnitude_vector": torch.ones(7)}, "is DoRA.*start a new LoRA"),
    "holds kohya's DoRA": ({**state(2, ("m",)), "m.dora_scale": torch.ones(7)}, "is DoRA.*start a new LoRA"),
    "holds LoKr": ({"m.lokr_w1": torch.ones(2, 2), "m.lokr_w2": torch.ones(2, 2)}, "is LoKr.*full rank"),
    "holds LoHa": ({"m.hada_w1_a": torch.ones(2, 2)}, "is LoHa"),
    "holds a bias": ({**state(2, ("m",)), "m.lora_B.bias": torch.ones(7)}, r"expected only pairs.*m\.lora_B\.bias"),
    "holds A and B that do not fit": ({f"m.{A}": torch.ones(2, 5), f"m.{B}": torch.ones(5, 3)}, r"\[2, 5\].*\[5, 3\]"),
    "holds a convolution": ({f"m.{A}": torch.ones(2, 5, 1, 1), f"m.{B}": torch.ones(5, 2, 1, 1)}, "linear layers"),
    "holds an alpha alone": ({**state(2, ("m",)), "n.alpha": torch.tensor(1.0)}, "alpha for n"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_file_that(what: str, tmp_path: Path) -> None:
    tensors, message = BAD[what]
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(LoraFileError, match=message):
        load_lora(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_a_truncated_file_is_refused(kept: int, tmp_path: Path) -> None:
    path = save_lora(tmp_path / "a.safetensors", state())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(LoraFileError, match="not a whole safetensors file"):
        load_lora(path)


def test_a_file_that_is_a_pointer_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(LoraFileError, match="git-lfs pointer .*: run 'git lfs pull'"):
        load_lora(tmp_path / "a.safetensors")


def test_layers_of_several_ranks_do_what_they_did_and_can_all_be_trained(tmp_path: Path) -> None:
    ours = {**state(2, ("m",)), **state(3, ("n",))}
    save_file(ours, tmp_path / "a.safetensors")
    file = load_lora(tmp_path / "a.safetensors")
    assert file.rank == 3
    for layer in "mn":
        down, up = file.state[f"{layer}.{A}"], file.state[f"{layer}.{B}"]
        torch.testing.assert_close(up @ down, ours[f"{layer}.{B}"] @ ours[f"{layer}.{A}"])
        assert (len(down), up.shape[1]) == (3, 3)
        assert (down.abs().sum(1) > 0).all(), "B of a row of zeros would have no gradient"


NAMES = {
    "a prefix": "transformer.{}.lora_A.weight",
    "peft and no prefix, with an alpha": "base_model.model.{}.lora_A.weight",
    "an adapter's name": "transformer.{}.lora_A.default.weight",
    "kohya's ends": "transformer.{}.lora_down.weight",
    "diffusers before peft": "transformer.{}.lora.down.weight",
    "no ends": "transformer.{}.lora_A",
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_other_tools_are_read(kind: str, tmp_path: Path) -> None:
    ours, named = state(2), {}
    for name, tensor in ours.items():
        layer = name.removesuffix(A).removesuffix(B).removesuffix(".")
        down = NAMES[kind].format(layer)
        named[down if name.endswith(A) else down.replace("down", "up").replace("lora_A", "lora_B")] = tensor
        named[down.split(layer)[0] + layer + ".alpha"] = torch.tensor(2.0)
    save_file(named, tmp_path / "a.safetensors")
    file = load_lora(tmp_path / "a.safetensors")
    assert file.state.keys() == ours.keys()
    assert all(torch.equal(file.state[name], tensor) for name, tensor in ours.items())


def test_parts_for_text_encoders_stay_out_and_are_told(tmp_path: Path) -> None:
    ours = state(2)
    save_file({**ours, "lora_te1_text_model_x.lora_up.weight": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    with pytest.warns(RuntimeWarning, match="1 tensors of text encoders .*lora_te1_text_model_x"):
        assert load_lora(tmp_path / "a.safetensors").state.keys() == ours.keys()


def test_no_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoraFileError, match="found nothing"):
        load_lora(tmp_path / "none.safetensors")
    with pytest.raises(LoraFileError, match="found a folder without adapter_model.safetensors"):
        load_lora(tmp_path)


def test_what_is_not_a_lora_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(LoraFileError, match="half a LoRA"):
        save_lora(tmp_path / "a.safetensors", {f"m.{A}": torch.ones(2, 5)})
    with pytest.raises(LoraFileError, match="'steps' is int"):
        save_lora(tmp_path / "a.safetensors", state(), metadata={"steps": 3})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = save_lora(tmp_path / "a.safetensors", state())
    before = path.read_bytes()
    large = {f"m.{A}": torch.ones(8, 20_000), f"m.{B}": torch.ones(7, 8)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (2**16, hard)
    )  # the kernel refuses what is written beyond, as a full disk
    try:
        with pytest.raises(LoraFileError, match=r"could not write .*a\.safetensors \(0\.6 MiB\): .*make room"):
            save_lora(path, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(LoraFileError, match="could not write"):
        save_lora(tmp_path / "taken" / "a.safetensors", state())


def test_the_metadata_are_strings_that_lora_managers_know(tmp_path: Path) -> None:
    training = training_metadata(
        title="circles",
        config={"window": {"size": 4}},
        learning_rate=3e-4,
        seed=7,
        steps=60,
        rewards_before={"shape": 0.396},
        rewards_after={"shape": 0.729},
        started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        finished=datetime(2026, 1, 2, 4, 4, 5, tzinfo=timezone.utc),
    )
    model = model_metadata(
        architecture="stable-diffusion-3.5-medium",
        base_model="demo",
        rank=8,
        alpha=16.0,
        resolution=(512, 768),
        precision="bfloat16",
    )
    assert not set(training) & set(model)
    words = {**training, **model}
    assert all(isinstance(value, str) and value for value in words.values())
    assert words["modelspec.architecture"] == "stable-diffusion-3.5-medium/lora"
    assert words["modelspec.resolution"] == "768x512"
    assert words["modelspec.date"] == "2026-01-02T04:04:05+00:00"
    assert (words["ss_network_dim"], words["ss_network_alpha"], words["mixgrpo.alpha"]) == ("8", "8", "16.0")
    assert (words["ss_learning_rate"], words["ss_steps"], words["ss_seed"]) == ("0.0003", "60", "7")
    assert float(words["ss_training_finished_at"]) - float(words["ss_training_started_at"]) == 3600
    assert json.loads(words["mixgrpo.config"]) == {"window": {"size": 4}}
    assert json.loads(words["mixgrpo.rewards_after"]) == {"shape": 0.729}
    assert "modelspec.trigger_phrase" not in words
    assert load_lora(save_lora(tmp_path / "a.safetensors", state(), metadata=words)).metadata == {
        **words,
        "format": "pt",
    }


def test_an_alpha_that_makes_numbers_infinite_is_told(tmp_path):
    tensors = {"a.to_q.lora_A.weight": torch.ones(1, 2), "a.to_q.lora_B.weight": torch.full((2, 1), 1e38)}
    save_file({**tensors, "a.to_q.alpha": torch.tensor(64.0)}, tmp_path / "lora.safetensors")
    with pytest.raises(LoraFileError, match="not finite"):
        load_lora(tmp_path / "lora.safetensors")


def test_a_tensor_of_more_dimensions_than_torch_computes_with_is_told(tmp_path):
    """Torch reads such a file and fails at the first thing that is done with it."""
    header = {"a.to_q.lora_A.weight": {"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    (tmp_path / "lora.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(LoraFileError, match="of 70 dimensions"):
        load_lora(tmp_path / "lora.safetensors")
