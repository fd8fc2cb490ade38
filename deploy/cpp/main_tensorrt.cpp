#include "model.hpp"
#include "run.hpp"
#include "tensorrt.hpp"

int main(int argc, char** argv) {
  return edgeport::run<edgeport::TensorRTSession>(model::kModel, argc, argv);
}
