"""A call as a question to the caches, or none where its answer is nobody else's."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from trireme.cache.port import Question
from trireme.gateway.caching import eligible
from trireme.gateway.caching.fingerprints import Fingerprints
from trireme.gateway.caching.keys import question_of
from trireme.gateway.caching.wishes import Wish, is_eligible
from trireme.gateway.chains import Chain
from trireme.gateway.file import GatewayFile, ModelRow
from trireme.providers.chat import ChatCall

_NO_ROW = ModelRow()


async def read_question(
    call: ChatCall, chain: Chain, wish: Wish, file: GatewayFile, fingerprints: Fingerprints
) -> Question | None:
    """None for a call whose answer no other call may get, or of which nobody can tell what would answer it."""
    row, target = file.models.get(call.model, _NO_ROW), chain.targets[0]
    policy = row.exact or file.cache.exact
    if not is_eligible(call, policy, is_greedy=fingerprints.is_greedy(chain)):
        return None
    # Another target's answer is not kept. Of a cascade all are, and those who cannot take the call have gone.
    if chain.plan is None and target.entry.keys[0].find_fault(call, target.model):
        return None
    fingerprint = await fingerprints.read(call, chain)
    if fingerprint is None:
        return None
    # When an answer is sufficient may be the model's to say, and which step's answer is sure enough always is.
    rules = msgspec.to_builtins(row.stop_when)
    if chain.plan is not None:
        # And which steps are left to answer: two that share a target are told apart by nothing else.
        rules = [rules, chain.plan.rules, [step.plan.name for step in chain.steps]]
    question = question_of(
        call,
        replace(fingerprint, rules=rules),
        seconds=file.cache.seconds,
        max_age=wish.max_age,
        may_read=wish.may_read,
        may_keep=wish.may_keep,
    )
    # What is not for the semantic tier has no text that may vary.
    is_declared = policy == "all" or call.temperature is None
    if question is not None and question.text and eligible.find_fault(call, is_declared=is_declared):
        question = replace(question, text="")
    return question
