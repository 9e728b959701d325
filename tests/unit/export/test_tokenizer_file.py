import json
import sys

import pytest

from trireme.artifacts.build import BuildOptions
from trireme.artifacts.parity_texts import TEXTS
from trireme.artifacts.recipe import Recipe
from trireme.encode.tokenizer import Tokenizer
from trireme.errors import UnsupportedError
from trireme.export.checkpoint import read_checkpoint
from trireme.export.pipeline import build_model
from trireme.export.tokenizer_file import find_beyond, load_pretrained, write_tokenizer


@pytest.fixture(scope="session")
def pieces(tmp_path_factory):
    """A SentencePiece model file of English and some other scripts."""
    import sentencepiece

    prefix = tmp_path_factory.mktemp("pieces") / "sentencepiece.bpe"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in TEXTS for line in text.splitlines() if line.strip()]),
        model_prefix=str(prefix),
        vocab_size=600,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    return prefix.parent / "sentencepiece.bpe.model"


@pytest.fixture
def multilingual(make_checkpoint, tmp_path, pieces):
    """XLM-R as many checkpoints have it: sentencepiece.bpe.model and no tokenizer.json."""
    folder = make_checkpoint(tmp_path / "source", "xlm-roberta", vocab_size=700)
    (folder / "tokenizer.json").unlink()
    (folder / "sentencepiece.bpe.model").write_bytes(pieces.read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 64}))
    return folder


def test_sentencepiece_alone_gives_the_ids_of_fairseq(multilingual, pieces, tmp_path):
    import sentencepiece

    write_tokenizer(read_checkpoint(multilingual), tmp_path / "written.json")
    ours = Tokenizer.load(tmp_path / "written.json", 10_000).encode_texts(TEXTS)
    library = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    # XLM-R's table has <s>, <pad>, </s>, <unk> first; the pieces after sentencepiece's own three follow.
    theirs = [[0, *(3 if piece == 0 else piece + 1 for piece in library.encode(text)), 2] for text in TEXTS]
    assert [row.ids for row in ours] == theirs


def test_a_model_with_sentencepiece_alone_is_built(multilingual, tmp_path):
    options = BuildOptions(repository=tmp_path / "models", cache=tmp_path / "cache", project=tmp_path)
    manifest, _ = build_model(Recipe("tiny", "text_encoder", source=str(multilingual)), options)
    assert manifest.figures["cosine_min"] > 0.99999


def test_reading_pieces_leaves_sentencepiece_as_it_was(multilingual):
    before = sys.modules.get("sentencepiece.sentencepiece_model_pb2")
    load_pretrained(read_checkpoint(multilingual))
    assert sys.modules.get("sentencepiece.sentencepiece_model_pb2") is before


def test_a_list_of_words_alone_is_read(make_checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path / "source", "bert")
    words = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    before = load_pretrained(read_checkpoint(folder))("a tide mill, 7")["input_ids"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(sorted(words, key=words.get)) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 64}))
    tokenizer = load_pretrained(read_checkpoint(folder))
    assert tokenizer("a tide mill, 7")["input_ids"] == before
    assert "token_type_ids" in tokenizer("a", "b")


def test_words_and_merges_alone_are_read(make_checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path / "source", "roberta", vocab_size=300)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 64}))
    words = ["<s>", "<pad>", "</s>", "<unk>", "a", "b", "Ġ", "Ġa", "ab"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nĠ a\na b\n")
    assert load_pretrained(read_checkpoint(folder))("ab a")["input_ids"] == [0, 8, 7, 2]


def test_no_tokenizer_is_named(make_checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path / "source", "bert")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(UnsupportedError, match="holds no tokenizer"):
        load_pretrained(read_checkpoint(folder))


def test_a_side_that_the_loaded_tokenizer_has_is_refused(make_checkpoint, tmp_path, monkeypatch):
    import transformers

    checkpoint = read_checkpoint(make_checkpoint(tmp_path / "source", "bert"))
    tokenizer = load_pretrained(checkpoint)
    tokenizer.truncation_side = "left"
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: tokenizer)
    with pytest.raises(UnsupportedError, match="truncation_side 'left'"):
        load_pretrained(checkpoint)


@pytest.mark.parametrize(
    ("precision", "engine"), [("fp32", "onnx"), ("fp32", "openvino"), ("int8", ""), ("fp16", "torch")]
)
def test_a_token_beyond_the_table_is_named_for_every_engine(precision, engine, make_checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path / "source", "bert", hidden_size=64, intermediate_size=96)
    document = json.loads((folder / "tokenizer.json").read_text())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    token = {"id": 82, "content": "[NEW]", **flags}
    (folder / "tokenizer.json").write_text(json.dumps({**document, "added_tokens": [token]}))
    (tmp_path / "defaults").mkdir()
    (tmp_path / "defaults" / "calibration.txt").write_text("one\n\ntwo")
    options = BuildOptions(repository=tmp_path / "models", cache=tmp_path / "cache", project=tmp_path)
    recipe = Recipe("tiny", "text_encoder", source=str(folder), precision=precision, engine=engine)
    with pytest.raises(UnsupportedError, match=r"'\[NEW\]' has the id 82, the embedding table has 82 rows"):
        build_model(recipe, options)


def test_a_token_that_transformers_adds_of_itself_is_left_out(make_checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path / "source", "bert")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    checkpoint = read_checkpoint(folder)
    assert find_beyond(checkpoint, load_pretrained(checkpoint), 82) == ("[MASK]",)
    write_tokenizer(checkpoint, tmp_path / "written.json", ["[MASK]"])
    rows = Tokenizer.load(tmp_path / "written.json", 64).encode_texts(["a [MASK] b"])
    assert max(rows[0].ids) < 82
