"""Bounds of calls: never below what tokenizers make of them, for texts of every kind."""

import functools
import random
import shutil
import unicodedata
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from trireme.gateway.spending.estimates import (
    FOREIGN_TOKENS,
    LONG_TEXT,
    LOOP_BYTES,
    REFERENCE_TOKENS,
    OwnEstimates,
    asks_hour_cache,
    input_bound,
    output_bound,
    pairs_bound,
    text_bound,
    texts_bound,
)
from trireme.gateway.wire import anthropic, openai_chat
from trireme.gateway.wire.openai_completions import read_completions
from trireme.generate.chat import ChatTemplate
from trireme.generate.messages import parse_messages
from trireme.generate.tokenizer import LlmTokenizer
from trireme.providers.chat import ChatCall, Image, Message, Text, Thinking, Tool, ToolResult, ToolUse
from trireme.providers.own_limits import OwnLimits
from trireme.providers.token_texts import TokenTexts

ROOT = Path(__file__).parents[4]
CHAT_TOKENIZER = ROOT / "tests" / "chat_tokenizer"
ROUNDS = 400
# What is short as bytes and long behind a normalisation: one of 18 characters, one of 4, ligatures, jamo, dotted I.
GROWING = "\ufdfa\u1f82\u0390\ufb03가힣İẞ㍿ｱﾞ½…"
PIECES = (
    *GROWING,
    "the ",
    "trireme",
    "Antidisestablishmentarianism",
    "漢字かな交じり文",
    "Ελληνικά",
    "العربية",
    "हिन्दी",
    "👩‍👩‍👧‍👦",
    "🇬🇷",
    "e\u0301\u0302\u0303",
    "   ",
    "\n\n",
    "\t",
    "\u00a0\u2003\u200b\ufeff",
    "\x00\x01\x07\x1b\x7f",
    "\ud800",
    "0123456789",
    "-=*!?<>&'\"{}[]",
    "<|end|>",
    "<|user|>\n",
    "a" * 120,
    "\U0010ffff",
)


def texts(seed: int, count: int = ROUNDS) -> list[str]:
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        pieces = [
            chance.choice(PIECES)
            if chance.random() < 0.7
            else chr(chance.choice((127, 0x7FF, 0xFFFF, 0x10FFFF)))
            for _ in range(chance.randrange(12))
        ]
        odd = "".join(chr(chance.randrange(0x110000)) for _ in range(chance.randrange(8)))
        found.append("".join(pieces) + odd)
    return found


def clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def byte_level(normalizer=None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["the oars of a trireme are of fir, its sails of linen"] * 3, trainer)
    return tokenizer


