"""Checkpoints of CLIP and SigLIP networks as tiny as they go, in the layouts and file formats of the real ones.

    tensors = clip()                                                # by the names of transformers' CLIPModel
    write_open_clip(path / "HPS_v2.1_compressed.pt", tensors, dtype=torch.float16)
    write_hub_file(path / "PickScore_v1.safetensors", tensors)

Small numbers in the embeddings and norms that are not 1 and 0 let epsilons, activations and transposes show.
"""

import json

import torch
from safetensors.torch import save_file

LAYERS, PATCH, WIDTH, TEXT_WIDTH, PROJECTED = 2, 14, 160, 64, 64
WORDS, CONTEXT = 49408, 77


class Draw:
    """Random tensors of a seed, in the order in which they are asked for."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape, std):
        return std * torch.randn(*shape, generator=self.generator)

    def linear(self, name, out, into, std=0.1):
        return {f"{name}.weight": self.normal(out, into, std=std), f"{name}.bias": self.normal(out, std=std)}

    def norm(self, name, width):
        return {f"{name}.weight": 1 + self.normal(width, std=0.2), f"{name}.bias": self.normal(width, std=0.1)}

    def blocks(self, name, width):
        tensors = {}
        for layer in range(LAYERS):
            block = f"{name}.{layer}"
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                tensors |= self.linear(f"{block}.self_attn.{part}", width, width)
            tensors |= self.linear(f"{block}.mlp.fc1", 4 * width, width) | self.linear(
                f"{block}.mlp.fc2", width, 4 * width
            )
            tensors |= self.norm(f"{block}.layer_norm1", width) | self.norm(f"{block}.layer_norm2", width)
        return tensors


def clip(seed=0, *, side=28, logit_scale=4.6):
    """Tensors by the names of transformers' ``CLIPModel``: H/14 made small, 2 heads of 80 and 1 of 64."""
    draw = Draw(seed)
    return {
        "logit_scale": torch.tensor(logit_scale),
        "vision_model.embeddings.class_embedding": draw.normal(WIDTH, std=0.01),
        "vision_model.embeddings.patch_embedding.weight": draw.normal(WIDTH, 3, PATCH, PATCH, std=0.001),
        "vision_model.embeddings.position_embedding.weight": draw.normal((side // PATCH) ** 2 + 1, WIDTH, std=0.01),
        **draw.norm("vision_model.pre_layrnorm", WIDTH),
        **draw.blocks("vision_model.encoder.layers", WIDTH),
        **draw.norm("vision_model.post_layernorm", WIDTH),
        "visual_projection.weight": draw.normal(PROJECTED, WIDTH, std=0.1),
        "text_model.embeddings.token_embedding.weight": draw.normal(WORDS, TEXT_WIDTH, std=0.02),
        "text_model.embeddings.position_embedding.weight": draw.normal(CONTEXT, TEXT_WIDTH, std=0.01),
        **draw.blocks("text_model.encoder.layers", TEXT_WIDTH),
        **draw.norm("text_model.final_layer_norm", TEXT_WIDTH),
        "text_projection.weight": draw.normal(PROJECTED, TEXT_WIDTH, std=0.1),
    }


def clip_config(*, side=28, activation="gelu", epsilon=1e-5):
    """The ``config.json`` of `clip`, with an end of text as old folders of the hub have it."""
    common = {"hidden_act": activation, "layer_norm_eps": epsilon, "num_hidden_layers": LAYERS}
    common["projection_dim"] = PROJECTED
    return {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": PROJECTED,
        "text_config": {
            **common,
            "model_type": "clip_text_model",
            "vocab_size": WORDS,
            "eos_token_id": 2,
            "bos_token_id": 0,
            "hidden_size": TEXT_WIDTH,
            "intermediate_size": 4 * TEXT_WIDTH,
            "num_attention_heads": 1,
        },
        "vision_config": {
            **common,
            "model_type": "clip_vision_model",
            "image_size": side,
            "patch_size": PATCH,
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_attention_heads": 2,
        },
    }


def open_clip_layout(tensors):
    """The same numbers as open_clip has them: q, k and v in one, projections multiplied from the right."""
    renamed = {}
    for name, tensor in tensors.items():
        visual = "visual." if name.startswith("vis") else ""
        rest = name.split(".", 1)[1] if "." in name else name
        if rest.startswith("encoder.layers."):
            _, _, layer, part = rest.split(".", 3)
            part = part.replace("self_attn.", "attn.").replace("layer_norm", "ln_")
            part = part.replace("mlp.fc1", "mlp.c_fc").replace("mlp.fc2", "mlp.c_proj")
            renamed[f"{visual}transformer.resblocks.{layer}.{part}"] = tensor
        else:
            renamed[visual + _OPEN_CLIP.get(rest, rest) if "." in name else name] = tensor
    renamed["visual.proj"] = tensors["visual_projection.weight"].T.contiguous()
    renamed["text_projection"] = tensors["text_projection.weight"].T.contiguous()
    for name in [name for name in renamed if "attn.q_proj" in name]:
        parts = [renamed.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        renamed[name.replace("q_proj.", "in_proj_")] = torch.cat(parts)
    return {name: tensor for name, tensor in renamed.items() if not name.endswith("drop")}


_OPEN_CLIP = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "pre_layrnorm.weight": "ln_pre.weight",
    "pre_layrnorm.bias": "ln_pre.bias",
    "post_layernorm.weight": "ln_post.weight",
    "post_layernorm.bias": "ln_post.bias",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
    "weight": "drop",  # of the projections, which are written transposed
}


def write(path, tensors, *, dtype=torch.float32):
    """``tensors`` as the file's suffix says: safetensors, or a torch file with the tensors at its top."""
    tensors = {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(tensors, path, metadata={"format": "pt"})
    else:
        torch.save(tensors, path)
    return path


def write_open_clip(path, tensors, *, dtype=torch.float32, prefix=""):
    """As training with open_clip leaves it (HPSv2): the state dict under a key of a torch file; else see `write`."""
    tensors = {prefix + name: tensor.to(dtype) for name, tensor in open_clip_layout(tensors).items()}
    if path.suffix != ".pt":
        return write(path, tensors, dtype=dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": 4, "state_dict": tensors}, path)
    return path


def write_folder(folder, tensors, config, *, dtype=torch.float32, name="model.safetensors"):
    """A folder of the hub."""
    write(folder / name, tensors, dtype=dtype)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def vision_only(tensors):
    """What ComfyUI's ``clip_vision`` files hold, with the constant that some have."""
    positions = len(tensors["vision_model.embeddings.position_embedding.weight"])
    constant = {"vision_model.embeddings.position_ids": torch.arange(positions)[None]}
    return {name: tensor for name, tensor in tensors.items() if name.startswith("vis")} | constant


SIGLIP_SENTENCES = (
    "a red circle on the table",
    "the photo of a blue cat with hats",
    "two dogs are running",
    "it is 42",
)
SIGLIP_WORDS = 34


def siglip(seed=0, *, side=28, patch=14, width=64):
    """Tensors by the names of transformers' ``SiglipModel``."""
    draw = Draw(seed)
    head = "vision_model.head"
    return {
        "logit_scale": torch.tensor([2.0]),
        "logit_bias": torch.tensor([-1.5]),
        "vision_model.embeddings.patch_embedding.bias": draw.normal(width, std=0.001),
        "vision_model.embeddings.patch_embedding.weight": draw.normal(width, 3, patch, patch, std=0.001),
        "vision_model.embeddings.position_embedding.weight": draw.normal((side // patch) ** 2, width, std=0.01),
        **draw.blocks("vision_model.encoder.layers", width),
        **draw.norm("vision_model.post_layernorm", width),
        f"{head}.probe": draw.normal(1, 1, width, std=1.0),
        f"{head}.attention.in_proj_weight": draw.normal(3 * width, width, std=0.1),
        f"{head}.attention.in_proj_bias": draw.normal(3 * width, std=0.1),
        **draw.linear(f"{head}.attention.out_proj", width, width),
        **draw.norm(f"{head}.layernorm", width),
        **draw.linear(f"{head}.mlp.fc1", 4 * width, width),
        **draw.linear(f"{head}.mlp.fc2", width, 4 * width),
        "text_model.embeddings.token_embedding.weight": draw.normal(SIGLIP_WORDS, width, std=0.02),
        "text_model.embeddings.position_embedding.weight": draw.normal(64, width, std=0.01),
        **draw.blocks("text_model.encoder.layers", width),
        **draw.norm("text_model.final_layer_norm", width),
        **draw.linear("text_model.head", width, width),
    }


def siglip_config(*, side=28, patch=14, width=64):
    """The ``config.json`` of `siglip`."""
    common = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": LAYERS}
    common["num_attention_heads"] = width // 64
    text = {"model_type": "siglip_text_model", "vocab_size": SIGLIP_WORDS, "projection_size": width}
    vision = {"model_type": "siglip_vision_model", "image_size": side, "patch_size": patch}
    return {"model_type": "siglip", "text_config": common | text, "vision_config": common | vision}


def write_pieces(folder):
    """``spiece.model`` with SigLIP's special tokens, trained on a few sentences."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SIGLIP_SENTENCES * 5),
        model_prefix=str(folder / "spiece"),
        vocab_size=SIGLIP_WORDS,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.vocab").unlink()
    return folder / "spiece.model"


def write_tokenizer(folder):
    """``tokenizer.json`` of a few whole words, which ends texts and pads as SigLIP's does."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["<pad>", "</s>", "<unk>", *sorted({word for sentence in SIGLIP_SENTENCES for word in sentence.split()})]
    words += [f"unused{row}" for row in range(len(words), SIGLIP_WORDS)]  # a vocabulary is as large as its network's
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"
