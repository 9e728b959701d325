"""What the pinned tritonclient needs of the other pinned packages."""

import uuid

import numpy as np


def test_system_shared_memory_of_the_client_library_works():
    from tritonclient.utils import shared_memory

    given = np.arange(6, dtype=np.float32)
    region = shared_memory.create_shared_memory_region("region", f"/trireme-{uuid.uuid4().hex}", given.nbytes)
    try:
        shared_memory.set_shared_memory_region(region, [given])
        found = shared_memory.get_contents_as_numpy(region, np.float32, [6])
        assert found.tolist() == given.tolist()
    finally:
        shared_memory.destroy_shared_memory_region(region)
