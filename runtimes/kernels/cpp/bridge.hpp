// Kernels as custom operators of ONNX Runtime: types, tensors, attributes, threads.
//
// Only its C interface is used, in the version of the headers that this is compiled with; a newer
// library offers older versions too.
#pragma once

#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>

#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include "product.hpp"

namespace edgeport {

constexpr auto kI8 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
constexpr auto kU8 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
constexpr auto kI32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
constexpr auto kI64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
constexpr auto kBool = ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;

using Shape = std::vector<i64>;
using Types = std::vector<ONNXTensorElementDataType>;

inline std::size_t count(const Shape& shape, std::size_t end) {
  std::size_t product = 1;
  for (std::size_t i = 0; i < end; ++i) product *= static_cast<std::size_t>(shape[i]);
  return product;
}

template <class T>
struct Tensor {
  const T* data;
  Shape shape;

  std::size_t size() const { return count(shape, shape.size()); }
  std::size_t row() const { return static_cast<std::size_t>(shape.back()); }
  std::size_t rows() const { return count(shape, shape.size() - 1); }
  std::size_t dim(std::size_t axis) const { return static_cast<std::size_t>(shape.at(axis)); }
};

// One execution of a kernel.
class Run {
 public:
  explicit Run(OrtKernelContext* context) : raw_(context), context_(context) {}

  template <class T>
  Tensor<T> in(std::size_t index) const {
    const Ort::ConstValue value = context_.GetInput(index);
    return {value.GetTensorData<T>(), value.GetTensorTypeAndShapeInfo().GetShape()};
  }

  bool has(std::size_t index) const {
    return index < context_.GetInputCount() && context_.GetInput(index) != nullptr;
  }

  template <class T>
  T* out(std::size_t index, const Shape& shape) {
    return context_.GetOutput(index, shape).GetTensorMutableData<T>();
  }

  // work(first, last) over parts of 0 .. n on the session's threads; one part below `least`.
  template <class Work>
  void parallel(std::size_t n, std::size_t least, Work&& work) const {
    constexpr std::size_t kMaxParts = 64;
    const std::size_t parts = std::min(n / std::max<std::size_t>(least, 1), kMaxParts);
    if (parts < 2) {
      work(std::size_t{0}, n);
      return;
    }
    struct Job {
      Work& work;
      std::size_t n, parts;
    } job{work, n, parts};
    const auto part = [](void* data, std::size_t index) {
      const Job& j = *static_cast<Job*>(data);
      j.work(j.n * index / j.parts, j.n * (index + 1) / j.parts);
    };
    Ort::ThrowOnError(Ort::GetApi().KernelContext_ParallelFor(raw_, part, parts, 0, &job));
  }

 private:
  OrtKernelContext* raw_;
  Ort::KernelContext context_;
};

// An input that is the same in every run, packed once; packed anew in every run where it is not.
class Weights {
 public:
  Weights(const Ort::ConstKernelInfo& info, std::size_t index) : index_(index) {
    int constant = 0;
    const Ort::ConstValue value = info.GetTensorConstantInput(index, &constant);
    if (constant) {
      const Shape shape = value.GetTensorTypeAndShapeInfo().GetShape();
      packed_ = pack(value.GetTensorData<std::int8_t>(), shape);
    }
  }

  std::shared_ptr<const Matrix> of(const Run& run) const {
    if (packed_) return packed_;
    const auto weights = run.in<std::int8_t>(index_);
    return pack(weights.data, weights.shape);
  }

 private:
  static std::shared_ptr<const Matrix> pack(const std::int8_t* data, const Shape& shape) {
    if (shape.size() != 2) throw std::invalid_argument("weights are no matrix");
    return std::make_shared<Matrix>(data, shape[0], shape[1]);
  }

  std::size_t index_;
  std::shared_ptr<const Matrix> packed_;
};

// Columns of x @ weights on all threads; sink as of Matrix::multiply.
template <class Sink>
void multiply(const Run& run, const Matrix& weights, const std::uint8_t* x, std::size_t rows,
              Sink&& sink) {
  constexpr std::size_t kRowsAtOnce = 8 * kTileRows;  // so that few panels still fill the threads
  constexpr std::size_t kLeastWork = 1 << 16;         // bytes of weights, below that waking costs more
  const std::size_t blocks = (rows + kRowsAtOnce - 1) / kRowsAtOnce;
  const std::size_t panel_bytes = weights.stride * kPanel;
  const std::size_t least = std::max<std::size_t>(1, kLeastWork / panel_bytes);
  run.parallel(weights.panels * blocks, least, [&](std::size_t from, std::size_t to) {
    for (std::size_t task = from; task < to; ++task) {
      const std::size_t first = task % blocks * kRowsAtOnce;
      const std::size_t many = std::min(kRowsAtOnce, rows - first);
      weights.multiply(x + first * weights.stride, many, task / blocks,
                       [&](std::size_t row, std::size_t column, std::size_t n,
                           const std::int32_t* products) { sink(first + row, column, n, products); });
    }
  });
}

// A kernel class as an operator: it has kName, inputs(), outputs(), kRequired (how many inputs there
// must be), a constructor from its node and compute(Run&).
template <class Kernel>
struct Operator : Ort::CustomOpBase<Operator<Kernel>, Kernel, true> {
  const char* GetName() const { return Kernel::kName; }
  std::size_t GetInputTypeCount() const { return Kernel::inputs().size(); }
  ONNXTensorElementDataType GetInputType(std::size_t i) const { return Kernel::inputs()[i]; }
  std::size_t GetOutputTypeCount() const { return Kernel::outputs().size(); }
  ONNXTensorElementDataType GetOutputType(std::size_t i) const { return Kernel::outputs()[i]; }
  OrtCustomOpInputOutputCharacteristic GetInputCharacteristic(std::size_t i) const {
    return i < Kernel::kRequired ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
  }

  OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const {
    return guarded([&] { *kernel = new Kernel(Ort::ConstKernelInfo(info)); });
  }

  // No exception may pass through a C interface.
  template <class Work>
  static OrtStatusPtr guarded(Work&& work) {
    try {
      work();
      return nullptr;
    } catch (const std::exception& error) {
      const std::string words = std::string("edgeport::") + Kernel::kName + ": " + error.what();
      return Ort::GetApi().CreateStatus(ORT_RUNTIME_EXCEPTION, words.c_str());
    }
  }
};

template <class Kernel>
struct Computes {
  OrtStatusPtr ComputeV2(OrtKernelContext* context) {
    return Operator<Kernel>::guarded([&] {
      Run run(context);
      static_cast<Kernel*>(this)->compute(run);
    });
  }
};

}  // namespace edgeport
