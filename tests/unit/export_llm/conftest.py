"""Tiny random language models of each family, and AWQ and GPTQ packing written apart from the reader's."""

import json

import numpy as np
import pytest

VOCABULARY = 96
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
FAMILY_SIZES = {
    "mistral": {"sliding_window": None},
    "qwen2": {"use_sliding_window": False},
    "qwen3": {"head_dim": 32, "use_sliding_window": False},
}


def write_tokenizer(folder, vocabulary=VOCABULARY):
    """One token per letter; ids up to `vocabulary`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = ["<pad>", "<s>", "</s>", "<unk>", *map(chr, range(32, 127))][:vocabulary]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def make_llm():
    """make_llm(folder, family, dtype, **config) -> (folder, transformers' model in float32)."""

    def make(folder, family="llama", dtype="float16", **more):
        import torch
        import transformers

        torch.manual_seed(5)
        config = transformers.AutoConfig.for_model(
            family, **{**SIZES, **FAMILY_SIZES.get(family, {}), **more}
        )
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for weight in model.parameters():
                # Larger than the library's start, and norms and biases that are not all alike.
                if weight.dim() > 1:
                    weight.mul_(4.0)
                else:
                    weight.add_(torch.randn_like(weight) * 0.1)
        model.to(getattr(torch, dtype)).save_pretrained(folder)
        write_tokenizer(folder)
        # Loaded again: a model cast to a small type and back keeps rounded rotary angles.
        again = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return folder, again.eval()

    return make


@pytest.fixture(scope="session")
def torch_logits():
    """torch_logits(model, ids) -> [tokens, vocabulary]."""

    def run(model, ids):
        import torch

        with torch.no_grad():
            return model(torch.tensor([list(ids)])).logits[0].numpy()

    return run


def shift_in(fields, bits):
    """Integers [.., 32 / bits] into one int32 each, the first lowest; by Python's own integers."""
    rows = fields.reshape(-1, fields.shape[-1]).tolist()
    words = [sum(int(value) << (bits * place) for place, value in enumerate(row)) for row in rows]
    return np.array(words, np.uint32).view(np.int32).reshape(fields.shape[:-1])


def pack_awq(integers, zeros, scales):
    """AWQ's gemm layout of [out, in] integers with [out, groups] zeros and scales."""
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    packed = {}
    for name, values in (("qweight", integers.T), ("qzeros", zeros.T)):
        eights = values.reshape(values.shape[0], -1, 8)
        packed[name] = shift_in(np.stack([eights[:, :, column] for column in order], axis=-1), 4)
    return {**packed, "scales": np.ascontiguousarray(scales.T)}


def pack_gptq(integers, zeros, scales, bits, stored_less):
    """GPTQ's layout; `stored_less` is what the format takes off each zero."""
    rows, columns = integers.shape
    per_word, groups = 32 // bits, scales.shape[1]
    weight = integers.T.reshape(columns // per_word, per_word, rows).transpose(0, 2, 1)
    zero = (zeros.astype(int) - stored_less).T.reshape(groups, rows // per_word, per_word)
    return {
        "qweight": shift_in(weight, bits),
        "qzeros": shift_in(zero, bits),
        "scales": np.ascontiguousarray(scales.T),
        "g_idx": (np.arange(columns) // (columns // groups)).astype(np.int32),
    }


@pytest.fixture(scope="session")
def make_packed(make_llm):
    """make_packed(folder, method, bits, group_size, layout) -> (folder, {layer: float32 weight it stands for}).

    Takes a tiny Llama, or another family, and stores its linear layers as random integers of their own.
    """

    def make(folder, method, bits=4, group_size=32, layout="gptq", **more):
        from safetensors.numpy import load_file, save_file

        make_llm(folder, **more)
        tensors = load_file(folder / "model.safetensors")
        rng, dense = np.random.default_rng(3), {}
        for name in sorted(tensors):
            if "_proj.weight" not in name:
                continue
            rows, columns = tensors.pop(name).shape
            groups = 1 if group_size < 0 else columns // group_size
            integers = rng.integers(0, 2**bits, (rows, columns))
            zeros = rng.integers(1, 2**bits - 1, (rows, groups))
            scales = (rng.uniform(0.5, 1.5, (rows, groups)) * 0.6 / 2**bits).astype(np.float16)
            prefix = name.removesuffix(".weight")
            if method == "awq":
                parts = pack_awq(integers, zeros, scales)
            else:
                parts = pack_gptq(integers, zeros, scales, bits, 1 if layout == "gptq" else 0)
            tensors |= {f"{prefix}.{part}": values for part, values in parts.items()}
            spread = np.repeat(np.float32(zeros), columns // groups, axis=1)
            steps = np.repeat(scales.astype(np.float32), columns // groups, axis=1)
            dense[prefix] = (np.float32(integers) - spread) * steps
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        config["quantization_config"] = {"quant_method": method, "bits": bits, "group_size": group_size} | (
            {"zero_point": True, "version": "gemm"}
            if method == "awq"
            else {"desc_act": False, "sym": False, "checkpoint_format": layout}
        )
        (folder / "config.json").write_text(json.dumps(config))
        return folder, dense

    return make


@pytest.fixture
def edit_config():
    """edit_config(folder, **changes) writes keys into config.json; None takes one out."""

    def edit(folder, **changes):
        path = folder / "config.json"
        config = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))

    return edit


@pytest.fixture(scope="session")
def read_weights():
    """read_weights(folder) -> Weights as the build reads them."""

    def read(folder):
        from trireme.checkpoints.config import read_config
        from trireme.export_llm.architecture import read_architecture
        from trireme.export_llm.quantization import read_quantization
        from trireme.export_llm.weights import Weights

        config = read_config(folder)
        return Weights(folder, read_architecture(config), read_quantization(config))

    return read


@pytest.fixture(scope="session")
def write_graph(read_weights):
    """write_graph(source, target) -> path of the OpenVINO graph of a checkpoint."""

    def write(source, target):
        import openvino

        from trireme.export_llm.constants import ConstantStore
        from trireme.export_llm.graph import build_graph

        target.mkdir(parents=True, exist_ok=True)
        store = ConstantStore(target / "constants.tmp")
        model = build_graph(read_weights(source), store)
        openvino.save_model(model, target / "openvino_model.xml", compress_to_fp16=False)
        del model
        store.close()
        return target / "openvino_model.xml"

    return write
