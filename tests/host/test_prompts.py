"""The Prompt Set node: what it reads, what it refuses, and conditionings that a backward pass can go through."""

import gc
from pathlib import Path

import comfy.model_management
import folder_paths
import pytest
import torch
from canvas import loaded
from mixgrpo_pack.mixgrpo_core.settings.prompts import read_prompts
from mixgrpo_pack.nodes.demo import load_clip
from mixgrpo_pack.nodes.host.model import HostModel
from mixgrpo_pack.nodes.host.texts import PromptSet
from mixgrpo_pack.nodes.settings.prompt_set import NO_FILE, PromptSetNode, gather, prompt_files, split

CAPTIONS = [
    f"a {size} {colour} circle on the left" for size in ("small", "large") for colour in ("red", "green", "blue")
]


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """A folder of its own as ComfyUI's input folder."""
    folder = tmp_path / "input"
    folder.mkdir()
    monkeypatch.setattr(folder_paths, "input_directory", str(folder))
    return folder


class Counting:
    """A CLIP that counts how often it encodes."""

    def __init__(self, clip):
        self.clip, self.patcher, self.encoded = clip, clip.patcher, []

    def tokenize(self, text):
        return self.clip.tokenize(text)

    def encode_from_tokens_scheduled(self, tokens):
        self.encoded.append(tokens["caption"][0])
        return self.clip.encode_from_tokens_scheduled(tokens)


def run(clip, prompts, **changed):
    """The node's outputs, executed as ComfyUI does."""
    values = {"file": NO_FILE, "held_out_prompts": "", "held_out_share": 0.0, "seed": 0, "negative": "", **changed}
    with torch.inference_mode():
        return PromptSetNode.execute(clip, prompts, **values).args


@pytest.fixture(scope="module")
def clip():
    with torch.inference_mode():
        return load_clip()


def test_typed_prompts_lose_comments_blank_lines_and_duplicates(clip, inputs):
    texts, listing = run(clip, "# mine\n a cat \r\n\na dog\na cat\n")
    assert texts.train == ("a cat", "a dog") and texts.held_out == ()
    assert "2 prompts to train on" in listing and "a dog" in listing


def test_files_of_both_kinds_are_offered_and_added(clip, inputs):
    (inputs / "b.txt").write_text("\ufeffeine Kätzchen\n# no\nzwei\n", encoding="utf-8")
    (inputs / "a.jsonl").write_text('{"prompt": "from json", "tag": 3}\n', encoding="utf-8")
    (inputs / "photo.png").write_bytes(b"x")
    (inputs / ".hidden.txt").write_text("x")
    (inputs / "folder.txt").mkdir()
    assert prompt_files() == ["a.jsonl", "b.txt"]
    assert run(clip, "typed", file="b.txt")[0].train == ("typed", "eine Kätzchen", "zwei")
    assert run(clip, "", file="a.jsonl")[0].train == ("from json",)


def test_what_people_have_is_offered_and_read(clip, inputs):
    (inputs / "A.TXT").write_bytes("ein Käfer".encode("utf-16"))
    (inputs / "anime.json").write_text('[\n"from a list"\n]')
    (inputs / "b.CSV").write_text("Prompts,Category\nfrom a table,x\n")
    (inputs / "empty").mkdir()
    (inputs / "set").mkdir()
    (inputs / "set" / "1.png").write_bytes(b"")
    (inputs / "set" / "1.txt").write_text("a caption")
    assert prompt_files() == ["A.TXT", "anime.json", "b.CSV", "set/"]
    for name, text in zip(prompt_files(), ("ein Käfer", "from a list", "from a table", "a caption"), strict=True):
        assert run(clip, "", file=name)[0].train == (text,)
    before = PromptSetNode.fingerprint_inputs(file="set/")
    (inputs / "set" / "1.txt").write_text("another caption")
    assert PromptSetNode.fingerprint_inputs(file="set/") != before
    assert run(clip, "a\n\ufeffb")[0].train == ("a", "b")


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "sub/x.txt", "missing.txt", "..", "", "C:\\x.txt"])
def test_only_a_listed_file_is_ever_read(inputs, name):
    (inputs.parent / "secret.txt").write_text("secret")
    (inputs / "sub").mkdir()
    (inputs / "sub" / "x.txt").write_text("x")
    said = PromptSetNode.validate_inputs(prompts="a", file=name, held_out_prompts="")
    assert isinstance(said, str) and "input folder" in said
    with pytest.raises(ValueError, match="no prompt file"):
        gather("a", name, "", 0.0, 0)
    assert PromptSetNode.fingerprint_inputs(file=name) == ""


