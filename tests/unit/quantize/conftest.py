"""A tiny random Llama, saved as transformers saves it, and texts to read."""

import json

import pytest

SIZES = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
}


def write_tokenizer(folder):
    """Byte-level BPE without merges: one token for each byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """The folder of a random Llama in float32, tied embeddings."""
    import torch
    import transformers

    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("llama")
    config = transformers.LlamaConfig(**SIZES, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


@pytest.fixture
def sample(tmp_path):
    """A text of about 4,000 bytes."""
    path = tmp_path / "sample.txt"
    path.write_text("".join(f"Rower number {number} pulls the oar.\n" for number in range(120)))
    return path
