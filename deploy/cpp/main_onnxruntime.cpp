#include "model.hpp"
#include "onnxruntime.hpp"
#include "run.hpp"

int main(int argc, char** argv) {
  return edgeport::run<edgeport::OnnxRuntimeSession>(model::kModel, argc, argv);
}