def word_piece() -> Tokenizer:
    """As BERT's: its normalisation, and letters alone, so that every letter is a token."""
    letters = {chr(code) for text in texts(5) for code in map(ord, clean(text))} | set(
        "abcdefghijklmnopqrstuvwxyz"
    )
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(letters), *(f"##{one}" for one in sorted(letters))]
    vocabulary = {name: place for place, name in enumerate(dict.fromkeys(names))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


@pytest.mark.parametrize("form", [None, "NFC", "NFD", "NFKC", "NFKD"])
def test_a_byte_level_vocabulary_makes_no_more_tokens_of_a_text_than_its_bound(form):
    tokenizer = byte_level(getattr(normalizers, form)() if form else None)
    for text in texts(1):
        assert len(tokenizer.encode(clean(text)).ids) <= text_bound(text), repr(text)


def test_a_vocabulary_of_words_makes_no_more_tokens_of_a_text_than_its_bound():
    tokenizer = word_piece()
    for text in texts(2):
        assert len(tokenizer.encode(clean(text)).ids) <= texts_bound([text], 2), repr(text)


@pytest.mark.parametrize("model", ["embedding", "reranker"])
def test_the_encoders_own_tokenizers_make_no_more_tokens_than_the_bound(model):
    found = sorted((ROOT / "model_repository" / model).glob("*/tokenizer.json"))
    if not found:
        pytest.skip(f"model {model} is not built")
    tokenizer = Tokenizer.from_file(str(found[-1]))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for text in texts(3):
        assert len(tokenizer.encode(clean(text)).ids) <= texts_bound([text], 2), repr(text)
        pair = tokenizer.encode("What is a trireme?", clean(text))
        assert len(pair.ids) <= pairs_bound("What is a trireme?", [text], 4), repr(text)


def test_a_bound_of_ascii_is_its_length_and_an_empty_text_is_nothing():
    assert (text_bound(""), text_bound("oar")) == (0, 3)
    assert text_bound("\ufdfa") == 33


def test_a_bound_holds_in_every_form_and_for_long_texts_as_for_short_ones():
    dice = random.Random(4)
    for _ in range(ROUNDS):
        text = "".join(dice.choice(PIECES) for _ in range(dice.randint(1, 40)))
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            form_bytes = len(unicodedata.normalize(form, text).encode("utf-8", "surrogatepass"))
            assert form_bytes <= text_bound(text)
        times = LONG_TEXT // len(text) + 1
        assert text_bound(text * times) == text_bound(text) * times


def test_no_character_is_longer_composed_than_in_pieces():
    """What the bound rests on: it looks at the decomposed forms alone."""
    for code in range(0x110000):
        written = unicodedata.decomposition(chr(code))
        if written and not written.startswith("<"):
            pieces = "".join(chr(int(one, 16)) for one in written.split())
            if unicodedata.normalize("NFC", pieces) == chr(code):
                assert len(chr(code).encode()) <= len(pieces.encode())


@pytest.mark.timeout(60)
def test_marks_without_end_do_not_hold_up_the_gateway():
    """Normalised as one text these would take hours, and nobody else would be answered meanwhile."""
    text = "a" + "\u0315\u0300" * (1 << 19)
    assert text_bound(text) == len(text.encode())


def test_texts_above_the_models_limit_count_as_the_limit():
    assert texts_bound(["a" * 100, "b"], 2, most=10) == 13


# The default LLM's template puts a system message of its own in front where there is none.
DEFAULT_LLM = ROOT / "model_repository" / "llm" / "1"


@pytest.fixture(params=[CHAT_TOKENIZER, DEFAULT_LLM], ids=["tests", "default"])
def prompts_of(request):
    """A folder with tokenizer and chat template."""
    if not (request.param / "tokenizer.json").is_file():
        pytest.skip("model llm is not built")
    return request.param


@pytest.fixture
def own(prompts_of, tmp_path):
    folder = tmp_path / "llm" / "1"
    folder.mkdir(parents=True)
    shutil.copy(prompts_of / "tokenizer.json", folder)
    return OwnEstimates(TokenTexts(tmp_path), OwnLimits(tmp_path))


@functools.cache
def read_template(folder: Path) -> tuple[LlmTokenizer, ChatTemplate]:
    tokenizer = LlmTokenizer.load(folder)
    return tokenizer, ChatTemplate.load(folder, tokenizer)


def rendered(call: ChatCall, folder: Path) -> int:
    """Tokens of the prompt as the server makes it."""
    import json

    tokenizer, template = read_template(folder)
    said = [{"role": one.role, "content": clean(one.text)} for one in call.messages]
    return len(tokenizer.encode(template.render(parse_messages(json.dumps(said))), add_special_tokens=False))


def test_our_llms_prompt_is_never_longer_than_its_bounds(own, prompts_of):
    chance = random.Random(4)
    pool = [text for text in texts(4) if "\x00" not in text]
    for _ in range(60):
        turns = tuple(
            Message(chance.choice(("system", "user", "assistant")), (Text(chance.choice(pool)),))
            for _ in range(chance.randrange(1, 6))
        )
        call = ChatCall("openai", "llm", turns)
        true = rendered(call, prompts_of)
        exact, cheap = own.count_exact(call, "llm"), input_bound(call)
        assert true <= exact <= cheap, repr(turns)
        assert true <= own.input_bound(call, "llm") <= cheap


def test_counting_is_nearer_than_bytes_once_the_tokenizer_is_loaded(own):
    text = "Oars are of fir, and the sails of linen. " * 200
    call = ChatCall("openai", "llm", (Message("user", (Text(text),)),))
    assert own.input_bound(call, "llm") == input_bound(call)
    exact = own.count_exact(call, "llm")
    assert exact < input_bound(call) / 2
    assert own.input_bound(call, "llm") == exact


def test_a_long_text_is_not_encoded_on_the_loop(own):
    call = ChatCall("openai", "llm", (Message("user", (Text("a b " * LOOP_BYTES),)),))
    own.count_exact(call, "llm")
    assert own.is_long(call)
    assert own.input_bound(call, "llm") == input_bound(call)


def test_a_model_whose_files_are_not_at_hand_is_bound_by_bytes(own):
    call = ChatCall("openai", "other", (Message("user", (Text("oars"),)),))
    assert own.input_bound(call, "other") == input_bound(call)
    assert own.output_limit("../llm") is None


def everything() -> ChatCall:
    return ChatCall(
        "openai",
        "m",
        (
            Message("system", (Text("be brief"),)),
            Message("user", (Text("what is this?"), Image("https://h/a.png")), "ann"),
            Message("assistant", (Thinking("hm", "sig"), ToolUse("c1", "look", '{"a": 1}'))),
            Message("tool", (ToolResult("c1", "a boat", (Image("data:image/png;base64,AA"),)),)),
        ),
        tools=(Tool("look", "Looks at it.", {"type": "object", "properties": {"a": {"type": "integer"}}}),),
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
    )


def test_every_part_of_a_call_counts():
    from dataclasses import replace

    whole = everything()
    bound = input_bound(whole)
    for place, message in enumerate(whole.messages):
        for part in message.parts:
            fewer = replace(message, parts=tuple(one for one in message.parts if one is not part))
            messages = (*whole.messages[:place], fewer, *whole.messages[place + 1 :])
            assert input_bound(replace(whole, messages=messages)) < bound, part
        nameless = replace(message, name="")
        messages = (*whole.messages[:place], nameless, *whole.messages[place + 1 :])
        assert input_bound(replace(whole, messages=messages)) == bound - len(message.name)
    assert input_bound(replace(whole, tools=())) < bound
    assert input_bound(replace(whole, response_format=None)) < bound


def test_an_image_counts_by_its_providers_rule_not_by_its_bytes():
    def of(image, kind):
        return input_bound(ChatCall("openai", "m", (Message("user", (image,)),)), kind)

    small, large = Image("data:image/png;base64,AA"), Image("data:image/png;base64," + "A" * 100_000)
    assert of(small, "openai") == of(large, "openai") > of(small, "anthropic")
    assert of(Image("https://h/a.png", "low"), "openai") < of(Image("https://h/a.png"), "openai")


def test_parts_and_fields_that_only_the_provider_reads_count_by_their_json():
    audio = {"type": "input_audio", "input_audio": {"data": "A" * 1_000, "format": "wav"}}
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": [audio]}],
        "web_search_options": {"user_location": "B" * 500},
    }
    bare = openai_chat.read({"model": "m", "messages": [{"role": "user", "content": []}]}, {})
    bound = input_bound(openai_chat.read(body, {})) - input_bound(bare)
    assert bound > FOREIGN_TOKENS + 1_500
    file = {"type": "file", "file": {"file_id": "f-1"}}
    by_reference = openai_chat.read({**body, "messages": [{"role": "user", "content": [file]}]}, {})
    assert input_bound(by_reference) > REFERENCE_TOKENS


