"""Small tokenizers of the kinds that language models have, trained on the parity texts."""

import json
from functools import cache

from trireme.artifacts.parity_texts import TEXTS

SIZE = 420
# Of each style: its special tokens in the order of their ids, what stands before and behind a text, and its class.
STYLES = {
    "qwen": (("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "", "<|endoftext|>", "Qwen2Tokenizer"),
    "llama": (("<unk>", "<s>", "</s>"), "<s>", "</s>", "PreTrainedTokenizerFast"),
    "gemma": (("<pad>", "<eos>", "<bos>", "<unk>"), "<bos>", "<eos>", "PreTrainedTokenizerFast"),
    "t5": (("<pad>", "</s>", "<unk>"), "", "</s>", "PreTrainedTokenizerFast"),
}
TOKEN_IDS = {
    "qwen": {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 2},
    "llama": {"pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2},
    "gemma": {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2},
    "t5": {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0},
}


def write_tokenizer(folder, style, **more):
    """Writes tokenizer.json and tokenizer_config.json into `folder`; returns the size of the vocabulary."""
    special, _, after, name = STYLES[style]
    document, size = _train(style)
    (folder / "tokenizer.json").write_text(document)
    padding = special[0] if style != "llama" else "</s>"
    config = {
        "tokenizer_class": name,
        "model_max_length": 64,
        "model_input_names": ["input_ids", "attention_mask"],
        "pad_token": padding,
        "eos_token": after,
        **more,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return size


@cache
def _train(style):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special, before, after, _ = STYLES[style]
    tokens = [AddedToken(token, special=True, normalized=False) for token in special]
    options = {"vocab_size": SIZE, "special_tokens": tokens, "show_progress": False}
    if style == "t5":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(**{**options, "vocab_size": 2 * SIZE}, unk_token="<unk>")
    elif style == "qwen":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(**options, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.BpeTrainer(**options, limit_alphabet=160)
    tokenizer.train_from_iterator([*TEXTS, *["yes", "no"] * 50], trainer)
    numbered = [(token, tokenizer.token_to_id(token)) for token in {before, after} - {""}]
    frame = f"{before} $A {after}".strip()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=frame, pair=f"{frame} $B {after}".strip(), special_tokens=numbered
    )
    return tokenizer.to_str(), tokenizer.get_vocab_size()
