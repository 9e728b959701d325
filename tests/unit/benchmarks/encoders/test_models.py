import json
import subprocess
import sys

import pytest

from benchmarks.common.report import PROJECT
from benchmarks.encoders.models import (
    BASELINE,
    FP32,
    NO_GATE,
    ONNX_INT8,
    OPENVINO,
    PAIR_RANKER,
    BenchModels,
    copy_embedder,
    count_operations,
    link_model,
    list_recipes_to_build,
    place_baseline,
)
from trireme.artifacts.recipe import read_recipe
from trireme.settings import Settings

ENCODER = """kind = "text_encoder"
source = "a/b"
package = "name==1.0"
precision = "int8"
min_cosine = 0.9
max_batch_size = 64
dynamic_batching = true
response_cache = true
"""
RANKER = """kind = "cross_encoder"
source = "a/b"
adapter = "defaults/reranker"
precision = "int8"
embedder = "embedding"
rerank_depth = 20
"""
MINILM = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "models"
    for name, recipe in (("embedding", ENCODER), ("reranker", RANKER)):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "recipe.toml").write_text(recipe, encoding="utf-8")
    return folder


def test_operations_of_a_text_are_those_of_its_matrices():
    # Six layers: four 384 x 384 and two 384 x 1536 projections of one token, and one score and one weighted sum.
    assert count_operations(MINILM, 1, 1) == 6 * (2 * (4 * 384**2 + 2 * 384 * 1536) + 4 * 384)
    assert count_operations(MINILM, 140, 140**2) == pytest.approx(3.15e9, rel=0.01)


def test_a_copied_checkpoint_cuts_where_it_is_told(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "sentence_bert_config.json").write_text('{"max_seq_length": 256, "do_lower_case": false}')
    (source / "model.safetensors").write_bytes(b"weights")
    made = copy_embedder(source, tmp_path / "copy", 512)
    config = json.loads((made / "sentence_bert_config.json").read_text())
    assert config == {"max_seq_length": 512, "do_lower_case": False}
    assert (made / "model.safetensors").read_bytes() == b"weights"
    assert json.loads((source / "sentence_bert_config.json").read_text())["max_seq_length"] == 256


def test_ours_are_built_from_the_folders_that_the_rivals_load(repository, tmp_path):
    settings = Settings(model_repository=repository)
    recipes = {r.model: r for r in list_recipes_to_build(settings, tmp_path / "e", tmp_path / "p")}
    assert set(recipes) == {"embedding", FP32, ONNX_INT8, OPENVINO, PAIR_RANKER}
    for name, recipe in recipes.items():
        assert recipe.source == str(tmp_path / ("p" if name == PAIR_RANKER else "e"))
        assert recipe.package == ""
        assert recipe.max_length == 512
        assert not recipe.response_cache
    assert (recipes[FP32].precision, recipes["embedding"].precision) == ("fp32", "int8")
    assert recipes["embedding"].min_cosine == 0.9
    assert recipes[PAIR_RANKER].rerank_depth == 0
    assert recipes[PAIR_RANKER].adapter == ""
    assert recipes[PAIR_RANKER].min_rank_correlation == NO_GATE["min_rank_correlation"]


def test_a_linked_model_has_no_cache_and_its_source_stays(repository, tmp_path):
    before = sorted(repository.rglob("*"))
    recipe = read_recipe(repository / "embedding" / "recipe.toml")
    link_model(repository / "embedding", tmp_path / "copy" / "embedding", recipe)
    config = (tmp_path / "copy" / "embedding" / "config.pbtxt").read_text(encoding="utf-8")
    assert "response_cache" not in config
    assert "max_batch_size: 64" in config
    assert (tmp_path / "copy" / "embedding" / "1").resolve() == repository / "embedding" / "1"
    assert sorted(repository.rglob("*")) == before


def test_the_baseline_gets_graph_and_tokenizer_beside_its_code(tmp_path):
    built, checkpoint = tmp_path / "models" / FP32 / "1", tmp_path / "embedder"
    for folder in (built, checkpoint):
        folder.mkdir(parents=True)
    (built / "model.onnx").write_bytes(b"graph")
    (checkpoint / "tokenizer.json").write_text("{}")
    (checkpoint / "config.json").write_text("{}")
    place_baseline(BenchModels(checkpoint, checkpoint, tmp_path / "models", {}), tmp_path / "placed")
    encoder = tmp_path / "placed" / "plain_encoder" / "1"
    assert (encoder / "model.onnx").read_bytes() == b"graph"
    assert (encoder / "model.py").is_file()
    assert (tmp_path / "placed" / "plain_tokenizer" / "1" / "tokenizer.json").is_file()
    assert (tmp_path / "placed" / "plain" / "1").is_dir()
    assert sorted(path.name for path in BASELINE.iterdir()) == [
        "README.md",
        "plain",
        "plain_encoder",
        "plain_tokenizer",
    ]


MAKE_TWO = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from benchmarks.encoders.models import make_pair_ranker
from transformers import BertConfig, BertModel, BertTokenizerFast
folder = Path(sys.argv[2])
sizes = dict(vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
BertModel(BertConfig(**sizes)).save_pretrained(folder / "source")
words = folder / "source" / "vocab.txt"
words.write_text("\\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]))
BertTokenizerFast(vocab_file=str(words)).save_pretrained(folder / "source")
for name in ("first", "second"):
    make_pair_ranker(folder / "source", folder / name)
"""


def test_the_pair_ranker_has_one_random_score_the_same_each_time(tmp_path):
    # In a process of its own: torch would stay in this one.
    command = [sys.executable, "-c", MAKE_TWO, str(PROJECT), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = tmp_path / "first", tmp_path / "second"
    assert json.loads((first / "config.json").read_text())["id2label"] == {"0": "LABEL_0"}
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