def test_a_field_of_a_message_that_nobody_here_reads_counts_by_its_json():
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "a"}]
    plain = openai_chat.read({"model": "m", "messages": turns}, {})
    more = openai_chat.read(
        {"model": "m", "messages": [turns[0], {**turns[1], "reasoning": "b" * 1_000}]}, {}
    )
    assert input_bound(more) >= input_bound(plain) + 1_000


def test_all_that_the_best_is_chosen_from_is_bound():
    (call,) = read_completions({"model": "m", "prompt": "hi", "max_tokens": 10, "n": 2, "best_of": 5})
    assert output_bound(call, None, 99) == (50, False)
    (call,) = read_completions({"model": "m", "prompt": "hi", "max_tokens": 10, "n": 2, "best_of": None})
    assert output_bound(call, None, 99) == (20, False)


def test_an_hours_cache_is_seen_wherever_it_is_asked_for():
    def body(control):
        block = {"type": "text", "text": "x", "cache_control": control}
        return {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": [block]}]}

    hour = anthropic.read(body({"type": "ephemeral", "ttl": "1h"}), {})
    plain = anthropic.read(body({"type": "ephemeral"}), {})
    assert asks_hour_cache(hour)
    assert not asks_hour_cache(plain)


@pytest.mark.parametrize(
    ("max_tokens", "choices", "limit", "bound", "must_send"),
    [
        (10, 1, None, 10, False),
        (10, 3, 100, 30, False),
        (1_000, 2, 100, 200, False),
        (None, 2, 100, 200, False),
        (None, 2, None, 8_192, True),
    ],
)
def test_an_answer_is_bound_by_the_call_then_by_the_model_then_by_the_setting(
    max_tokens, choices, limit, bound, must_send
):
    call = ChatCall("openai", "m", max_tokens=max_tokens, choices=choices)
    assert output_bound(call, limit, 4_096) == (bound, must_send)
