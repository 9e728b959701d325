"""Which chats the semantic cache may answer: one question by itself, whose answer is the same each time."""

from __future__ import annotations

from trireme.cache.questions import find_obstacle
from trireme.providers.chat import ChatCall, Text

# Of messages before the question: they are in the partition, word by word.
_SYSTEM_ROLES = ("system", "developer")


def find_fault(call: ChatCall, *, is_declared: bool = False) -> str:
    """Why a call is not for the semantic cache, in a word for metrics; "" if it is. Pure.

    The variable part is the text of the last message; all else belongs into the partition. is_declared: the model's
    route says that answers may be kept whatever the temperature is.
    """
    if call.surface == "completions" or call.prompt is not None:
        return "completion"
    *before, last = call.messages or (None,)
    if last is None or last.role != "user" or any(one.role not in _SYSTEM_ROLES for one in before if one):
        return "turns"
    parts = [part for message in call.messages for part in message.parts]
    faults = {
        "parts": len(last.parts) != 1 or not all(isinstance(part, Text) for part in parts),
        "tools": bool(call.tools) or call.tool_choice not in (None, "none"),
        "format": call.response_format is not None and call.response_format.get("type") != "text",
        "choices": call.choices != 1 or call.logprobs is not None,
        "temperature": call.temperature != 0 and not is_declared,
    }
    return next((name for name, found in faults.items() if found), "") or find_obstacle(last.text)
