"""What a fake upstream says, frame by frame: OpenAI's chat and completions, and Anthropic's messages."""

import itertools
import json
import re
from dataclasses import dataclass, field

WORDS_IN_A_PIECE = 3
LETTERS_IN_A_PIECE = 3
MESSAGES = {
    400: "Invalid value for the field 'stop'.",
    401: "Incorrect API key provided.",
    402: "You have run out of credit.",
    403: "Your key may not use this model.",
    404: "The model does not exist.",
    408: "The request timed out.",
    409: "The request conflicts with another one.",
    413: "The request is too large.",
    429: "Rate limit reached.",
    500: "The server had an error.",
    502: "Bad gateway.",
    503: "The server is overloaded.",
    504: "The server did not answer in time.",
    529: "Overloaded.",
}
OPENAI_ERRORS = {
    401: ("invalid_request_error", "invalid_api_key"),
    402: ("insufficient_quota", "insufficient_quota"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
TOO_LONG = "This model's maximum context length is 10 tokens. However, your messages resulted in 11 tokens."


@dataclass
class ToolCall:
    """A call of a tool. `id` is without the wire's prefix; the arguments are JSON text."""

    id: str
    name: str
    arguments: str

    @property
    def pieces(self):
        return cut(self.arguments, LETTERS_IN_A_PIECE)


@dataclass
class Answer:
    """What is answered, before it is written in a wire format. texts: one for each choice; finish: of all."""

    model: str
    texts: list
    tools: list = field(default_factory=list)
    finish: str = "stop"
    input_tokens: int = 0
    has_usage: bool = True
    asks_usage: bool = False
    logprobs: bool = False

    @property
    def output_tokens(self):
        return sum(len(text.split()) for text in self.texts) + sum(len(tool.pieces) for tool in self.tools)


def cut(text, size):
    return [text[start : start + size] for start in range(0, len(text), size)]


def pieces_of(text):
    """The text in pieces of three words, which joined are the text."""
    words = re.findall(r"\s*\S+|\s+$", text)
    return ["".join(words[i : i + WORDS_IN_A_PIECE]) for i in range(0, len(words), WORDS_IN_A_PIECE)]


def text_of(content):
    """The text of a message's content: a string, or parts of either surface."""
    if isinstance(content, str):
        return content
    texts = []
    for part in content or []:
        if part.get("type") == "tool_result":
            texts.append(text_of(part.get("content")))
        else:
            texts.append(part.get("text", ""))
    return "\n".join(texts)


def answer_to(body, command="echo"):
    """The answer to a request of any of the three formats: its last text again, or a call of each of its tools.

    Tokens are words. Tools are called where the last message is no result of one and tool_choice is not none.
    """
    if "prompt" in body:
        asked = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        last, said = {"role": "user"}, asked
    else:
        last = body["messages"][-1]
        said = [text_of(message.get("content")) for message in body["messages"]]
        asked = [said[-1]]
    if command == "empty":
        asked = [""]
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    texts = [" ".join(text.split()[:most]) if most and len(text.split()) > most else text for text in asked]
    return Answer(
        model=body.get("model", ""),
        texts=texts * body.get("n", 1),
        tools=tools_of(body, last) if command != "empty" else [],
        finish="length" if texts != asked else "stop",
        input_tokens=sum(len(text.split()) for text in [*said, text_of(body.get("system", ""))]),
        has_usage=command != "no_usage",
        asks_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        logprobs=bool(body.get("logprobs")),
    )


def tools_of(body, last):
    choice = body.get("tool_choice")
    is_off = choice == "none" or (isinstance(choice, dict) and choice.get("type") == "none")
    is_result = last["role"] == "tool" or (
        isinstance(last.get("content"), list)
        and any(part.get("type") == "tool_result" for part in last["content"])
    )
    if is_off or is_result:
        return []
    arguments = json.dumps({"text": text_of(last.get("content"))})
    names = [tool.get("function", tool)["name"] for tool in body.get("tools") or []]
    return [ToolCall(str(n), name, arguments) for n, name in enumerate(names)]


def encode(value):
    """JSON as both providers write it: no blanks, letters as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def data(value):
    return b"data: " + encode(value) + b"\n\n"


def named(value):
    return f"event: {value['type']}\n".encode() + data(value)


class OpenAIChat:
    """chat.completions. A wire gives the frames before content, of content and of the end, and the whole body."""

    kind = "chat.completion"
    bad_frame = b'data: {"id":"chatcmpl-1","choices":[{"delta":{"content":"ha\n\n'

    def error(self, status, text=""):
        kind, code = OPENAI_ERRORS.get(
            status, ("invalid_request_error" if status < 500 else "server_error", None)
        )
        if text == TOO_LONG:
            code = "context_length_exceeded"
        return {"error": {"message": text or MESSAGES[status], "type": kind, "param": None, "code": code}}

    def error_frame(self):
        return data(self.error(503))

    def lifecycle(self, answer):
        first = {"role": "assistant", "content": ""}
        return [self._chunk(answer, n, first) for n in range(len(answer.texts))]

    def content(self, answer):
        if answer.tools:
            return self._tools(answer)
        frames = []
        for n, text in enumerate(answer.texts):
            for piece in pieces_of(text):
                frames.append(
                    self._chunk(answer, n, {"content": piece}, logprobs=self._logprobs(answer, piece))
                )
        return frames

    def end(self, answer):
        finish = "tool_calls" if answer.tools else answer.finish
        frames = [self._chunk(answer, n, {}, finish) for n in range(len(answer.texts))]
        if answer.asks_usage and answer.has_usage:
            frames.append(data({**self._head(answer, ".chunk"), "choices": [], "usage": self._usage(answer)}))
        return [*frames, b"data: [DONE]\n\n"]

    def whole(self, answer):
        choices = []
        for n, text in enumerate(answer.texts):
            message = {"role": "assistant", "content": text, "refusal": None}
            if answer.tools:
                message |= {"content": None, "tool_calls": [self._call(tool) for tool in answer.tools]}
            finish = "tool_calls" if answer.tools else answer.finish
            logprobs = self._logprobs(answer, text)
            choices.append({"index": n, "message": message, "logprobs": logprobs, "finish_reason": finish})
        usage = {"usage": self._usage(answer)} if answer.has_usage else {}
        return {**self._head(answer), "choices": choices, **usage}

    def _head(self, answer, suffix=""):
        head = {"id": "chatcmpl-1", "object": self.kind + suffix, "created": 1_700_000_000}
        return {**head, "model": answer.model, "system_fingerprint": "fp_1"}

    def _chunk(self, answer, choice, delta, finish=None, logprobs=None):
        row = {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        usage = {"usage": None} if answer.asks_usage else {}
        return data({**self._head(answer, ".chunk"), "choices": [row], **usage})

    def _logprobs(self, answer, text):
        if not answer.logprobs:
            return None
        rows = [
            {"token": word, "logprob": -0.25, "bytes": list(word.encode()), "top_logprobs": []}
            for word in text.split()
        ]
        return {"content": rows, "refusal": None}

    def _usage(self, answer):
        asked, given = answer.input_tokens, answer.output_tokens
        return {
            "prompt_tokens": asked,
            "completion_tokens": given,
            "total_tokens": asked + given,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }

    def _call(self, tool):
        return {
            "id": f"call_{tool.id}",
            "type": "function",
            "function": {"name": tool.name, "arguments": tool.arguments},
        }

    def _tools(self, answer):
        """Each call begins with its name; then the arguments of all, a piece of each in turn."""
        frames = []
        for index, tool in enumerate(answer.tools):
            begun = {**self._call(tool), "function": {"name": tool.name, "arguments": ""}, "index": index}
            frames.append(self._chunk(answer, 0, {"tool_calls": [begun]}))
        for pieces in itertools.zip_longest(*(tool.pieces for tool in answer.tools)):
            for index, piece in enumerate(pieces):
                if piece is not None:
                    row = {"index": index, "function": {"arguments": piece}}
                    frames.append(self._chunk(answer, 0, {"tool_calls": [row]}))
        return frames


class OpenAICompletions(OpenAIChat):
    """completions: the older text endpoint. It has no frame before its first text."""

    kind = "text_completion"
    bad_frame = b'data: {"id":"cmpl-1","choices":[{"text":"ha\n\n'

    def lifecycle(self, answer):
        return []

    def whole(self, answer):
        rows = [
            {"index": n, "text": text, "logprobs": None, "finish_reason": answer.finish}
            for n, text in enumerate(answer.texts)
        ]
        usage = {"usage": self._usage(answer)} if answer.has_usage else {}
        return {**self._head(answer), "choices": rows, **usage}

    def _head(self, answer, suffix=""):
        return {"id": "cmpl-1", "object": self.kind, "created": 1_700_000_000, "model": answer.model}

    def _chunk(self, answer, choice, delta, finish=None, logprobs=None):
        row = {"index": choice, "text": delta.get("content", ""), "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if answer.asks_usage else {}
        return data({**self._head(answer), "choices": [row], **usage})


class AnthropicMessages:
    """messages."""

    bad_frame = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"te\n\n'
    stops = {"stop": "end_turn", "length": "max_tokens"}

    def error(self, status, text=""):
        if text == TOO_LONG:
            text = "prompt is too long: 11 tokens > 10 maximum"
        error = {"type": ANTHROPIC_ERRORS.get(status, "api_error"), "message": text or MESSAGES[status]}
        return {"type": "error", "error": error, "request_id": "req_1"}

    def error_frame(self):
        return named(self.error(529))

    def lifecycle(self, answer):
        usage = {"usage": self._usage(answer, 1)} if answer.has_usage else {}
        message = {**self._head(answer), "content": [], "stop_reason": None, "stop_sequence": None, **usage}
        frames = [named({"type": "message_start", "message": message}), named({"type": "ping"})]
        if answer.texts[0] and not answer.tools:
            frames.append(self._start(0, {"type": "text", "text": ""}))
        return frames

    def content(self, answer):
        if not answer.tools:
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces_of(answer.texts[0])]
            return self._rest(0, deltas) if deltas else []
        frames = []
        for index, tool in enumerate(answer.tools):
            block = {"type": "tool_use", "id": f"toolu_{tool.id}", "name": tool.name, "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *tool.pieces]]
            frames += [self._start(index, block), *self._rest(index, deltas)]
        return frames

    def end(self, answer):
        delta = {"stop_reason": self._stop(answer), "stop_sequence": None}
        usage = {"usage": {"output_tokens": answer.output_tokens}} if answer.has_usage else {}
        return [named({"type": "message_delta", "delta": delta, **usage}), named({"type": "message_stop"})]

    def whole(self, answer):
        content = [{"type": "text", "text": text} for text in answer.texts if text]
        if answer.tools:
            content = [
                {
                    "type": "tool_use",
                    "id": f"toolu_{tool.id}",
                    "name": tool.name,
                    "input": json.loads(tool.arguments),
                }
                for tool in answer.tools
            ]
        usage = {"usage": self._usage(answer, answer.output_tokens)} if answer.has_usage else {}
        end = {"stop_reason": self._stop(answer), "stop_sequence": None}
        return {**self._head(answer), "content": content, **end, **usage}

    def _head(self, answer):
        return {"id": "msg_1", "type": "message", "role": "assistant", "model": answer.model}

    def _stop(self, answer):
        return "tool_use" if answer.tools else self.stops[answer.finish]

    def _usage(self, answer, given):
        cache = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
        return {"input_tokens": answer.input_tokens, **cache, "output_tokens": given}

    def _start(self, index, block):
        return named({"type": "content_block_start", "index": index, "content_block": block})

    def _rest(self, index, deltas):
        parts = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        return [named(value) for value in [*parts, {"type": "content_block_stop", "index": index}]]


WIRES = {
    "/v1/chat/completions": OpenAIChat(),
    "/v1/completions": OpenAICompletions(),
    "/v1/messages": AnthropicMessages(),
}
