"""One engine with its models loaded, answering jobs from stdin, a line of JSON each: {"do", "model", "load"}.

Engines: `packed` is ours in process, `vllm` is vLLM's pooling mode, `sentence` is sentence-transformers and the
same model of transformers on padded batches. Every one of them gets the same ids or the same texts.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rivals.common import Job, serve

BUDGET = 16384
THREADS = 4
CHECKED = 256
SINGLES = 100
PADDED_TOKENS = 65536
DTYPES = {"fp16": "float16", "bf16": "bfloat16"}
Texts = dict[str, list[str]]


class Engine:
    """Vectors of all rows of a load, from ids or from texts. Not every engine has every way."""

    ways: tuple[str, ...] = ("ids", "texts")

    def __init__(self, work: Path, models: Sequence[str], texts: Texts, precision: str) -> None:
        from trireme.encode.tokenizer import Tokenizer

        self.work, self.texts, self.precision = work, texts, precision
        self.tokenizer = Tokenizer.load(work / "minilm" / "tokenizer.json", 256)
        self.rows = {name: self.tokenizer.encode_texts(part) for name, part in texts.items()}
        self.models = {model: self.open(model) for model in models}

    def open(self, model: str) -> Any:
        """What `vectors` needs of a model."""
        raise NotImplementedError

    def vectors(self, way: str, model: str, load: str, part: slice) -> Any:
        raise NotImplementedError

    def measure_more(self, model: str, load: str) -> dict[str, Any]:
        """More figures of a load, where the engine has some."""
        return {}


class Packed(Engine):
    """TorchSession and TextEncoder, as the server's backend uses them."""

    ways = ("ids", "texts", "ids_threads", "texts_threads")

    def open(self, model: str) -> Any:
        from trireme.encode.engines.table import open_session
        from trireme.encode.session import SessionOptions
        from trireme.encode.text_encoder import EncoderSpec, TextEncoder

        began = time.monotonic()
        session = open_session("torch", self.work / f"{model}-{self.precision}", SessionOptions(0, 0))
        print("opened", model, round(time.monotonic() - began, 2), "s", flush=True)
        spec = EncoderSpec(session._model.hidden_size, True, "", "", BUDGET, 1_000_000)
        return session, TextEncoder(self.tokenizer, session, spec)

    def vectors(self, way: str, model: str, load: str, part: slice) -> Any:
        kind = way.removesuffix("_threads")
        if way != kind:
            count = len(self.rows[load])
            pieces = [slice(n, n + count // 16) for n in range(0, count, count // 16)]
            with ThreadPoolExecutor(THREADS) as pool:
                done = list(pool.map(lambda piece: self._piece(kind, model, load, piece), pieces))
            return np.concatenate(done)
        return self._piece(kind, model, load, part)

    def _piece(self, kind: str, model: str, load: str, part: slice) -> Any:
        from trireme.encode.runner import run_rows

        session, encoder = self.models[model]
        if kind == "ids":
            return run_rows(session, self.rows[load][part], BUDGET)[0]
        return np.stack([one.vector for one in encoder.embed(self.texts[load][part], "passage")])

    def measure_more(self, model: str, load: str) -> dict[str, Any]:
        """Time on the GPU alone, by events, of batches of BUDGET tokens, and what share of it is arithmetic."""
        import torch

        from trireme.encode.engines import torch as torch_session
        from trireme.encode.runner import make_batch

        session, _ = self.models[model]
        model_, graphs = session._model, session._graphs
        layers, width = model_.config.layers, model_.hidden_size
        result: dict[str, Any] = {"batches": {}}
        for tokens in (256, 1024, 4096, BUDGET):
            rows, taken = [], 0
            for row in self.rows[load]:
                if taken + len(row.ids) > tokens:
                    break
                rows.append(row)
                taken += len(row.ids)
            batch = make_batch(rows)
            size = graphs.size_for(taken)
            host = torch.from_numpy(torch_session._pack(batch, size, True)).pin_memory()

            def enqueue(host: Any = host, lengths: Any = batch.lengths, size: int = size) -> None:
                found, hidden = graphs.replay(host, lengths, size)
                model_.finish(hidden, found)

            with torch.inference_mode():
                ms = _gpu_ms(enqueue)
            walls = []
            for _ in range(30):
                began = time.perf_counter()
                session.run(batch)
                walls.append(1000 * (time.perf_counter() - began))
            squares = float((batch.lengths.astype(float) ** 2).sum())
            flop = layers * (24.0 * width * width * taken + 4.0 * width * squares)
            result["batches"][tokens] = {
                "rows": len(rows),
                "tokens": taken,
                "gpu_ms": ms,
                "run_ms": statistics.median(walls),
                "tflops": flop / ms / 1e9,
            }
        return result


class Vllm(Engine):
    """vLLM's LLM(runner="pooling"); `encode` gives tensors, which `embed` would turn into lists of Python."""

    def open(self, model: str) -> Any:
        from vllm import LLM

        return LLM(
            str(self.work / model),
            runner="pooling",
            dtype=DTYPES[self.precision],
            max_num_seqs=1024,
            max_num_batched_tokens=BUDGET,
            gpu_memory_utilization=0.1,
            # Other processes of this run take and give memory while vLLM would measure it.
            kv_cache_memory_bytes=2**30,
        )

    def vectors(self, way: str, model: str, load: str, part: slice) -> Any:
        if way == "ids":
            prompts: Any = [{"prompt_token_ids": row.ids} for row in self.rows[load][part]]
        else:
            prompts = self.texts[load][part]
        outputs = self.models[model].encode(prompts, pooling_task="embed", use_tqdm=False)
        return np.stack([output.outputs.data.float().cpu().numpy() for output in outputs])


class Sentence(Engine):
    """sentence-transformers' encode, and the transformers model on padded batches, both in half precision."""

    def open(self, model: str) -> Any:
        import torch
        from sentence_transformers import SentenceTransformer

        kwargs = {"dtype": getattr(torch, DTYPES[self.precision]), "attn_implementation": "sdpa"}
        return SentenceTransformer(
            str(self.work / model), device="cuda", model_kwargs=kwargs, local_files_only=True
        )

    def vectors(self, way: str, model: str, load: str, part: slice) -> Any:
        if way == "texts":
            return self.models[model].encode(
                self.texts[load][part], batch_size=256, convert_to_numpy=True, show_progress_bar=False
            )
        import torch

        rows = self.rows[load][part]
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
        encoder = self.models[model][0].auto_model
        outputs: list[Any] = []
        start = 0
        with torch.inference_mode():
            while start < len(order):
                width = len(rows[order[start]].ids)
                chosen = order[start : start + max(1, PADDED_TOKENS // width)]
                start += len(chosen)
                ids = np.zeros((len(chosen), width), np.int64)
                mask = np.zeros_like(ids)
                for i, row in enumerate(chosen):
                    n = len(rows[row].ids)
                    ids[i, :n], mask[i, :n] = rows[row].ids, 1
                on_gpu = torch.from_numpy(mask).cuda(non_blocking=True)
                hidden = encoder(
                    input_ids=torch.from_numpy(ids).cuda(non_blocking=True), attention_mask=on_gpu
                ).last_hidden_state
                weight = on_gpu[:, :, None].float()
                outputs.append((hidden.float() * weight).sum(1) / weight.sum(1))
        joined = torch.cat(outputs).cpu().numpy()
        ordered = np.empty_like(joined)
        ordered[order] = joined
        return ordered

    def measure_more(self, model: str, load: str) -> dict[str, Any]:
        """fp32 vectors by transformers, for the others to be compared with."""
        import torch
        import transformers

        encoder = transformers.AutoModel.from_pretrained(
            self.work / model, dtype=torch.float32, attn_implementation="eager"
        ).cuda()
        rows = []
        with torch.inference_mode():
            for row in self.rows[load][:CHECKED]:
                states = encoder(input_ids=torch.tensor([row.ids], device="cuda")).last_hidden_state
                rows.append(states[0].mean(0).cpu().numpy())
        np.save(self.work / f"reference-{model}-{load}.npy", np.stack(rows))
        return {}


def _gpu_ms(enqueue: Callable[[], None], repeats: int = 50) -> float:
    import torch

    for _ in range(5):
        enqueue()
    pairs = [
        (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)
    ]
    for before, after in pairs:
        before.record()
        enqueue()
        after.record()
    torch.cuda.synchronize()
    return statistics.median(before.elapsed_time(after) for before, after in pairs)


def measure_peak() -> dict[str, float]:
    """TFLOP/s of a product of two random 8192 x 8192 matrices, and TB/s of a copy, read and written."""
    import torch

    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.float16) for _ in range(2))
    product = _gpu_ms(lambda: torch.mm(a, b), 20)
    big = torch.empty(2**31, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(big)
    copy = _gpu_ms(lambda: target.copy_(big), 20)
    return {"gemm_tflops": 2 * 8192**3 / product / 1e9, "copy_tb_per_s": 2 * 2**31 / copy / 1e9}


def answer(engine: Engine, job: Job) -> Job:
    """One job's figures: seconds of one pass over the load, by way; or vectors to a file; or extra ones."""
    if job["do"] == "load":
        return {"ready": True}
    if job["do"] == "peak":
        return measure_peak()
    model, load = job["model"], job["load"]
    whole = slice(0, len(engine.rows[load]))
    if job["do"] == "check":
        name = engine.work / f"vectors-{job['engine']}-{model}-{load}.npy"
        np.save(name, np.asarray(engine.vectors("ids", model, load, slice(0, CHECKED)), np.float32))
        return {}
    if job["do"] == "extra":
        return engine.measure_more(model, load)
    if job["do"] == "single":
        seconds = []
        for i in range(SINGLES):
            began = time.perf_counter()
            engine.vectors("texts", model, load, slice(i, i + 1))
            seconds.append(time.perf_counter() - began)
        return {"single_ms": 1000 * statistics.median(seconds)}
    found = {}
    for way in engine.ways:
        if job["do"] == "warm":
            engine.vectors(way, model, load, whole)
        began = time.perf_counter()
        vectors = engine.vectors(way, model, load, whole)
        found[way] = time.perf_counter() - began
        assert len(vectors) == len(engine.rows[load])
    return {"seconds": found}


KINDS = {"packed": Packed, "vllm": Vllm, "sentence": Sentence}


def load_engine() -> Callable[[Job], Job]:
    """The engine of the command line, and what answers for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=KINDS)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--precision", choices=("fp16", "bf16"), default="fp16")
    arguments = parser.parse_args()
    texts = json.loads((arguments.work / "texts.json").read_text())["texts"]
    engine = KINDS[arguments.engine](arguments.work, arguments.models, texts, arguments.precision)
    return partial(answer, engine)


if __name__ == "__main__":
    serve(load_engine)
