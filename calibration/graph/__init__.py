"""Questions about an ONNX graph, and the canonical form that every pass works on."""
