"""Chat providers whose answers are written down beforehand, and the clock that they move."""

import asyncio
import inspect
from dataclasses import dataclass

from trireme.providers.chat import ChatCall, Finished, Started, TextDelta, Usage
from trireme.providers.port import AttemptLimits, ProviderError
from trireme.providers.targets import Entry, Target

WHOLE = (Started("m"), TextDelta("one "), TextDelta("two"), Usage(3, 2), Finished("stop"))


class Clock:
    """Time that passes only where somebody waits or a script says so; `waits` has each wait."""

    def __init__(self):
        self.now = 1000.0
        self.waits = []

    def __call__(self):
        return self.now

    def move(self, seconds):
        self.now += seconds

    async def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@dataclass
class Called:
    """One call of a provider. `end`: how its generator ended: whole, error, closed or cancelled; "" while open."""

    call: ChatCall
    model: str
    limits: AttemptLimits
    end: str = ""


class ScriptedProvider:
    """A ChatProvider that follows one script for each call, the last one ever after.

    A script is a sequence of steps: an event is given, an error raised, a function called and what it returns
    awaited if it can be. Each step, and the closing, first lets the loop run once: there are places to cancel it.
    """

    surfaces = ()

    def __init__(self, *scripts, refuses="", tokens=7):
        self.scripts = scripts or (WHOLE,)
        self.refuses = refuses
        self.tokens = tokens
        self.calls = []
        self.is_closed = False

    @property
    def ends(self):
        return [called.end for called in self.calls]

    def find_fault(self, call, model):
        return self.refuses

    async def chat(self, call, model, limits):
        called = Called(call, model, limits)
        script = self.scripts[min(len(self.calls), len(self.scripts) - 1)]
        self.calls.append(called)
        end = "error"
        try:
            for step in script:
                await asyncio.sleep(0)
                if isinstance(step, Exception):
                    raise step
                if callable(step):
                    made = step()
                    if inspect.isawaitable(made):
                        await made
                else:
                    yield step
            end = "whole"
        except GeneratorExit:
            end = "closed"
            raise
        except asyncio.CancelledError:
            end = "cancelled"
            raise
        finally:
            try:
                await asyncio.sleep(0)
            finally:
                called.end = end

    async def count_tokens(self, call, model):
        return self.tokens

    async def close(self):
        self.is_closed = True


def fault(remedy="again", kind="overloaded", **more):
    """A ProviderError, named by its kind."""
    return ProviderError(f"{kind} of a script", remedy, kind, **more)


def target_of(*providers, name="a", model="m", limits=None, region=""):
    """A target whose entry has one key for each of the providers."""
    return Target(Entry(name, providers, limits or AttemptLimits(), region), model)
