import pytest

from trireme.errors import UnsupportedError
from trireme.export_llm.gpu_config import (
    GpuModel,
    find_own_code,
    name_method,
    read_gpu_model,
    read_gpu_quantization,
)

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 96,
    "max_position_embeddings": 256,
}


def changed(**keys):
    return {**CONFIG, **keys}


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [
        ("mixtral", "MixtralForCausalLM"),
        ("qwen3_moe", "Qwen3MoeForCausalLM"),
        ("deepseek_v3", "DeepseekV3ForCausalLM"),
        ("gpt_oss", "GptOssForCausalLM"),
        ("gemma3_text", "Gemma3ForCausalLM"),
        ("gpt2", "GPT2LMHeadModel"),
        ("mistral3", "Mistral3ForConditionalGeneration"),
        ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"),
        ("kimi_k2", "DeepseekV3ForCausalLM"),
        ("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM"),
    ],
)
def test_families_are_left_to_vllm(model_type, architecture):
    config = changed(model_type=model_type, architectures=[architecture])
    assert read_gpu_model(config) == GpuModel(96, 256)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"architectures": None}, "must name its architectures"),
        ({"architectures": []}, "must name its architectures"),
        ({"architectures": ["BertModel"], "model_type": "bert"}, "BertModel, which writes no text"),
        ({"model_type": None}, "must name its model_type"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"max_position_embeddings": None}, "max_position_embeddings"),
    ],
)
def test_what_vllm_would_not_load_is_named(keys, said):
    with pytest.raises(UnsupportedError) as caught:
        read_gpu_model(changed(**keys))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "positions"),
    [
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 200}}, 800),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 128}},
            256,
        ),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, 512),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, 512),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64}},
            256,
        ),
        ({"rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 64}}, 256),
        ({"rope_scaling": None}, 256),
        # What it states of Gemma 3 has the factor in it; a set for each kind of layer has it in one of them.
        ({"model_type": "gemma3_text", "rope_scaling": {"rope_type": "linear", "factor": 8.0}}, 256),
        (
            {
                "rope_parameters": {
                    "sliding_attention": {"rope_type": "default"},
                    "full_attention": {"rope_type": "linear", "factor": 2.0},
                }
            },
            512,
        ),
        ({"text_config": {"vocab_size": 96, "max_position_embeddings": 128}}, 128),
    ],
)
def test_the_context_is_as_long_as_rope_makes_it(keys, positions):
    config = changed(**keys)
    assert read_gpu_model(config).positions == positions
    assert read_gpu_model(config, positions).positions == positions
    with pytest.raises(UnsupportedError, match=f"is above the checkpoint's {positions} positions"):
        read_gpu_model(config, positions + 1)


def test_what_a_text_model_leaves_out_is_found_elsewhere():
    text = {"model_type": "gemma3_text", "num_hidden_layers": 34}
    around = changed(model_type="gemma3", architectures=["Gemma3ForConditionalGeneration"], text_config=text)
    assert read_gpu_model(around, rows=262208) == GpuModel(262208, 131072)
    unknown = {"architectures": ["NewForCausalLM"], "model_type": "new", "vocab_size": 9}
    assert read_gpu_model(unknown, 64) == GpuModel(9, 64)
    with pytest.raises(UnsupportedError, match="say max_model_len in the recipe"):
        read_gpu_model(unknown)


def test_code_that_a_checkpoint_names_is_passed_over_where_vllm_has_classes_of_its_own():
    assert find_own_code({"model_type": "phi3", "auto_map": {}}) == ""
    assert "no class of its own" in find_own_code({"model_type": "aquila", "auto_map": {}})


def test_older_families_name_their_context_otherwise():
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 96, "n_positions": 64}
    assert read_gpu_model(config).positions == 64


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"quantization_config": {"quant_method": "mxfp4"}}, "mxfp4"),
        ({"text_config": {"quantization_config": {"quant_method": "fp8"}}}, "fp8"),
        ({"compression_config": {"config_groups": {}}}, "compressed-tensors"),
    ],
)
def test_quantization_is_found_wherever_it_is_stated(config, name):
    assert name_method(read_gpu_quantization(config)) == name


@pytest.mark.parametrize("stated", [{"quant_method": "aqlm"}, {"bits": 4}, "fp8"])
def test_a_quantization_that_vllm_does_not_read_is_named(stated):
    with pytest.raises(UnsupportedError, match=r"quant_method .* is not supported; supported: awq"):
        read_gpu_quantization({"quantization_config": stated})
