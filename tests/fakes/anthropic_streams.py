"""Streams of Anthropic's Messages API, in its own shape: event lines, pings, usage in parts, blocks one by one."""

import json


def frame(value, event=""):
    return f"event: {event or value['type']}\ndata: {json.dumps(value)}\n\n".encode()


def start(usage=None, model="claude-test-1"):
    message = {
        "id": "msg_01Xa",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage or {"input_tokens": 25, "output_tokens": 1},
    }
    return frame({"type": "message_start", "message": message})


def opened(index, block):
    return frame({"type": "content_block_start", "index": index, "content_block": block})


def delta(index, kind, **value):
    return frame({"type": "content_block_delta", "index": index, "delta": {"type": kind, **value}})


def closed(index):
    return frame({"type": "content_block_stop", "index": index})


def ended(reason, usage, sequence=None, **more):
    change = {"stop_reason": reason, "stop_sequence": sequence, **more}
    stop = frame({"type": "message_stop"})
    return frame({"type": "message_delta", "delta": change, "usage": usage}) + stop


PING = frame({"type": "ping"})
ERROR = frame({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})

TEXT = b"".join(
    [
        start(),
        opened(0, {"type": "text", "text": ""}),
        PING,
        delta(0, "text_delta", text="Grüß"),
        delta(0, "text_delta", text=" dich, 世界 🌍"),
        closed(0),
        ended("end_turn", {"output_tokens": 15}),
    ]
)

TOOLS = b"".join(
    [
        start(
            {
                "input_tokens": 40,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 7,
                "output_tokens": 3,
            }
        ),
        opened(0, {"type": "text", "text": ""}),
        delta(0, "text_delta", text="I look."),
        closed(0),
        opened(1, {"type": "tool_use", "id": "toolu_01A", "name": "weather", "input": {}}),
        delta(1, "input_json_delta", partial_json=""),
        delta(1, "input_json_delta", partial_json='{"city":"Mü'),
        PING,
        delta(1, "input_json_delta", partial_json='nchen\\n"}'),
        closed(1),
        opened(2, {"type": "tool_use", "id": "toolu_01B", "name": "now", "input": {}}),
        delta(2, "input_json_delta", partial_json=""),
        closed(2),
        ended("tool_use", {"output_tokens": 89}),
    ]
)

THINKING = b"".join(
    [
        start(),
        opened(0, {"type": "thinking", "thinking": "", "signature": ""}),
        delta(0, "thinking_delta", thinking="Two and"),
        delta(0, "thinking_delta", thinking=" two."),
        delta(0, "signature_delta", signature="EqQBCgIYAhIM"),
        closed(0),
        opened(1, {"type": "redacted_thinking", "data": "EmwKAhgBEgy3"}),
        closed(1),
        opened(2, {"type": "text", "text": ""}),
        delta(2, "text_delta", text="Four."),
        closed(2),
        ended("end_turn", {"output_tokens": 30, "output_tokens_details": {"thinking_tokens": 21}}),
    ]
)

REFUSAL = b"".join(
    [
        start(),
        opened(0, {"type": "text", "text": ""}),
        delta(0, "text_delta", text="I can"),
        closed(0),
        ended(
            "refusal",
            {"output_tokens": 2},
            stop_details={"type": "refusal", "category": "bio", "explanation": None},
        ),
    ]
)

CITED = b"".join(
    [
        start(),
        opened(0, {"type": "text", "text": ""}),
        delta(0, "text_delta", text="It says: "),
        closed(0),
        opened(1, {"type": "text", "text": "", "citations": []}),
        delta(1, "text_delta", text="three banks"),
        delta(
            1,
            "citations_delta",
            citation={
                "type": "char_location",
                "cited_text": "three banks",
                "document_index": 0,
                "document_title": "ships",
                "start_char_index": 4,
                "end_char_index": 15,
                "file_id": None,
            },
        ),
        closed(1),
        ended("end_turn", {"output_tokens": 9}),
    ]
)

SEARCHED = b"".join(
    [
        start(),
        opened(0, {"type": "server_tool_use", "id": "srvtoolu_01", "name": "web_search", "input": {}}),
        delta(0, "input_json_delta", partial_json='{"query":'),
        delta(0, "input_json_delta", partial_json=' "oars"}'),
        closed(0),
        opened(1, {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_01", "content": []}),
        closed(1),
        opened(2, {"type": "text", "text": ""}),
        delta(2, "text_delta", text="Oars are long."),
        delta(2, "unheard_of_delta", what=1),
        closed(2),
        frame({"type": "unheard_of_event"}),
        ended(
            "end_turn",
            {"output_tokens": 50, "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0}},
        ),
    ]
)

BROKEN = b"".join(
    [
        start(),
        opened(0, {"type": "text", "text": ""}),
        delta(0, "text_delta", text="Half an"),
        ERROR,
    ]
)

# Those that end well, by name.
WHOLE = {
    "text": TEXT,
    "tools": TOOLS,
    "thinking": THINKING,
    "refusal": REFUSAL,
    "cited": CITED,
    "searched": SEARCHED,
}


def data_of(stream):
    """The data of each frame of a stream that is complete."""
    return [line[6:] for line in stream.split(b"\n") if line.startswith(b"data: ")]
