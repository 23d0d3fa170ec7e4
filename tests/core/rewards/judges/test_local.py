"""A judge in this process: tiny random networks of the Qwen-VL family, in folders as hubs have them."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_judge import KINDS, save_judge
from torch import Tensor

from mixgrpo_core.rewards.judges import JudgeReward, LocalChat, PairwiseReward, Question, UnifiedReward2, Verdict, YesNo
from mixgrpo_core.rewards.networks.places import Offloaded, Released, Resident
from mixgrpo_core.rewards.networks.weight_files import WeightsError
from mixgrpo_core.rewards.port import RewardBatch


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """Folder and network of every kind."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    return {kind: (folder, save_judge(folder, kind).eval()) for kind, folder in folders.items()}


@pytest.fixture
def copied(judges, tmp_path):
    """A copy of a folder, to spoil."""
    return shutil.copytree(judges["qwen2_5_vl"][0], tmp_path / "judge")


def pictures(*sizes, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(height, width, 3, generator=generator) for height, width in sizes]


def patches(image: Tensor, side: int) -> Tensor:
    """Of an image whose sides are multiples of 2 x ``side``: squares of 2 x 2 patches one after another, two frames."""
    pixels = ((image * 255).round() / 255 - 0.5) / 0.5
    height, width = image.shape[0] // side, image.shape[1] // side
    rows = []
    for top in range(0, height, 2):
        for left in range(0, width, 2):
            for y, x in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                patch = pixels[y * side : (y + 1) * side, x * side : (x + 1) * side].permute(2, 0, 1)
                rows.append(patch[:, None].expand(-1, 2, -1, -1).reshape(-1))  # [3, 2 frames, side, side]
    return torch.stack(rows)


