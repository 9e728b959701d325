"""A tiny random Llama, written as GGUF the way llama.cpp converts one, and read back."""

import json
import struct

import numpy as np
import pytest

from trireme.artifacts.manifest import hash_file
from trireme.checkpoints.gguf import GGUF_FILE, import_gguf
from trireme.errors import ArtifactError, UnsupportedError
from trireme.generate.chat import ChatTemplate
from trireme.generate.messages import Message
from trireme.generate.model_files import read_eos_token_ids
from trireme.generate.tokenizer import LlmTokenizer

gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("o a", "oa r", "\u0120 oar", "\u0120 \u0120")
TEMPLATE = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
HIDDEN, INNER, LAYERS, HEADS, KV_HEADS = 32, 64, 2, 4, 2


def vocabulary():
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return [*SPECIAL, *bytes_to_unicode().values(), *(merge.replace(" ", "") for merge in MERGES)]


@pytest.fixture(scope="module")
def original():
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary()),
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        rope_theta=5000.0,
        tie_word_embeddings=True,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            # What bfloat16 holds exactly, so that nothing is lost on the way.
            weight.copy_(
                (weight * 4 if weight.dim() > 1 else weight + torch.randn_like(weight) * 0.1).bfloat16()
            )
    return model


def permuted(weight, heads):
    """llama.cpp's order of a query's or key's rows: pairs that turn together stand side by side."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(path, model, leave_out=(), arch="llama", **keys):
    """The model at `path`. keys: by their names with _ for . of tokenizer.ggml, None takes one out."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name("tiny")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(vocabulary()))
    writer.add_tokenizer_model(keys.get("kind", "gpt2"))
    writer.add_tokenizer_pre(keys.get("pre", "smollm"))
    writer.add_token_list(vocabulary())
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(vocabulary()) - len(SPECIAL)))
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(1)
    if keys.get("eos", True):
        writer.add_eos_token_id(2)
    if "eot" in keys:
        writer.add_eot_token_id(keys["eot"])
    if "scaling" in keys:
        writer.add_rope_scaling_type(gguf.RopeScalingType(keys["scaling"]))
    writer.add_chat_template(TEMPLATE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LAYERS)
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" or name in leave_out:
            continue
        values = value.float().numpy()
        if "q_proj" in name or "k_proj" in name:
            values = permuted(values, HEADS if "q_proj" in name else KV_HEADS)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def imported(original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")
    path = write_gguf(folder / "tiny.gguf", original)
    said = import_gguf(path, folder, hash_file(path))
    return folder, said


def test_the_checkpoint_computes_what_the_original_does(imported, original):
    folder, said = imported
    again = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([[5, 40, 77, 3, 200, 12]])
    with torch.inference_mode():
        torch.testing.assert_close(again(ids).logits, original(ids).logits, rtol=1e-4, atol=1e-4)
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == "bfloat16" and "quantization_config" not in config
    assert config["tie_word_embeddings"] and config["max_position_embeddings"] == 128
    assert json.loads((folder / GGUF_FILE).read_text()) == said
    assert said["sha256"] == hash_file(folder / "tiny.gguf") and said["architecture"] == "llama"


def test_special_tokens_are_the_files_and_padding_is_never_left_open(imported):
    folder, _ = imported
    tokens = json.loads((folder / "tokenizer_config.json").read_text())
    assert (tokens["bos_token"], tokens["eos_token"], tokens["pad_token"]) == SPECIAL[1:] + SPECIAL[2:]
    assert tokens["model_max_length"] == 128
    assert json.loads((folder / "config.json").read_text())["pad_token_id"] == 2
    assert read_eos_token_ids(folder) == (2,)


def test_text_is_split_as_the_vocabulary_was_learned(imported):
    folder, _ = imported
    tokenizer, ids = LlmTokenizer.load(folder), {text: number for number, text in enumerate(vocabulary())}
    assert tokenizer.encode("oar oar", add_special_tokens=True) == (ids["oar"], ids["\u0120oar"])
    # Digits stand apart: so both spaces before one go together.
    assert tokenizer.encode("  7", add_special_tokens=True) == (ids["\u0120\u0120"], ids["7"])
    assert tokenizer.encode("<|im_end|>", add_special_tokens=False) == (2,)


def test_the_templates_default_system_message_is_kept(imported):
    folder, _ = imported
    template = ChatTemplate.load(folder, LlmTokenizer.load(folder))
    alone = template.render([Message("user", "Hello")])
    assert alone.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>")
    given = template.render([Message("system", "Be long."), Message("user", "Hello")])
    assert "Be brief." not in given and given.startswith("<|im_start|>system\nBe long.")


def test_a_token_for_the_end_of_a_turn_ends_an_answer_too(original, tmp_path):
    import_gguf(write_gguf(tmp_path / "m.gguf", original, eot=0), tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == [0, 2]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"arch": "mamba"}, "architecture 'mamba'; imported are llama, mistral"),
        ({"pre": "unheard-of"}, 'tokenizer.ggml.pre = "unheard-of"'),
        ({"kind": "wordpiece"}, "no tokenizer that can be made"),
        ({"eos": False}, "names no token that ends an answer"),
        ({"scaling": "yarn"}, r"stretches its rotary positions \(yarn\)"),
        (
            {"leave_out": ("model.layers.1.mlp.up_proj.weight",)},
            r"lacks the tensor of 'model\.layers\.1\.mlp\.up",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(keys, message, original, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", original, **keys)
    with pytest.raises(UnsupportedError, match=message):
        import_gguf(path, tmp_path)
    assert not (tmp_path / GGUF_FILE).exists()


def test_a_file_of_another_kind_a_cut_one_and_another_hash_are_refused(original, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", original)
    whole = path.read_bytes()
    with pytest.raises(ArtifactError, match=r"m\.gguf has sha256 [0-9a-f]{64}, expected is 0000"):
        import_gguf(path, tmp_path, "0" * 64)
    for length in (len(whole) - 1000, 2000, 30):
        path.write_bytes(whole[:length])
        with pytest.raises(UnsupportedError, match=r"m\.gguf is not a whole GGUF file"):
            import_gguf(path, tmp_path)
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(UnsupportedError, match="is not a GGUF file"):
        import_gguf(path, tmp_path)
    with pytest.raises(UnsupportedError, match="cannot be read: No such file"):
        import_gguf(tmp_path / "absent.gguf", tmp_path)


def test_files_beside_it_change_nothing(imported, original, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", original)
    for name, text in {
        "tokenizer_config.json": '{"tokenizer_class": "BertTokenizer"}',
        "tokenizer.json": "{}",
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / "out").mkdir(exist_ok=True)
        import_gguf(path, tmp_path / "out")
        for written in ("tokenizer.json", "tokenizer_config.json"):
            assert (tmp_path / "out" / written).read_text() == (imported[0] / written).read_text()


def key_of(name, kind, value):
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (key_of("a", 9, struct.pack("<IQ", 0, 1 << 60)), "not a whole GGUF file: an array .* has more than"),
        (key_of("a", 9, struct.pack("<IQ", 0, 1 << 20)), "not a whole GGUF file: it ends before"),
        (key_of("a", 8, struct.pack("<Q", 1 << 60)), "not a whole GGUF file: it ends before"),
        (key_of("general.architecture", 9, struct.pack("<IQB", 0, 1, 7)), r"of architecture \[7\]"),
        (
            key_of("general.architecture", 8, struct.pack("<Q", 1) + b"\xff"),
            "general.architecture .* is no text",
        ),
    ],
)
def test_a_key_that_says_too_much_or_something_else_is_refused(key, message, tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key)
    with pytest.raises(UnsupportedError, match=message):
        import_gguf(path, tmp_path)


def test_more_layers_than_tensors_are_refused(original, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", original)
    key = key_of("llama.block_count", 4, b"")
    path.write_bytes(
        path.read_bytes().replace(key + struct.pack("<I", LAYERS), key + struct.pack("<I", 1 << 30))
    )
    with pytest.raises(UnsupportedError, match="says 1073741824 layers and holds"):
        import_gguf(path, tmp_path)
