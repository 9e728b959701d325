"""A classifier is a model folder and no code: exported by the script, served by the cross_encoder backend."""

import subprocess
import sys

import pytest
from stacks import ROOT, start_server

from trireme.errors import InvalidInputError
from trireme.triton.client import TritonClient

LABELS = {0: "calm", 1: "storm", 2: "fog"}
TEXTS = ["the sea is calm today", "wind and rain", "nothing to be seen " * 30]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny random DistilBERT with three labels."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("classifier")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(set(" ".join(TEXTS).split()))]
    rust = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    rust.normalizer = normalizers.Lowercase()
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    rust.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=rust, model_max_length=32, **special)
    tokenizer.save_pretrained(folder)
    config = transformers.DistilBertConfig(
        vocab_size=len(words), dim=16, hidden_dim=32, n_layers=2, n_heads=2, max_position_embeddings=32
    )
    config.id2label, config.label2id = LABELS, {name: i for i, name in LABELS.items()}
    torch.manual_seed(1)
    model = transformers.DistilBertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    return folder, model, tokenizer


ENGINES = ("onnx", "openvino", "torch")


@pytest.fixture(scope="module")
def client(checkpoint, tmp_path_factory):
    """One server of a model for each engine."""
    repository = tmp_path_factory.mktemp("models")
    script = ROOT / "build" / "export_encoder.py"
    for engine in ENGINES:
        command = [sys.executable, script, checkpoint[0], "--name", f"weather-{engine}"]
        command += ["--repository", repository, "--engine", engine, "--precision", "fp32"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    with start_server(repository, tmp_path_factory.mktemp("server")) as server:
        server.wait_until_ready()
        with TritonClient(f"{server.config.host}:{server.config.grpc_port}") as opened:
            yield opened


@pytest.fixture(params=ENGINES)
def model(request):
    return f"weather-{request.param}"


@pytest.mark.parametrize("text", TEXTS)
def test_labels_and_scores_are_those_of_the_original(client, model, checkpoint, text):
    import torch

    _, original, tokenizer = checkpoint
    with torch.inference_mode():
        inputs = tokenizer(text, truncation=True, max_length=32, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        expected = torch.softmax(original(**inputs).logits[0], 0)
    order = expected.argsort(descending=True).tolist()
    answer = client.infer(model, {"text": [[text]]})
    assert [label.decode() for label in answer["label"][0]] == [LABELS[i] for i in order]
    assert answer["score"][0].tolist() == pytest.approx([expected[i].item() for i in order], abs=1e-4)


def test_a_batch_equals_its_single_texts(client, model):
    together = client.infer(model, {"text": [[text] for text in TEXTS]})
    for row, text in enumerate(TEXTS):
        alone = client.infer(model, {"text": [[text]]})
        assert together["label"][row].tolist() == alone["label"][0].tolist()
        assert together["score"][row].tolist() == pytest.approx(alone["score"][0].tolist(), abs=1e-5)


def test_an_empty_text_is_refused(client, model):
    with pytest.raises(InvalidInputError, match="is empty"):
        client.infer(model, {"text": [["a"], [""]]})
