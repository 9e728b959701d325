"""Asks about passages with the asker of questions.py, through vLLM, many at once.

    python ask.py --asker FOLDER --passages FILE --out FILE [--share I/N] [--seconds S]

Several processes, each with its share of the passages, keep one GPU busier than one. Writes what was said:
{title, context, question, answer}, the answer empty where the question goes beyond the passage. Needs a GPU, vLLM.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from questions import ASK, ASK_BEYOND, parse, parse_beyond, prompt

# Replies to each of the two prompts.
DRAWS, DRAWS_BEYOND = 6, 2
# Passages between two looks at the clock.
SIZE = 1500


def main() -> None:
    """Ask about the share until it or the time ends."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--asker", type=Path, required=True)
    parser.add_argument("--passages", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--share", default="0/1")
    parser.add_argument("--seconds", type=float, default=150)
    given = parser.parse_args()
    from transformers import AutoTokenizer
    from vllm import LLM, SamplingParams

    part, of = map(int, given.share.split("/"))
    with given.passages.open(encoding="utf-8") as lines:
        passages = [json.loads(line) for number, line in enumerate(lines) if number % of == part]
    tokenizer = AutoTokenizer.from_pretrained(given.asker)
    llm = LLM(
        str(given.asker),
        dtype="bfloat16",
        max_model_len=1024,
        max_num_seqs=768,
        gpu_memory_utilization=0.18,
        kv_cache_memory_bytes=10 << 30,
        seed=part,
        disable_log_stats=True,
    )
    drawn: dict[str, Any] = {"temperature": 0.9, "top_p": 0.95}
    began, said, kept = time.monotonic(), 0, 0
    with given.out.open("w", encoding="utf-8") as out:
        for start in range(0, len(passages), SIZE):
            if time.monotonic() - began > given.seconds:
                break
            chosen = passages[start : start + SIZE]
            for system, draws, most in ((ASK, DRAWS, 44), (ASK_BEYOND, DRAWS_BEYOND, 32)):
                sampling = SamplingParams(n=draws, max_tokens=most, **drawn)
                prompts = [
                    {"prompt_token_ids": tokenizer(text, add_special_tokens=False)["input_ids"]}
                    for text in (prompt(tokenizer, system, one["text"]) for one in chosen)
                ]
                for one, reply in zip(chosen, llm.generate(prompts, sampling, use_tqdm=False), strict=True):
                    said += draws
                    texts = {each.text.strip() for each in reply.outputs}
                    found = parse(texts, one["text"]) if system == ASK else parse_beyond(texts)
                    for question, answer in found:
                        row = {"title": one["title"], "context": one["text"], "question": question}
                        out.write(json.dumps({**row, "answer": answer}, ensure_ascii=False) + "\n")
                        kept += 1
            print(
                f"{start + len(chosen)} passages, {said} said, {kept} usable, {time.monotonic() - began:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
