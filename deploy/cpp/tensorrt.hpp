// Runs an engine in TensorRT 10, 11 or RTX. Fill input(i), call run(), read output(i).
#pragma once

#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <utility>

#include "ports.hpp"

namespace edgeport {

inline void cuda_check(cudaError_t code, const char* what) {
  if (code != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(code));
  }
}

class Logger final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    if (severity <= Severity::kWARNING) std::fprintf(stderr, "TensorRT: %s\n", message);
  }
};

class TensorRTSession {
 public:
  TensorRTSession(const Model& model, const std::string& path) : model_(model) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> plan{std::istreambuf_iterator<char>(file), {}};
    if (plan.empty()) throw std::runtime_error("no engine at " + path);
    runtime_.reset(nvinfer1::createInferRuntime(logger_));
    if (runtime_) engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    if (!engine_) {
      throw std::runtime_error(path + " is not an engine of this TensorRT and this GPU: build it "
                                      "here with edgeport build");
    }
    context_.reset(engine_->createExecutionContext());
    if (!context_) throw std::runtime_error("no execution context: out of GPU memory?");
    cudaStream_t stream = nullptr;
    cuda_check(cudaStreamCreate(&stream), "cudaStreamCreate");
    stream_.reset(stream);
    allocate(model.inputs, model.input_count, inputs_);
    allocate(model.outputs, model.output_count, outputs_);
    reset();
  }

  // Page-locked host memory of `model.inputs[i].bytes()`; a state stays on the device.
  void* input(std::size_t i) { return inputs_.at(i).host.get(); }

  // Valid until the next run().
  const void* output(std::size_t i) const { return outputs_.at(i).host.get(); }

  // The next frame starts a sequence.
  void reset() {
    for (std::size_t i = 0; i < model_.state_count; ++i) {
      const std::size_t input = model_.states[i].input;
      cuda_check(cudaMemsetAsync(inputs_[input].device.get(), 0, model_.inputs[input].bytes(),
                                 stream_.get()),
                 "cudaMemsetAsync");
    }
    started_ = false;
  }

  void run() {
    if (started_) {  // what the last frame gave as state, this one takes: pointers change places
      for (std::size_t i = 0; i < model_.state_count; ++i) {
        const State& state = model_.states[i];
        std::swap(inputs_[state.input].device, outputs_[state.output].device);
      }
    }
    started_ = true;
    for (std::size_t i = 0; i < model_.input_count; ++i) {
      bind(model_.inputs[i], inputs_[i]);
      if (!is_state_input(i)) copy(model_.inputs[i], inputs_[i], cudaMemcpyHostToDevice);
    }
    for (std::size_t i = 0; i < model_.output_count; ++i) bind(model_.outputs[i], outputs_[i]);
    if (!context_->enqueueV3(stream_.get())) throw std::runtime_error("TensorRT could not run the engine");
    for (std::size_t i = 0; i < model_.output_count; ++i) {
      if (!is_state_output(i)) copy(model_.outputs[i], outputs_[i], cudaMemcpyDeviceToHost);
    }
    cuda_check(cudaStreamSynchronize(stream_.get()), "run");
  }

 private:
  struct FreeHost {
    void operator()(void* memory) const { cudaFreeHost(memory); }
  };
  struct FreeDevice {
    void operator()(void* memory) const { cudaFree(memory); }
  };
  struct DestroyStream {
    void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
  };
  struct Buffer {
    std::unique_ptr<void, FreeHost> host;
    std::unique_ptr<void, FreeDevice> device;
  };

  void allocate(const Port* ports, std::size_t count, std::vector<Buffer>& buffers) {
    buffers.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
      const nvinfer1::Dims dims = engine_->getTensorShape(ports[i].name);
      check(ports[i], engine_->getTensorDataType(ports[i].name) == data_type(ports[i].type),
            std::vector<std::int64_t>(dims.d, dims.d + std::max(dims.nbDims, 0)));
      void* memory = nullptr;
      cuda_check(cudaMallocHost(&memory, ports[i].bytes()), "cudaMallocHost");
      buffers[i].host.reset(memory);
      cuda_check(cudaMalloc(&memory, ports[i].bytes()), "cudaMalloc");
      buffers[i].device.reset(memory);
    }
  }

  static nvinfer1::DataType data_type(Type type) {
    using nvinfer1::DataType;
    switch (type) {
      case Type::boolean: return DataType::kBOOL;
      case Type::i8: return DataType::kINT8;
      case Type::u8: return DataType::kUINT8;
      case Type::i32: return DataType::kINT32;
      case Type::i64: return DataType::kINT64;
      case Type::f16: return DataType::kHALF;
      case Type::bf16: return DataType::kBF16;
      case Type::f32: return DataType::kFLOAT;
      default: throw std::runtime_error("TensorRT has no tensors of this type");
    }
  }

  void bind(const Port& port, const Buffer& buffer) {
    if (!context_->setTensorAddress(port.name, buffer.device.get())) {
      throw std::runtime_error(std::string("the engine has no '") + port.name + "'");
    }
  }

  void copy(const Port& port, const Buffer& buffer, cudaMemcpyKind kind) {
    void* host = buffer.host.get();
    void* device = buffer.device.get();
    const bool in = kind == cudaMemcpyHostToDevice;
    cuda_check(cudaMemcpyAsync(in ? device : host, in ? host : device, port.bytes(), kind,
                               stream_.get()),
               port.name);
  }

  bool is_state_input(std::size_t i) const {
    for (std::size_t s = 0; s < model_.state_count; ++s) {
      if (model_.states[s].input == i) return true;
    }
    return false;
  }

  bool is_state_output(std::size_t i) const {
    for (std::size_t s = 0; s < model_.state_count; ++s) {
      if (model_.states[s].output == i) return true;
    }
    return false;
  }

  const Model model_;
  Logger logger_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  std::unique_ptr<CUstream_st, DestroyStream> stream_;
  std::vector<Buffer> inputs_, outputs_;
  bool started_ = false;
};

}  // namespace edgeport
