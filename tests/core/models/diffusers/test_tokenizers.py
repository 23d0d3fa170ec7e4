"""Text encoders that do not read: every partial tokenizer, and every encoder without a say, ends before a run."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_sd3 import load, make_folder
from transformers import CLIPTextConfig, CLIPTokenizer

from mixgrpo_core.models.diffusers.loading import ModelFilesError
from mixgrpo_core.models.diffusers.tokenizers import load_tokenizer
from mixgrpo_core.models.families.demo import load_demo
from mixgrpo_core.models.told_apart import ToldApart

BUNDLED = Path(__file__).resolve().parents[4] / "mixgrpo_core/assets/clip_tokenizer"
PROMPTS = ("a red circle", "a tan circle")  # of one length: an encoder that counts tokens only is found, too


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "sd3")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.mark.parametrize("name", ["tokenizer", "tokenizer_2", "tokenizer_3"])
def test_a_tokenizer_without_its_files_is_refused(copy: Path, name: str) -> None:
    (copy / name / "tokenizer.json").unlink()
    missing = "tokenizer.json, or " + ("spiece.model" if name == "tokenizer_3" else "vocab.json and merges.txt")
    with pytest.raises(ModelFilesError, match=f"{name} lacks {missing} in its place; get .*{name} again"):
        load(copy).prepare(PROMPTS)
    for file in (copy / name).iterdir():
        file.unlink()
    with pytest.raises(ModelFilesError, match=f"{name} lacks"):
        load(copy).prepare(PROMPTS)


def test_t5_without_its_tokenizer_is_not_left_out_silently(copy: Path) -> None:
    shutil.rmtree(copy / "tokenizer_3")
    with pytest.raises(ModelFilesError, match=r"tokenizer_3 lacks tokenizer\.json"):
        load(copy).prepare(PROMPTS)


def test_clips_files_are_asked_for_one_by_one(tmp_path: Path) -> None:
    encoder = CLIPTextConfig(vocab_size=49408, eos_token_id=2)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(BUNDLED / name, tmp_path)
    with pytest.raises(
        ValueError, match=r"lacks tokenizer_config\.json"
    ):  # it holds the length that prompts are cut to
        load_tokenizer(CLIPTokenizer, tmp_path, encoder)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77}))
    made = load_tokenizer(CLIPTokenizer, tmp_path, encoder)
    assert made("a photograph").input_ids == [49406, 320, 8853, 49407]
    with pytest.raises(ValueError, match=r"has 49408 tokens, and the text encoder's 32128"):
        load_tokenizer(CLIPTokenizer, tmp_path, CLIPTextConfig(vocab_size=32128))
    with pytest.raises(ValueError, match=r"ends with token 49407, and the text encoder looks for 5"):
        load_tokenizer(CLIPTokenizer, tmp_path, CLIPTextConfig(vocab_size=49408, eos_token_id=5))
    merges = (tmp_path / "merges.txt").read_text(encoding="utf-8")
    (tmp_path / "merges.txt").write_text(merges[: len(merges) // 2].rpartition("\n")[0], encoding="utf-8")
    with pytest.raises(ValueError, match="its merges are not those of its vocabulary"):
        load_tokenizer(CLIPTokenizer, tmp_path, encoder)
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(ValueError, match=r"lacks vocab\.json, or tokenizer\.json in its place"):
        load_tokenizer(CLIPTokenizer, tmp_path, encoder)


@pytest.mark.parametrize("name", ["text_encoder", "text_encoder_2", "text_encoder_3"])
def test_an_encoder_that_ignores_its_tokens_is_refused_though_the_others_read(copy: Path, name: str) -> None:
    path = copy / name / "model.safetensors"
    tensors = load_file(path)
    for key, tensor in tensors.items():
        if "token_embedding" in key or key in ("shared.weight", "encoder.embed_tokens.weight"):
            tensors[key] = tensor[:1].expand_as(tensor).contiguous()
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ValueError, match=rf"{name} with its tokenizer reads two different prompts as one .*red circle"):
        load(copy).prepare(PROMPTS)


def test_whole_folders_and_the_demo_read_their_prompts(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load(folder, guidance=3.0).prepare([*PROMPTS, PROMPTS[0]])
        load_demo().prepare(["a red circle", "a blue circle", "a circle"])
    assert caplog.text == "", "nothing is refused, and nothing is warned of"


def test_prompts_that_differ_where_nobody_reads_are_said_and_go_on(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load(folder)
    long = "ab " * 130
    with caplog.at_level(logging.WARNING):
        model.prepare([long + "red", long + "blue", "a cat"])
    assert "two prompts are the same to this model, which reads no more than 256 tokens" in caplog.text


def test_numbers_that_are_not_finite_and_prompts_without_english_words() -> None:
    apart = ToldApart()
    same = torch.ones(1, 4)
    apart.hear("猫", {"T5": same})
    apart.hear("狗", {"T5": same})  # English encoders know neither
    apart.hear("a cat", {"T5": same * 2})
    with pytest.raises(ValueError, match="T5 reads two different prompts as one"):
        apart.hear("a dog", {"CLIP": torch.zeros(1), "T5": same * 2})
    with pytest.raises(ValueError, match="T5 makes NaN or infinity of the prompt 'a bird'"):
        apart.hear("a bird", {"T5": same / 0 - same / 0})