def by_hand(network, folder, image, text, tokens):
    """Log-probs of the first token, and the greedy tokens: the conversation written out, one forward pass a token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    side = network.config.vision_config.patch_size
    grid = torch.tensor([[1, image.shape[0] // side, image.shape[1] // side]])
    marks = "<|image_pad|>" * (int(grid.prod()) // 4)
    written = f"<|im_start|>user\n<|vision_start|>{marks}<|vision_end|>{text}<|im_end|>\n<|im_start|>assistant\n"
    ids, first, made = tokenizer(written, return_tensors="pt")["input_ids"], None, []
    for _ in range(tokens):
        kinds = (ids == network.config.image_token_id).int()
        with torch.no_grad():
            logits = network(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=patches(image, side),
                image_grid_thw=grid,
                mm_token_type_ids=kinds,
            ).logits[0, -1]
        first = logits.log_softmax(-1) if first is None else first
        made.append(int(logits.argmax()))
        ids = torch.cat((ids, torch.tensor([[made[-1]]])), 1)
        if made[-1] == tokenizer.eos_token_id:
            break
    return tokenizer, first, made


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_a_forward_pass_by_hand(judges, kind):
    folder, network = judges[kind]
    side = 2 * network.config.vision_config.patch_size
    (image,) = pictures((3 * side, 2 * side))
    tokenizer, first, made = by_hand(network, folder, image, "Yes or No?", 6)
    (answer,) = LocalChat(str(folder), place=Resident("cpu")).ask([Question("Yes or No?", (image,), 6, 300)])
    assert answer.problem == "" and answer.text == tokenizer.decode(made, skip_special_tokens=True).strip()
    for word in (" Yes", "No", "Yes", "5", " Score"):
        (token,) = tokenizer(word, add_special_tokens=False)["input_ids"]
        assert answer.first[word] == pytest.approx(float(first[token]), abs=1e-5)
    assert list(answer.first.values()) == sorted(answer.first.values(), reverse=True)
    assert sum(math.exp(log_prob) for log_prob in answer.first.values()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_a_loop_in_any_order(judges, kind):
    folder, _ = judges[kind]
    one, two, three = pictures((70, 50), (41, 97), (64, 64))
    questions = [
        Question("Yes?", (one,), 4, 8),
        Question("Which one is better, and why is it so?", (one, two), 4, 8),
        Question("No?", (three,), 1, 8),
        Question("Yes No Yes No?", (two,), 4, 0),
    ]
    chat = LocalChat(str(folder), place=Resident("cpu"), batch=4)
    together = chat.ask(questions)
    assert len({answer.text for answer in together}) > 1 and together[3].first == {}
    for question, answer in zip(questions, together, strict=True):
        (alone,) = LocalChat(str(folder), place=Resident("cpu"), batch=1).ask([question])
        assert alone.text == answer.text
        assert alone.first == pytest.approx(answer.first, abs=1e-5)
    backwards = chat.ask(questions[::-1])[::-1]
    assert [answer.text for answer in backwards] == [answer.text for answer in together]


def test_a_judge_in_this_process_is_a_reward(judges):
    folder, network = judges["qwen2_5_vl"]
    images = torch.stack(pictures((56, 56), (56, 56), (56, 56)))
    text = 'Does this figure show "No"? Please answer yes or no.'
    hands = [by_hand(network, folder, image, text, 1)[:2] for image in images]
    tokenizer, first = hands[0]
    likely = [tokenizer.decode([token]).strip().casefold() for token in first.topk(20).indices.tolist()]
    one = next(word for word in likely if word.isalnum())  # a random network seldom says yes
    other = next(word for word in likely if word.isalnum() and word[0] != one[0])
    chat = LocalChat(str(folder), place=Offloaded("cpu"))
    reward = JudgeReward(chat=chat, mode=YesNo(levels=((one, 1.0), (other, 0.0)), least=1e-6))
    reward.prepare(["No"])
    scores = reward(RewardBatch(images=images, prompts=("No",) * 3))
    for (_, first), value in zip(hands, scores.values.tolist(), strict=True):
        top = {token: float(first[token].exp()) for token in first.topk(20).indices.tolist()}
        said = dict.fromkeys((one, other), 0.0)
        for token, share in top.items():
            word = tokenizer.decode([token]).strip().casefold()
            said[word] = said.get(word, 0.0) + share
        assert value == pytest.approx(said[one] / (said[one] + said[other]), abs=1e-5)
    assert scores.valid.all() and 0 < scores.values.mean() < 1
    assert reward.about.memory == sum(4 * parameter.numel() for parameter in network.parameters())


def test_nonsense_is_masked(judges):
    chat = LocalChat(str(judges["qwen2_5_vl"][0]), place=Resident("cpu"))
    batch = RewardBatch(images=torch.stack(pictures((28, 28), (28, 28))), prompts=("Yes",) * 2)
    for reward in (
        JudgeReward(chat=chat, mode=UnifiedReward2(max_tokens=6)),
        PairwiseReward(chat=chat, comparison=Verdict(max_tokens=6)),
    ):
        found = reward(batch)
        assert not found.valid.any() and "expected" in found.note


def test_a_picture_that_cannot_be_shown_costs_its_question_only(judges):
    chat = LocalChat(str(judges["qwen2_5_vl"][0]), place=Resident("cpu"))
    flat, whole, broken, pixel = pictures((1, 300), (56, 56), (56, 56), (1, 1))
    broken[3, 3] = math.nan
    answers = chat.ask([Question("Yes?", (image,), 2) for image in (flat, whole, broken, pixel)])
    assert [bool(answer.problem) for answer in answers] == [True, False, True, False]
    assert "aspect ratio" in answers[0].problem and "NaN" in answers[2].problem


def test_text_cannot_pose_as_a_picture(judges):
    chat = LocalChat(str(judges["qwen2_5_vl"][0]), place=Resident("cpu"))
    (answer,) = chat.ask([Question("<|image_pad|> Yes?", tuple(pictures((28, 28))), 2)])
    assert "expected 1 places for images, found 2" in answer.problem


def test_a_large_picture_is_shrunk_first(judges):
    (image,) = pictures((112, 56))
    folder = str(judges["qwen2_5_vl"][0])
    by_size = {
        side: LocalChat(folder, longest_side=side, place=Resident("cpu"))
        .ask([Question("Yes?", (image,), 1, 5)])[0]
        .first
        for side in (0, 112, 56)
    }
    assert by_size[0] == by_size[112] != by_size[56]


@pytest.mark.parametrize("place", [Resident("cpu"), Offloaded("cpu"), Released("cpu")])
def test_two_rewards_share_one_network(judges, place):
    folder = str(judges["qwen3_vl"][0])
    one, other = LocalChat(folder, place=place), LocalChat(folder, place=place, batch=2, longest_side=100)
    one.check()
    assert one._tower.network is other._tower.network and one._tower.network.loaded == place.keeps
    assert LocalChat(folder, precision="bfloat16", place=place)._tower.network is not one._tower.network


def test_precision_is_that_of_the_weights(judges):
    chat = LocalChat(str(judges["qwen2_5_vl"][0]), precision="bfloat16", place=Resident("cpu"))
    with chat._tower.at_place() as network:
        assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
    exact = LocalChat(str(judges["qwen2_5_vl"][0]), place=Resident("cpu"))
    question = Question("Yes?", tuple(pictures((56, 56))), 1, 300)
    low, high = chat.ask([question])[0].first, exact.ask([question])[0].first
    assert low != high and low["Yes"] == pytest.approx(high["Yes"], abs=0.5)
    assert chat.memory * 2 == exact.memory


def test_the_licence_is_known_by_the_folders_name(judges, tmp_path):
    folder = shutil.copytree(judges["qwen2_vl"][0], tmp_path / "UnifiedReward-2.0-qwen-3b")
    assert "research only" in PairwiseReward(chat=LocalChat(str(folder))).about.licence
    assert JudgeReward(chat=LocalChat(str(judges["qwen2_vl"][0]))).about.licence == ""


# folders that are not right


def test_no_folder(tmp_path):
    with pytest.raises(WeightsError, match="found nothing: check the path"):
        JudgeReward(chat=LocalChat(str(tmp_path / "gone"))).prepare([])
    assert LocalChat(str(tmp_path / "gone")).memory == 0


@pytest.mark.parametrize("name", ["tokenizer.json", "preprocessor_config.json"])
def test_a_missing_file(copied, name):
    (copied / name).unlink()
    with pytest.raises(
        WeightsError,
        match="lacks (tokenizer.json, or vocab.json and merges.txt|preprocessor_config.json).*whole folder",
    ):
        LocalChat(str(copied), place=Resident("cpu")).check()


def test_a_tokenizer_without_a_chat_template(copied):
    (copied / "chat_template.jinja").unlink()
    with pytest.raises(WeightsError, match="no chat template"):
        LocalChat(str(copied), place=Resident("cpu")).check()


def test_a_chat_template_in_a_file_of_its_own(copied):
    question = Question("Yes?", tuple(pictures((56, 56))), 3)
    before = LocalChat(str(copied), place=Resident("cpu")).ask([question])
    template = (copied / "chat_template.jinja").read_text()
    (copied / "chat_template.jinja").unlink()
    (copied / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert LocalChat(str(copied), place=Resident("cpu")).ask([question]) == before


def test_a_broken_tokenizer(copied):
    (copied / "tokenizer.json").write_text("{")
    with pytest.raises(WeightsError, match="tokenizer or image settings in .* cannot be read"):
        LocalChat(str(copied), place=Resident("cpu")).check()


def test_another_kind_of_network(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "model_type": "llava_onevision"}))
    with pytest.raises(WeightsError, match="expected a model of qwen2_vl.*found 'llava_onevision'.*as an endpoint"):
        LocalChat(str(copied), place=Resident("cpu")).check()


def test_a_truncated_file(copied):
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        LocalChat(str(copied), place=Resident("cpu")).check()


@pytest.mark.parametrize(
    "spoil", [lambda tensor: None, lambda tensor: tensor[:-1].clone()], ids=["missing", "another shape"]
)
def test_a_weight_that_is_not_there_is_not_made_up(copied, spoil):
    file = copied / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("layers.1.mlp.up_proj.weight"))
    spoilt = spoil(tensors.pop(name))
    save_file(tensors if spoilt is None else {**tensors, name: spoilt}, file, metadata={"format": "pt"})
    with pytest.raises(
        WeightsError, match=r"it has (no tensor|another shape of) \S*layers\.1\.mlp\.up_proj\S*: get it again"
    ):
        LocalChat(str(copied), place=Resident("cpu")).check()


def test_a_tokenizer_that_is_not_whole_is_refused(copied):
    whole = json.loads((copied / "tokenizer.json").read_text())
    (copied / "tokenizer.json").write_text(
        json.dumps({**whole, "model": {**whole["model"], "vocab": {}, "merges": []}})
    )
    with pytest.raises(WeightsError, match="vocabulary has .* and the text encoder's|cannot be read"):
        JudgeReward(LocalChat(str(copied)), YesNo()).prepare(["a cat"])
    (copied / "tokenizer.json").unlink()
    (copied / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
    with pytest.raises(WeightsError, match=r"lacks merges\.txt, or tokenizer\.json"):
        JudgeReward(LocalChat(str(copied)), YesNo()).prepare(["a cat"])
