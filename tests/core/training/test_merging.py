"""Merging LoRAs: a student that follows teachers, and the exact sum."""

import pytest
import torch
from toy import ToyModel

from mixgrpo_core.cli import main
from mixgrpo_core.models.lora import require_alike
from mixgrpo_core.models.lora_file import LoraFile, load_lora, save_lora
from mixgrpo_core.models.lora_joining import joined
from mixgrpo_core.training.merging.loop import MergeConfig, _compared, distances, merge, teachers_of, weights_for

CONFIG = MergeConfig(updates=60, learning_rate=0.05, prompts=4, images=4, steps=6, levels=3, look_every=60)


def lora(seed, rank=2):
    draw = torch.Generator().manual_seed(seed)
    state = {
        "net.lora_A.weight": torch.randn(rank, 14, generator=draw) / 4,
        "net.lora_B.weight": torch.randn(12, rank, generator=draw) / 4,
    }
    return LoraFile(state=state, metadata={}, rank=rank)


def taught(prompts, seeds=(1, 2)):
    model = ToyModel()
    return model, teachers_of(model, {f"t{seed}": lora(seed, rank=1) for seed in seeds}, prompts)


def test_a_student_learns_from_each_teacher_on_its_prompts():
    """The toy adds one linear map, whatever the prompt: teachers that differ by a factor can both be followed."""
    prompts = {"t1": ["a", "b"], "t2": ["a long prompt of a circle", "a long prompt of a square"]}
    states = []
    for _ in range(2):
        model = ToyModel()
        weaker = {name: tensor * 0.8 if "lora_B" in name else tensor for name, tensor in lora(1).state.items()}
        files = {"t1": lora(1), "t2": LoraFile(state=weaker, metadata={}, rank=2)}
        teachers = teachers_of(model, files, prompts)
        before = distances(model, teachers, CONFIG)
        reports = list(merge(model, teachers, CONFIG))
        states.append({name: tensor.clone() for name, tensor in model.lora_state().items()})
    assert before == pytest.approx({"t1": 1.0, "t2": 1.0})
    assert all(far < 0.1 for far in reports[-1].distances.values()), reports[-1].distances
    assert reports[-1].loss < reports[0].loss
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_one_teacher_is_reached_and_an_anchor_holds_back():
    far = {}
    for anchor in (0.0, 3.0):
        model, teachers = taught({"t1": ["a", "b"]}, seeds=(1,))
        config = MergeConfig(**{**vars(CONFIG), "anchor": anchor})
        far[anchor] = list(merge(model, teachers, config))[-1].distances["t1"]
    assert far[0.0] < 0.1
    assert far[3.0] > 0.4  # the best is 3/4 of the way back to the base: (3/4)^2 = 0.56


def test_a_prompt_of_two_teachers_has_the_sum_of_their_changes():
    model, teachers = taught({"t1": ["a"], "t2": ["a"]})
    x, sigma = model.noise(0, 3), torch.tensor(0.5)

    def body(velocity):
        v, target, base = _compared(model, teachers, "a", velocity, x, sigma)
        found = []
        for teacher in teachers:
            with model.with_weights(teacher.weights):
                found.append(velocity(x, sigma) - base)
        return v, target, base, found

    with torch.no_grad():
        v, target, base, changes = model.run((model.encode("a"),), body)
    assert torch.allclose(v, base)  # a fresh student is the base
    assert torch.allclose(target, base + changes[0] + changes[1], atol=1e-6)


def test_a_teacher_may_leave_layers_out_and_have_none_that_the_student_lacks():
    whole = lora(1, rank=3)

    class Wider(ToyModel):
        """The toy with a second layer in its LoRA, which its network does not ask."""

        def lora_state(self):
            more = {"more.lora_A.weight": torch.ones(1, 4), "more.lora_B.weight": torch.zeros(5, 1)}
            return {**super().lora_state(), **more}

        def with_weights(self, weights):
            require_alike(weights, self.lora_state(), any_rank=True)
            rest = None if weights is None else {key: w for key, w in weights.items() if not key.startswith("more")}
            return super().with_weights(rest)

    wide = weights_for(Wider(), "narrow", whole)
    assert wide["more.lora_A.weight"].shape == (3, 4) and not wide["more.lora_B.weight"].any()
    assert torch.equal(wide["net.lora_A.weight"], whole.state["net.lora_A.weight"])
    extra = {**whole.state, "other.lora_A.weight": torch.ones(3, 4), "other.lora_B.weight": torch.ones(5, 3)}
    with pytest.raises(ValueError, match=r"the teacher wide changes layers .*other.lora_A"):
        weights_for(Wider(), "wide", LoraFile(state=extra, metadata={}, rank=3))
    foreign = {"other.lora_A.weight": torch.ones(3, 4), "other.lora_B.weight": torch.ones(5, 3)}
    with pytest.raises(ValueError, match=r"the teacher foreign is of another architecture"):
        weights_for(Wider(), "foreign", LoraFile(state=foreign, metadata={}, rank=3))


def test_the_exact_sum_adds_up_changes_and_ranks(tmp_path, capsys):
    one, other = lora(1, rank=2), lora(2, rank=3)
    other = LoraFile(
        state={**other.state, "more.lora_A.weight": torch.ones(1, 4), "more.lora_B.weight": torch.ones(5, 1)},
        metadata={}, rank=3,
    )  # fmt: skip
    state = joined([one, other], [1.0, 0.5])

    def change(state, module="net"):
        return state[f"{module}.lora_B.weight"] @ state[f"{module}.lora_A.weight"]

    assert torch.allclose(change(state), change(one.state) + 0.5 * change(other.state), atol=1e-6)
    assert torch.allclose(change(state, "more"), torch.full((5, 4), 0.5))
    assert {len(tensor) for name, tensor in state.items() if ".lora_A" in name} == {5}
    for name, file in (("a", one), ("b", lora(2, rank=3))):
        save_lora(tmp_path / f"{name}.safetensors", file.state)
    files = ("a", str(tmp_path / "a.safetensors"), "b", str(tmp_path / "b.safetensors"))
    assert main(["merge-loras", "--teachers", *files, "--how", "join", "--out", str(tmp_path / "out")]) == 0
    found = load_lora(tmp_path / "out/lora.safetensors")
    assert found.rank == 5
    assert torch.allclose(change(found.state), change(one.state) + change(lora(2, rank=3).state), atol=1e-6)


def test_what_cannot_be_merged_is_one_sentence(tmp_path, capsys):
    model, files = ToyModel(), {"t1": lora(1), "t2": lora(2)}
    with pytest.raises(ValueError, match="expected prompts for each teacher, found none for t2"):
        teachers_of(model, files, {"t1": ["a"]})
    with pytest.raises(ValueError, match="there are prompts for t3, and no such teacher"):
        teachers_of(model, files, {"t1": ["a"], "t2": ["b"], "t3": ["c"]})
    other = LoraFile(
        state={"net.lora_A.weight": torch.ones(2, 9), "net.lora_B.weight": torch.ones(12, 2)}, metadata={}, rank=2
    )
    with pytest.raises(ValueError, match="layer net has the sizes"):
        joined([files["t1"], other], [1.0, 1.0])
    save_lora(tmp_path / "a.safetensors", files["t1"].state)
    assert main(["merge-loras", "--teachers", "a", str(tmp_path / "a.safetensors")]) == 2
    assert "two LoRAs or more" in capsys.readouterr().err