def test_messages_come_before_the_queue_runs(inputs):
    (inputs / "latin.txt").write_bytes("café\n".encode("latin-1"))
    (inputs / "bad.jsonl").write_text('{"prompt": 3}\n')

    def said(prompts="a", file=NO_FILE, held_out="", share=0.1):
        return PromptSetNode.validate_inputs(prompts, file, held_out, share)

    assert "found none" in said(prompts="# only a comment\n")
    assert "in both lists" in said(prompts="a\nb", held_out="b")
    assert "UTF-8" in said(file="latin.txt")
    assert "expected the prompt to be a string" in said(file="bad.jsonl")
    assert "0..0.5" in said(share=float("nan"))
    assert "10000" in said(prompts="x" * 10_001)
    assert said() is True
    assert PromptSetNode.validate_inputs(prompts=None, held_out_prompts="") is True, "a wire is checked later"


def test_held_out_prompts_by_share():
    prompts = [f"prompt {i}" for i in range(40)]
    same = split(prompts, 0.25, 0)
    assert same == read_prompts(prompts, held_out_share=0.25), "seed 0 is the command line's split"
    other = split(prompts, 0.25, 7)
    for found in (same, other):
        assert len(found.held_out) == 10 and sorted(found.train + found.held_out) == sorted(prompts)
    assert set(other.held_out) != set(same.held_out)
    assert split(prompts[::-1], 0.25, 7).held_out == other.held_out[::-1], "the choice depends on the prompts alone"
    assert split(prompts, 0.0, 7).held_out == ()
    assert len(split(prompts[:2], 0.1, 7).held_out) == 1
    assert split(prompts[:1], 0.5, 7).train == ("prompt 0",)


def test_given_held_out_prompts_replace_the_share(clip, inputs):
    texts, _ = run(clip, "a\nb\nc", held_out_prompts="x\ny", held_out_share=0.5)
    assert texts.train == ("a", "b", "c") and texts.held_out == ("x", "y")


def test_the_seed_stays_as_it_is_after_a_run():
    [seed] = [item for item in PromptSetNode.define_schema().inputs if item.id == "seed"]
    assert seed.control_after_generate is False


def test_a_changed_file_changes_the_fingerprint(inputs):
    file = inputs / "p.txt"
    file.write_text("one")
    before = PromptSetNode.fingerprint_inputs(file="p.txt", prompts="a")
    assert before == PromptSetNode.fingerprint_inputs(file="p.txt", prompts="a")
    file.write_text("one more")
    assert PromptSetNode.fingerprint_inputs(file="p.txt", prompts="a") != before


def test_no_text_encoder_is_told():
    with pytest.raises(ValueError, match="no text encoder"):
        run(None, "a")


def test_texts_are_encoded_once_into_tensors_that_a_backward_pass_takes(clip, inputs):
    counting = Counting(clip)
    texts, _ = run(counting, "\n".join(CAPTIONS))
    with torch.inference_mode():  # the trainer's node runs in this mode
        [[tokens, extra]] = texts.encode(CAPTIONS[0])
        texts.encode(CAPTIONS[1])
        again = texts.encode(CAPTIONS[0])
        [[expected, expected_extra]] = clip.encode_from_tokens_scheduled(clip.tokenize(CAPTIONS[0]))
    assert counting.encoded == CAPTIONS[:2]
    assert torch.equal(tokens, expected) and torch.equal(extra["pooled_output"], expected_extra["pooled_output"])
    for tensor in (tokens, extra["pooled_output"]):
        assert not tensor.is_inference() and not tensor.requires_grad and tensor.device.type == "cpu"
        weight = torch.ones(tensor.shape[-1], requires_grad=True)
        (tensor * weight).sum().backward()  # an inference tensor cannot be saved for this
        torch.testing.assert_close(weight.grad, tensor.flatten(0, -2).sum(0))
    again[0][1]["guidance"] = 3.5
    assert "guidance" not in texts.encode(CAPTIONS[0])[0][1], "what a caller adds stays with the caller"


