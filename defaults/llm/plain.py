"""Plain instructions without passages, and the base model's replies to them: what the adapter must not change.

python plain.py --base FOLDER --passages FILE --out FOLDER [--count N]
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

# New tokens of a reply.
MOST = 120
# {0} is the title of an article, {1} its beginning.
FORMS = (
    "What is {0}?",
    "Tell me about {0}.",
    "Who or what is {0}? Answer in one sentence.",
    "Write a short paragraph about {0}.",
    "Give me three facts about {0}.",
    "Write a poem of four lines about {0}.",
    "Explain {0} to a child.",
    "Write an email to a friend about {0}.",
    "Make a list of five questions about {0}.",
    "Give two reasons to visit or to read about {0}.",
    "Translate into simpler words: {1}",
    "Summarize in one sentence: {1}",
    "Rewrite this politely: {1}",
    "Continue the text: {1}",
)
OTHERS = (
    "Hello!",
    "Hi, who are you?",
    "Thank you, that was helpful.",
    "Write a Python function that adds two numbers.",
    "What is 12 plus 30?",
    "List the days of the week.",
    "Tell me a joke.",
    "How do I make tea?",
    "What is the capital of France?",
    "Write a haiku about rain.",
    "Give me tips for a job interview.",
    "What can I cook with rice and eggs?",
    "Explain photosynthesis in two sentences.",
    "Write a birthday wish for my sister.",
    "How do airplanes fly?",
    "What is the difference between a list and a tuple in Python?",
    "Suggest a name for a cat.",
    "Write a headline about a new bridge.",
    "How can I sleep better?",
    "What is machine learning?",
)


def instructions(passages: list[tuple[str, str]], count: int) -> list[str]:
    """Instructions of all forms, in random order."""
    rng = random.Random(7)
    made = list(OTHERS)
    while len(made) < count:
        title, text = rng.choice(passages)
        made.append(rng.choice(FORMS).format(title, text[:300].rpartition(".")[0] or text[:200]))
    rng.shuffle(made)
    return made[:count]


def main() -> None:
    """Write [{messages, reply}] to OUT/chats.json."""
    import torch
    from generate import generate
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--passages", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1700)
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(6)
    with given.passages.open(encoding="utf-8") as lines:
        passages = [(row["title"], row["text"]) for row in map(json.loads, lines)]
    tokenizer = AutoTokenizer.from_pretrained(given.base)
    model = AutoModelForCausalLM.from_pretrained(given.base, dtype=torch.bfloat16).to(device).eval()
    chats = [[{"role": "user", "content": text}] for text in instructions(passages, given.count)]
    prompts = [
        tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True) for one in chats
    ]
    said = generate(model, tokenizer, prompts, most=MOST, do_sample=True, temperature=0.7, top_p=0.9)
    given.out.mkdir(parents=True, exist_ok=True)
    made = [
        {"messages": messages, "reply": reply, "is_whole": len(tokenizer(reply)["input_ids"]) < MOST - 4}
        for messages, (reply,) in zip(chats, said, strict=True)
    ]
    (given.out / "chats.json").write_text(json.dumps(made, ensure_ascii=False))
    print(f"{len(made)} replies; for example: {made[0]}")


if __name__ == "__main__":
    main()
