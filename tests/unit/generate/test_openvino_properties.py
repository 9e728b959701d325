from trireme.generate.openvino_properties import compile_properties


def test_openvino_takes_the_properties():
    import openvino

    threads = compile_properties(threads=1)
    assert threads["INFERENCE_NUM_THREADS"] == 1
    assert "INFERENCE_NUM_THREADS" not in compile_properties()
    node = openvino.opset15.parameter([1], openvino.Type.f32)
    model = openvino.Model([openvino.opset15.abs(node)], [node], "absolute")
    compiled = openvino.Core().compile_model(model, "CPU", threads)
    assert compiled.get_property("KV_CACHE_PRECISION") == openvino.Type.f16
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
