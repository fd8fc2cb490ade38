// Products of 8-bit rows and 8-bit weights, exact in int32, for the instruction set this is compiled
// for: AVX-512 VNNI, AVX-VNNI, AVX2, or whatever the compiler makes of plain loops.
//
// Weights lie in panels of 4 vectors of columns; within one, four rows of the matrix are side by
// side, as the dot product of bytes wants them. A decoding step reads them once, in order; a prompt
// keeps one panel in the cache while its rows pass in tiles.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "arithmetic.hpp"

namespace edgeport {

#if defined(__AVX512VNNI__)
constexpr int kVectorBytes = 64;
constexpr int kTileRows = 6;  // x 4 accumulators, 4 vectors of weights and a broadcast: 29 of 32
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
constexpr int kTileRows = 2;  // 13 of 16 registers
#else
constexpr int kVectorBytes = 16;
constexpr int kTileRows = 2;
#endif

using Vector = std::int32_t __attribute__((vector_size(kVectorBytes)));
constexpr int kLanes = kVectorBytes / 4;
constexpr int kPanel = 4 * kLanes;

inline Vector load(const void* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

// In each of the lanes, the dot product of four unsigned and four signed bytes; never saturates.
inline Vector dot(Vector sum, Vector bytes, Vector weights) {
#if defined(__AVX512VNNI__)
  return (Vector)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)bytes, (__m512i)weights);
#elif defined(__AVXVNNI__)
  return (Vector)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)bytes, (__m256i)weights);
#elif defined(__AVX2__)
  // vpmaddubsw would saturate at 16 bits; even and odd bytes apart do not.
  const __m256i b = (__m256i)bytes, w = (__m256i)weights;
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(b, _mm256_set1_epi16(255)),
                                         _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(b, 8), _mm256_srai_epi16(w, 8));
  return sum + (Vector)_mm256_add_epi32(even, odd);
#else
  using Bytes = std::uint8_t __attribute__((vector_size(kVectorBytes)));
  using SignedBytes = std::int8_t __attribute__((vector_size(kVectorBytes)));
  const Bytes b = (Bytes)bytes;
  const SignedBytes w = (SignedBytes)weights;
  for (int lane = 0; lane < kLanes; ++lane)
    for (int i = 4 * lane; i < 4 * lane + 4; ++i) sum[lane] += int{b[i]} * int{w[i]};
  return sum;
#endif
}

inline std::int32_t sum_of(Vector v) {
  std::int32_t total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += v[lane];
  return total;
}

inline std::size_t round_up(std::size_t n, std::size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Numbers from a 64-byte boundary on.
template <class T>
class Aligned {
 public:
  explicit Aligned(std::size_t n)
      : data_(static_cast<T*>(std::aligned_alloc(64, round_up(n * sizeof(T), 64) + 64))) {
    if (!data_) throw std::bad_alloc();
  }
  T* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T[], Free> data_;
};

// int8 [depth, width] in panels.
class Matrix {
 public:
  Matrix(const std::int8_t* weights, std::size_t depth, std::size_t width)
      : depth(depth),
        width(width),
        stride(round_up(depth, 4)),
        panels((width + kPanel - 1) / kPanel),
        packed_(panels * kPanel * stride),
        offsets_(panels * kPanel) {
    std::memset(packed_.get(), 0, panels * kPanel * stride);
    std::memset(offsets_.get(), 0, panels * kPanel * sizeof(std::int32_t));
    for (std::size_t k = 0; k < depth; ++k)
      for (std::size_t j = 0; j < width; ++j) {
        const std::int8_t w = weights[k * width + j];
        panel(j / kPanel)[(k / 4 * kPanel + j % kPanel) * 4 + k % 4] = w;
        offsets_.get()[j] -= kZeroPoint * w;
      }
  }

  // Columns of one panel for `rows` rows, each `stride` bytes after the one before:
  // sink(row, first column, columns, int32 products with the zero point taken out).
  template <class Sink>
  void multiply(const std::uint8_t* x, std::size_t rows, std::size_t panel_index,
                Sink&& sink) const {
    std::size_t row = 0;
    for (; row + kTileRows <= rows; row += kTileRows) tile<kTileRows>(x, row, panel_index, sink);
    for (; row < rows; ++row) tile<1>(x, row, panel_index, sink);
  }

  const std::size_t depth, width, stride, panels;

 private:
  static constexpr int kZeroPoint = 128;

  std::int8_t* panel(std::size_t index) const { return packed_.get() + index * kPanel * stride; }

  template <int kRows, class Sink>
  void tile(const std::uint8_t* x, std::size_t row, std::size_t index, Sink& sink) const {
    Vector sums[kRows][4];
    const std::size_t first = index * kPanel;
    for (int c = 0; c < 4; ++c) {
      const Vector offset = load(offsets_.get() + first + c * kLanes);
      for (int r = 0; r < kRows; ++r) sums[r][c] = offset;
    }
    const std::int8_t* w = panel(index);
    x += row * stride;
    for (std::size_t k = 0; k < stride; k += 4, w += 4 * kPanel) {
      const Vector columns[4] = {load(w), load(w + kVectorBytes), load(w + 2 * kVectorBytes),
                                 load(w + 3 * kVectorBytes)};
      for (int r = 0; r < kRows; ++r) {
        std::int32_t four;
        std::memcpy(&four, x + r * stride + k, 4);
        const Vector bytes = Vector{} + four;
        for (int c = 0; c < 4; ++c) sums[r][c] = dot(sums[r][c], bytes, columns[c]);
      }
    }
    const std::size_t count = std::min<std::size_t>(kPanel, width - first);
    for (int r = 0; r < kRows; ++r) {
      std::int32_t products[kPanel];
      std::memcpy(products, sums[r], sizeof products);
      sink(row + r, first, count, products);
    }
  }

  Aligned<std::int8_t> packed_;
  Aligned<std::int32_t> offsets_;
};

}  // namespace edgeport