def test_encoded_texts_lie_in_temporary_files_that_go_with_the_prompts(clip, inputs):
    texts, _ = run(clip, "\n".join(CAPTIONS))
    folder = Path(folder_paths.get_temp_directory()) / "mixgrpo_texts"
    before = set(folder.iterdir()) if folder.exists() else set()
    [[tokens, extra]] = texts.encode(CAPTIONS[0])
    (own,) = set(folder.iterdir()) - before
    assert len(list(own.iterdir())) == 1 and texts._encoded._held == {}
    [[again, same]] = texts.encode(CAPTIONS[0])
    assert again is not tokens and torch.equal(again, tokens)
    assert same.keys() == extra.keys() and torch.equal(same["pooled_output"], extra["pooled_output"])
    assert str(own) not in Path("/proc/self/maps").read_text()
    del texts
    gc.collect()
    assert not own.exists()


def test_encoding_outside_of_inference_mode_keeps_no_graph(clip):
    class WithGraph(Counting):
        """A text encoder that would keep a graph, as those of the host do."""

        weight = torch.ones(1, requires_grad=True)

        def encode_from_tokens_scheduled(self, tokens):
            return [[x * self.weight, extra] for x, extra in super().encode_from_tokens_scheduled(tokens)]

    texts = PromptSet(train=(CAPTIONS[0],), held_out=(), negative="", clip=WithGraph(clip))
    with torch.inference_mode(False), torch.enable_grad():
        [[tokens, _]] = texts.encode(CAPTIONS[0])
    assert tokens.grad_fn is None and not tokens.requires_grad


def test_release_unloads_the_text_encoder_and_nothing_else(clip):
    from mixgrpo_pack.nodes.demo import load_model

    with torch.inference_mode():
        model = load_model()
        comfy.model_management.load_models_gpu([model])
        texts = PromptSet(train=(CAPTIONS[0],), held_out=(), negative="", clip=clip)
        first = texts.encode(CAPTIONS[0])

        def loaded():
            return [entry.model.model for entry in comfy.model_management.current_loaded_models]

        assert clip.patcher.model in loaded() and model.model in loaded()
        texts.release()
        assert clip.patcher.model not in loaded() and model.model in loaded()
        again = PromptSet(train=(CAPTIONS[0],), held_out=(), negative="", clip=clip).encode(CAPTIONS[0])
    assert torch.equal(first[0][0], again[0][0])


def test_a_text_encoder_that_reads_different_prompts_as_one_is_refused(clip):
    class Deaf(Counting):
        """Its tokens tell prompts apart, its numbers do not."""

        def encode_from_tokens_scheduled(self, tokens):
            return super().encode_from_tokens_scheduled({"caption": ["a red circle"]})

    class Blind(Counting):
        """As with a vocabulary that is not there."""

        def tokenize(self, text):
            return {"caption": ["a red circle"]}

    model, _, vae = loaded()
    for kind, name in ((Deaf, "the text encoder"), (Blind, "the tokenizer caption")):
        texts = PromptSet(train=tuple(CAPTIONS), held_out=(), negative="", clip=kind(clip))
        with (
            pytest.raises(ValueError, match=f"{name} reads two different prompts as one .*small red.*small green"),
            HostModel(model, vae, texts, width=64, height=64, rank=2, alpha=4, seed=0) as policy,
        ):
            policy.prepare(CAPTIONS)
    texts = PromptSet(train=tuple(CAPTIONS), held_out=(), negative="", clip=clip)
    with HostModel(model, vae, texts, width=64, height=64, rank=2, alpha=4, seed=0) as policy:
        policy.prepare([*CAPTIONS, CAPTIONS[0]])


def test_the_hosts_own_tokens_tell_prompts_apart_by_each_encoder(clip):
    from comfy.text_encoders.sd3_clip import SD3Tokenizer

    class Tokens(Counting):
        def tokenize(self, text):
            return SD3Tokenizer().tokenize_with_weights(text)

        def encode_from_tokens_scheduled(self, tokens):
            return [[torch.ones(1, 2, 3), {"pooled_output": torch.zeros(1, 4)}]]  # no CLIP: the host gives zeros

    texts = PromptSet(train=(), held_out=(), negative="", clip=Tokens(clip))
    first, second = texts.by_encoder("a cat"), texts.by_encoder("a dog")
    names = [f"the tokenizer {name}" for name in ("g", "l", "t5xxl")]
    assert sorted(first) == ["the text encoder", *names]
    assert all(first[name] != second[name] for name in names)
