import numpy as np
import pytest
from tritonclient.grpc import InferInput, service_pb2

from trireme.triton.wire import is_final, outputs_of, stream_request


@pytest.mark.parametrize(
    ("value", "datatype", "kind"),
    [
        ("trirème", "BYTES", object),
        (True, "BOOL", np.bool_),
        (-7, "INT32", np.int32),
        (0.5, "FP32", np.float32),
    ],
)
def test_a_value_is_encoded_as_tritonclient_does(value, datatype, kind):
    theirs = InferInput("x", [1], datatype)
    theirs.set_data_from_numpy(np.array([value.encode() if isinstance(value, str) else value], dtype=kind))
    request = stream_request("llm", {"x": value}, "key", {"cancel": "other"})
    assert request.inputs[0] == theirs._get_tensor()
    assert request.raw_input_contents[0] == theirs._get_content()
    assert (request.model_name, request.id) == ("llm", "key")
    assert request.parameters["cancel"].string_param == "other"
    assert request.parameters["triton_enable_empty_final_response"].bool_param


def test_a_response_is_read_back():
    response = service_pb2.ModelInferResponse()
    assert not is_final(response)
    response.parameters["triton_final_response"].bool_param = True
    assert is_final(response)
    assert outputs_of(response) == {}
    response.outputs.add(name="n", datatype="UINT32", shape=[1])
    response.raw_output_contents.append(b"\x07\0\0\0")
    assert outputs_of(response)["n"].tolist() == [7]
