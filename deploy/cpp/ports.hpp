// What a model takes and gives, as data: edgeport writes one `Model` for each model file, the
// loaders beside this header check a file or an engine against it and keep its buffers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace edgeport {

enum class Type { boolean, i8, u8, i16, u16, i32, u32, i64, u64, f16, bf16, f32, f64 };

constexpr std::size_t size_of(Type type) {
  constexpr std::array<std::size_t, 13> bytes{1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8};
  return bytes[static_cast<std::size_t>(type)];
}

constexpr std::size_t kMaxRank = 8;

struct Port {
  const char* name;
  Type type;
  std::size_t rank;
  std::int64_t shape[kMaxRank];

  constexpr std::size_t elements() const {
    std::size_t count = 1;
    for (std::size_t axis = 0; axis < rank; ++axis) count *= static_cast<std::size_t>(shape[axis]);
    return count;
  }
  constexpr std::size_t bytes() const { return elements() * size_of(type); }
};

// An output that is an input of the next frame; zeros where a sequence starts.
struct State {
  std::size_t output;
  std::size_t input;
};

struct Model {
  const char* variant;
  const char* sha256;  // of the model file that this was written from
  const Port* inputs;
  std::size_t input_count;
  const Port* outputs;
  std::size_t output_count;
  const State* states;
  std::size_t state_count;
};

inline std::string text(const std::int64_t* shape, std::size_t rank) {
  std::string out = "[";
  for (std::size_t axis = 0; axis < rank; ++axis) {
    out += (axis ? ", " : "") + std::to_string(shape[axis]);
  }
  return out + "]";
}

// Throws unless a tensor of the loaded file is what the header says.
inline void check(const Port& port, bool same_type, const std::vector<std::int64_t>& shape) {
  const bool same_shape =
      shape.size() == port.rank &&
      std::memcmp(shape.data(), port.shape, port.rank * sizeof(std::int64_t)) == 0;
  if (same_type && same_shape) return;
  throw std::runtime_error(std::string("the file's '") + port.name + "' is " +
                           text(shape.data(), shape.size()) +
                           (same_type ? "" : " of another type") + ", the header has " +
                           text(port.shape, port.rank) +
                           ": write the header again with edgeport emit-cpp");
}

}  // namespace edgeport
