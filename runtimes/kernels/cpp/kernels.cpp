// The library that ONNX Runtime loads: every kernel, in the domain of the functions it replaces.
#include "blocks.hpp"

namespace {

template <class Kernel>
const OrtCustomOp* made() {
  static const edgeport::Operator<Kernel> one;
  return &one;
}

template <class... Kernels>
void add_all(Ort::CustomOpDomain& domain) {
  (domain.Add(made<Kernels>()), ...);
}

// Compiled for one kind of CPU, a cached library may meet another.
bool cpu_is_known() {
#if defined(__AVX512VNNI__)
  return __builtin_cpu_supports("avx512vnni");
#elif defined(__AVX2__)
  return __builtin_cpu_supports("avx2");
#else
  return true;
#endif
}

}  // namespace

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(
    OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  if (api == nullptr) return nullptr;  // ONNX Runtime has said that it is older than the headers
  if (!cpu_is_known())
    return api->CreateStatus(ORT_FAIL, "edgeport's kernels were compiled for another CPU");
  Ort::InitApi(api);
  try {
    static Ort::CustomOpDomain domain = [] {
      Ort::CustomOpDomain all("edgeport");
      using namespace edgeport;
      add_all<MatMul, Quantize, RmsNorm, RmsNormWide, SwiGLU, ResidualAdd, Rotary, ClippedSoftmax, Attention,
              FeedForward>(all);
      return all;
    }();
    return api->AddCustomOpDomain(options, domain);
  } catch (const std::exception& error) {
    return api->CreateStatus(ORT_FAIL, error.what());
  }
}
