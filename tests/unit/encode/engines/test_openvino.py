import subprocess
import sys

# Without care one process in two never ends: four tell.
PROCESSES = 4
FIRST_RUNS = """
import sys, threading
from pathlib import Path
import numpy as np
import openvino
from openvino import opset13 as ops
from trireme.encode.engines.openvino import OpenVinoSession
from trireme.encode.session import SessionOptions, TokenBatch

folder = Path(sys.argv[1])
ids = ops.parameter([-1, -1], np.int64, name="input_ids")
ids.output(0).set_names({"input_ids"})
openvino.save_model(openvino.Model([ops.convert(ids, "f32")], [ids], "ids"), folder / "openvino_model.xml")
sessions = [OpenVinoSession(folder, SessionOptions(threads=1)) for _ in range(2)]
together = threading.Barrier(2)
rows = []

def run(session):
    together.wait()
    rows.append(session.run(TokenBatch(np.array([3, 5]), np.zeros(2, np.int64), np.array([2])))[0, :2].tolist())

threads = [threading.Thread(target=run, args=(session,)) for session in sessions]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(rows)
"""


def test_the_first_runs_of_two_threads_end(tmp_path):
    started = []
    for number in range(PROCESSES):
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [sys.executable, "-c", FIRST_RUNS, str(folder)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    try:
        assert [process.communicate(timeout=60)[0] for process in started] == [
            "[[3.0, 5.0], [3.0, 5.0]]\n"
        ] * PROCESSES
    finally:
        for process in started:
            process.kill()
