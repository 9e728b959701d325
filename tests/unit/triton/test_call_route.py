import asyncio
import contextvars

import pytest

from trireme.access.priorities import PRIORITIES
from trireme.scale import routes
from trireme.triton import call_route
from trireme.triton.call_route import CallRoute, metadata_of, route_calls

NEAR = ("trireme-residency", "near")
BATCH = ("trireme-priority", "batch")


def test_a_balancer_reads_what_a_client_writes():
    keys = (call_route.PRIORITY_KEY, call_route.RESIDENCY_KEY)
    assert keys == (routes.PRIORITY_HEADER, routes.RESIDENCY_HEADER)
    assert metadata_of("m", CallRoute("batch"))[0][0] == routes.MODEL_HEADER
    assert metadata_of("", CallRoute("batch")) == ((routes.PRIORITY_HEADER, routes.BATCH),)


@pytest.mark.parametrize("priority", PRIORITIES)
def test_what_is_normal_is_not_said(priority):
    said = metadata_of("", CallRoute(priority))
    assert said == (() if priority == "normal" else ((routes.PRIORITY_HEADER, priority),))


def test_bulk_is_batch_work_wherever_it_comes_from_and_may_stay_near():
    for priority in PRIORITIES:
        assert metadata_of("", CallRoute(priority), bulk=True) == (BATCH,)
    assert metadata_of("", CallRoute(stays_near=True), bulk=True) == (BATCH, NEAR)


def test_a_route_is_that_of_its_task_and_of_those_it_makes_and_of_no_other():
    async def answer(stays):
        route_calls(CallRoute(stays_near=stays))
        await asyncio.sleep(0)

        async def ask():
            return metadata_of("", CallRoute("high"))

        return await asyncio.create_task(ask())

    async def run():
        outside = asyncio.create_task(asyncio.sleep(0, metadata_of("", CallRoute("high"))))
        return await asyncio.gather(answer(True), answer(False), outside)

    found = contextvars.copy_context().run(asyncio.run, run())
    assert found == [(NEAR,), (), (("trireme-priority", "high"),)]
