"""A model file's inputs, outputs and state as a C++ header, with loaders for two runtimes.

model.hpp             written for one model file: names, types, shapes, classes, geometry
ports.hpp             the types that it is written in
onnxruntime.hpp       runs the model file; tensorrt.hpp runs its engine
run.hpp, main_*.cpp   an example: frames from folders of raw tensors
CMakeLists.txt
"""

from __future__ import annotations

from deploy.cpp.writing import EmittedCpp, emit_cpp

__all__ = ["EmittedCpp", "emit_cpp"]
