"""What sentence-transformers and transformers make of a checkpoint's folder, from text to number."""

import numpy as np
import torch

TEXTS = (
    "a tide mill works by the moon",
    "How deep is the Channel at LOW tide?",
    "naive cafe,  two   spaces. A second sentence!",
    "7",
    "two of its six bearings were worn beyond the limit of 0.08 mm. " * 12,
)
QUERIES = ("when does a tide mill run", "bearings")
_LOADED = {"device": "cpu", "local_files_only": True, "trust_remote_code": False}
_PRECISE = {"dtype": torch.float32}


def embed(folder):
    """Vectors of TEXTS as queries and then as passages, [2 N, D]."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), model_kwargs=_PRECISE, **_LOADED)
    options = {"batch_size": 1, "show_progress_bar": False}
    return np.concatenate(
        [model.encode_query(list(TEXTS), **options), model.encode_document(list(TEXTS), **options)]
    )


def weigh(folder):
    """Weights of all words of TEXTS as queries and then as passages, [2 N, V]."""
    from sentence_transformers import SparseEncoder

    return _encode(
        SparseEncoder(str(folder), model_kwargs=_PRECISE, **_LOADED), lambda row: flat(row.to_dense())
    )


def embed_tokens(folder):
    """Vectors of the tokens of TEXTS as queries and then as passages, as `flat` has them."""
    from sentence_transformers import MultiVectorEncoder

    return _encode(MultiVectorEncoder(str(folder), model_kwargs=_PRECISE, **_LOADED), flat)


def score_late(folder):
    """Scores of every query with every text, [Q, N]."""
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(str(folder), model_kwargs=_PRECISE, **_LOADED)
    options = {"batch_size": 1, "show_progress_bar": False}
    queries, texts = (
        model.encode_query(list(QUERIES), **options),
        model.encode_document(list(TEXTS), **options),
    )
    return model.similarity(queries, texts).numpy()


def _encode(model, make):
    options = {"batch_size": 1, "show_progress_bar": False}
    rows = [*model.encode_query(list(TEXTS), **options), *model.encode_document(list(TEXTS), **options)]
    return np.stack([np.asarray(make(row)) for row in rows])


def flat(vectors, length=4096):
    """The vectors of a text's tokens in one row of one length: those of two texts are alike where all are."""
    row = np.zeros(length, np.float32)
    values = np.asarray(vectors).reshape(-1)
    row[: len(values)] = values
    return row


def flag(folder):
    """bge-m3's outputs by FlagEmbedding's definition: vectors, then weights of words, then vectors of tokens."""
    import transformers
    from safetensors.torch import load_file

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    model = transformers.AutoModel.from_pretrained(str(folder), dtype=torch.float32).eval()
    layers = {name: load_file(folder / f"{name}_linear.safetensors") for name in ("sparse", "colbert")}
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    dense, sparse, multi = [], [], []
    for text in TEXTS:
        encoded = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
        with torch.inference_mode():
            states = model(**encoded).last_hidden_state[0]
            weights = torch.relu(states @ layers["sparse"]["weight"].T + layers["sparse"]["bias"])[:, 0]
            vectors = states[1:] @ layers["colbert"]["weight"].T + layers["colbert"]["bias"]
        words = np.zeros(4096, np.float32)
        for token, weight in zip(encoded["input_ids"][0].tolist(), weights.tolist(), strict=True):
            if token not in special:
                words[token] = max(words[token], weight)
        dense.append(flat(states[0] / states[0].norm()))
        sparse.append(words)
        multi.append(flat(vectors / vectors.norm(dim=1, keepdim=True)))
    return np.stack([*dense, *dense, *sparse, *sparse, *multi, *multi])


def score(folder, chat_template=None):
    """Scores of every query with every text, [Q, N]: the logit, or of two labels the second's less the first's."""
    from sentence_transformers import CrossEncoder

    if chat_template is not None:
        (folder / "chat_template.jinja").write_text(chat_template)
    model = CrossEncoder(str(folder), model_kwargs=_PRECISE, **_LOADED)
    pairs = [(query, text) for query in QUERIES for text in TEXTS]
    logits = model.predict(pairs, batch_size=1, show_progress_bar=False, activation_fn=torch.nn.Identity())
    logits = np.reshape(logits, (len(QUERIES), len(TEXTS), -1))
    return logits[..., 0] if logits.shape[-1] == 1 else logits[..., 1] - logits[..., 0]


def label(folder):
    """Probabilities of each label in the order of config.json, [N, labels]."""
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(str(folder), dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    pipe = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    rows = pipe(list(TEXTS), top_k=None, truncation=True, max_length=64, batch_size=1)
    names = [model.config.id2label[number] for number in range(model.config.num_labels)]
    return np.array(
        [[{item["label"]: item["score"] for item in row}[name] for name in names] for row in rows]
    )
