"""Folders of tiny random judges, as hubs have them: Qwen2-VL, 2.5 and 3, with a tokenizer made on the spot."""

import json

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
KINDS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def save_judge(folder, kind="qwen2_5_vl", seed=0):
    """A random network of ``kind`` with all of its files in ``folder``; returns it."""
    tokenizer = _tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    torch.manual_seed(seed)
    network = _network(kind, len(tokenizer), ids)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)  # else all answers are alike
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": 16 if kind == "qwen3_vl" else 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "min_pixels": 32 * 32,
        "max_pixels": 1 << 20,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return network


def _tokenizer():
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["Yes No Yes No Final Score: 1 2 3 4 5 yes no better image"] * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _network(kind, words, ids):
    from transformers import AutoConfig, AutoModelForImageTextToText

    heads = {
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "num_hidden_layers": 2,
        "max_position_embeddings": 4096,
    }
    text = {"vocab_size": words, "hidden_size": 32, "intermediate_size": 64, **heads}
    text |= {"bos_token_id": ids["<|im_end|>"], "eos_token_id": ids["<|im_end|>"], "pad_token_id": 0}
    rope = {"rope_type": "default", "type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    if kind == "qwen3_vl":
        text |= {"head_dim": 16, "rope_scaling": {**rope, "mrope_interleaved": True}}
        vision = {"hidden_size": 32, "out_hidden_size": 32, "num_position_embeddings": 64, "patch_size": 16}
        vision |= {"intermediate_size": 64, "deepstack_visual_indexes": [0], "depth": 2, "num_heads": 2}
    else:
        text["rope_scaling"] = rope
        vision = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32, "patch_size": 14, "depth": 2}
        vision |= {"num_heads": 2, "window_size": 56, "fullatt_block_indexes": [1]}
        if kind == "qwen2_vl":
            vision = {"hidden_size": 32, "embed_dim": 32, "mlp_ratio": 2, "patch_size": 14, "depth": 2, "num_heads": 2}
    marks = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
    config = AutoConfig.for_model(kind, text_config=text, vision_config=vision, tie_word_embeddings=False, **marks)
    return AutoModelForImageTextToText.from_config(config)
