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
