// Runs a model file in ONNX Runtime. Fill input(i), call run(), read output(i).
#pragma once

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <utility>

#include "ports.hpp"

namespace edgeport {

class OnnxRuntimeSession {
 public:
  OnnxRuntimeSession(const Model& model, const std::string& path, int threads = 0)
      : model_(model), env_(ORT_LOGGING_LEVEL_ERROR, "edgeport"), session_(nullptr) {
    Ort::SessionOptions options;
    if (threads > 0) options.SetIntraOpNumThreads(threads);
    session_ = Ort::Session(env_, path.c_str(), options);
    allocate(model.inputs, model.input_count, inputs_);
    allocate(model.outputs, model.output_count, outputs_);
    for (std::size_t i = 0; i < model.input_count; ++i) {
      check_file(model.inputs[i], session_.GetInputTypeInfo(find(model.inputs[i], true)));
    }
    for (std::size_t i = 0; i < model.output_count; ++i) {
      check_file(model.outputs[i], session_.GetOutputTypeInfo(find(model.outputs[i], false)));
    }
  }

  // Host memory of `model.inputs[i].bytes()`; a state's input is filled by the loader.
  void* input(std::size_t i) { return inputs_.at(i).data(); }

  // Valid until the next run().
  const void* output(std::size_t i) const { return outputs_.at(i).data(); }

  // The next frame starts a sequence.
  void reset() {
    for (std::size_t i = 0; i < model_.state_count; ++i) {
      Buffer& state = inputs_[model_.states[i].input];
      std::fill(state.begin(), state.end(), std::uint8_t{0});
    }
    started_ = false;
  }

  void run() {
    if (started_) {  // what the last frame gave as state, this one takes
      for (std::size_t i = 0; i < model_.state_count; ++i) {
        const State& state = model_.states[i];
        std::swap(inputs_[state.input], outputs_[state.output]);
      }
    }
    started_ = true;
    std::vector<const char*> input_names, output_names;
    std::vector<Ort::Value> inputs = values(model_.inputs, inputs_, input_names);
    std::vector<Ort::Value> outputs = values(model_.outputs, outputs_, output_names);
    session_.Run(Ort::RunOptions{nullptr}, input_names.data(), inputs.data(), inputs.size(),
                 output_names.data(), outputs.data(), outputs.size());
  }

 private:
  using Buffer = std::vector<std::uint8_t>;

  static void allocate(const Port* ports, std::size_t count, std::vector<Buffer>& buffers) {
    for (std::size_t i = 0; i < count; ++i) buffers.emplace_back(ports[i].bytes());
  }

  std::size_t find(const Port& port, bool is_input) {
    Ort::AllocatorWithDefaultOptions allocator;
    const std::size_t count = is_input ? session_.GetInputCount() : session_.GetOutputCount();
    for (std::size_t i = 0; i < count; ++i) {
      const auto name = is_input ? session_.GetInputNameAllocated(i, allocator)
                                 : session_.GetOutputNameAllocated(i, allocator);
      if (std::strcmp(name.get(), port.name) == 0) return i;
    }
    throw std::runtime_error(std::string("the file has no '") + port.name +
                             "': write the header again with edgeport emit-cpp");
  }

  static void check_file(const Port& port, const Ort::TypeInfo& info) {
    const auto tensor = info.GetTensorTypeAndShapeInfo();
    check(port, tensor.GetElementType() == element_type(port.type), tensor.GetShape());
  }

  static ONNXTensorElementDataType element_type(Type type) {
    constexpr std::array<ONNXTensorElementDataType, 13> types{
        ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,   ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE};
    return types[static_cast<std::size_t>(type)];
  }

  std::vector<Ort::Value> values(const Port* ports, std::vector<Buffer>& buffers,
                                 std::vector<const char*>& names) const {
    std::vector<Ort::Value> out;
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      names.push_back(ports[i].name);
      out.push_back(Ort::Value::CreateTensor(memory_, buffers[i].data(), buffers[i].size(),
                                             ports[i].shape, ports[i].rank,
                                             element_type(ports[i].type)));
    }
    return out;
  }

  const Model model_;
  Ort::Env env_;
  Ort::Session session_;
  Ort::MemoryInfo memory_ = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<Buffer> inputs_, outputs_;
  bool started_ = false;
};

}  // namespace edgeport
