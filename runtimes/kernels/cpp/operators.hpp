// Kernels of the operators in exporters/ops, each in place of one function of that name.
#pragma once

#include "bridge.hpp"
#include "rows.hpp"

namespace edgeport {

constexpr std::size_t kRowsPerPart = 4;

inline Shape with_last(Shape shape, i64 last) {
  shape.back() = last;
  return shape;
}

// An attribute that files exported earlier do not have.
inline i64 attribute_or(const Ort::ConstKernelInfo& info, const char* name, i64 missing) {
  try {
    return info.GetAttribute<i64>(name);
  } catch (const Ort::Exception&) {
    return missing;
  }
}

inline RowRounding row_rounding(const Ort::ConstKernelInfo& info) {
  const i64 levels = info.GetAttribute<i64>("levels");
  return {levels, attribute_or(info, "steps", levels), attribute_or(info, "parts", 1)};
}

// Mantissas and exponents of rows, as two outputs.
struct RowScales {
  RowScales(Run& run, std::size_t first, const Shape& shape)
      : mantissa(run.out<i64>(first, with_last(shape, 1))),
        exponent(run.out<i64>(first + 1, with_last(shape, 1))) {}
  void set(std::size_t row, Dyadic value) const {
    mantissa[row] = value.mantissa;
    exponent[row] = value.exponent;
  }
  i64 *mantissa, *exponent;
};

// Rows of x with the stride that the packed weights ask for; x itself where it has it.
class PaddedRows {
 public:
  PaddedRows(const std::uint8_t* x, std::size_t rows, const Matrix& weights)
      : copy_(weights.stride == weights.depth ? 0 : rows * weights.stride), data(x) {
    if (weights.stride == weights.depth) return;
    for (std::size_t row = 0; row < rows; ++row)
      std::memcpy(&copy_[row * weights.stride], x + row * weights.depth, weights.depth);
    data = copy_.data();
  }

 private:
  std::vector<std::uint8_t> copy_;

 public:
  const std::uint8_t* data;
};

struct MatMul : Computes<MatMul> {
  static constexpr const char* kName = "DIMatMul";
  static constexpr std::size_t kRequired = 3;
  static Types inputs() { return {kU8, kI8, kI64}; }
  static Types outputs() { return {kI64}; }

  explicit MatMul(const Ort::ConstKernelInfo& info) : weights_(info, 1) {}

  void compute(Run& run) {
    const auto x = run.in<std::uint8_t>(0);
    const auto scale = run.in<i64>(2);
    const auto weights = weights_.of(run);
    if (x.row() != weights->depth) throw std::invalid_argument("rows do not fit the weights");
    i64* z = run.out<i64>(0, with_last(x.shape, static_cast<i64>(weights->width)));
    const PaddedRows rows(x.data, x.rows(), *weights);
    multiply(run, *weights, rows.data, x.rows(),
             [&](std::size_t row, std::size_t first, std::size_t n, const std::int32_t* products) {
               i64* to = z + row * weights->width + first;
               for (std::size_t j = 0; j < n; ++j) to[j] = products[j] * scale.data[first + j];
             });
  }

 private:
  Weights weights_;
};

struct Quantize : Computes<Quantize> {
  static constexpr const char* kName = "DIQuantize";
  static constexpr std::size_t kRequired = 1;
  static Types inputs() { return {kI64}; }
  static Types outputs() { return {kU8, kI64, kI64}; }

  explicit Quantize(const Ort::ConstKernelInfo& info)
      : rounding_(RowRounding::whole(info.GetAttribute<i64>("levels"))) {}

  void compute(Run& run) {
    const auto z = run.in<i64>(0);
    const std::size_t n = z.row();
    auto* q = run.out<std::uint8_t>(0, z.shape);
    const RowScales scales(run, 1, z.shape);
    run.parallel(z.rows(), kRowsPerPart, [&](std::size_t from, std::size_t to) {
      for (std::size_t row = from; row < to; ++row)
        scales.set(row, di_quantize(z.data + row * n, n, rounding_, q + row * n));
    });
  }

 private:
  RowRounding rounding_;
};

struct RmsNorm : Computes<RmsNorm> {
  static constexpr const char* kName = "DIRmsNorm";
  static constexpr std::size_t kRequired = 2;
  static Types inputs() { return {kI64, kI64}; }
  static Types outputs() { return {kU8, kI64, kI64}; }

  explicit RmsNorm(const Ort::ConstKernelInfo& info)
      : channels_(info.GetAttribute<i64>("channels")),
        gain_exponent_(info.GetAttribute<i64>("gain_exponent")),
        rounding_(RowRounding::whole(info.GetAttribute<i64>("levels"))) {}

  void compute(Run& run) {
    const auto h = run.in<i64>(0);
    const auto gain = run.in<i64>(1);
    const std::size_t n = h.row();
    if (gain.size() != n) throw std::invalid_argument("the gain does not fit the rows");
    auto* q = run.out<std::uint8_t>(0, h.shape);
    const RowScales scales(run, 1, h.shape);
    run.parallel(h.rows(), kRowsPerPart, [&](std::size_t from, std::size_t to) {
      std::vector<i64> z(n);
      for (std::size_t row = from; row < to; ++row)
        scales.set(row, di_rms_norm(h.data + row * n, gain.data, n, channels_, gain_exponent_,
                                    rounding_, z.data(), q + row * n));
    });
  }

 private:
  i64 channels_, gain_exponent_;
  RowRounding rounding_;
};

struct RmsNormWide : Computes<RmsNormWide> {
  static constexpr const char* kName = "DIRmsNormWide";
  static constexpr std::size_t kRequired = 2;
  static Types inputs() { return {kI64, kI64}; }
  static Types outputs() { return {kU8, kU8, kI64, kI64}; }

  explicit RmsNormWide(const Ort::ConstKernelInfo& info)
      : channels_(info.GetAttribute<i64>("channels")),
        gain_exponent_(info.GetAttribute<i64>("gain_exponent")) {}

  void compute(Run& run) {
    const auto h = run.in<i64>(0);
    const auto gain = run.in<i64>(1);
    const std::size_t n = h.row();
    if (gain.size() != n) throw std::invalid_argument("the gain does not fit the rows");
    auto* high = run.out<std::uint8_t>(0, h.shape);
    auto* low = run.out<std::uint8_t>(1, h.shape);
    const RowScales scales(run, 2, h.shape);
    run.parallel(h.rows(), kRowsPerPart, [&](std::size_t from, std::size_t to) {
      std::vector<i64> z(n);
      for (std::size_t row = from, at = from * n; row < to; ++row, at += n)
        scales.set(row, di_rms_norm_wide(h.data + at, gain.data, n, channels_, gain_exponent_,
                                         z.data(), high + at, low + at));
    });
  }

 private:
  i64 channels_, gain_exponent_;
};

struct SwiGLU : Computes<SwiGLU> {
  static constexpr const char* kName = "DISwiGLU";
  static constexpr std::size_t kRequired = 5;
  static Types inputs() { return {kI64, kI64, kI64, kI64, kI64}; }
  static Types outputs() { return {kI64, kI64}; }

  explicit SwiGLU(const Ort::ConstKernelInfo&) {}

  void compute(Run& run) {
    const auto gate = run.in<i64>(0), argument = run.in<i64>(1), up = run.in<i64>(2);
    const auto mantissa = run.in<i64>(3), exponent = run.in<i64>(4);
    const std::size_t n = gate.row();
    i64* y = run.out<i64>(0, gate.shape);
    i64* shift = run.out<i64>(1, with_last(gate.shape, 1));
    run.parallel(gate.rows(), kRowsPerPart, [&](std::size_t from, std::size_t to) {
      for (std::size_t row = from, at = from * n; row < to; ++row, at += n)
        shift[row] = di_swiglu(gate.data + at, argument.data + at, nullptr, up.data + at, n,
                               {mantissa.data[row], exponent.data[row]}, y + at);
    });
  }
};

struct ResidualAdd : Computes<ResidualAdd> {
  static constexpr const char* kName = "DIResidualAdd";
  static constexpr std::size_t kRequired = 4;
  static Types inputs() { return {kI64, kI64, kI64, kI64}; }
  static Types outputs() { return {kI64}; }

  explicit ResidualAdd(const Ort::ConstKernelInfo& info)
      : offset_(info.GetAttribute<i64>("offset")) {}

  void compute(Run& run) {
    const auto h = run.in<i64>(0), z = run.in<i64>(1);
    const auto mantissa = run.in<i64>(2), exponent = run.in<i64>(3);
    const std::size_t n = h.row();
    i64* out = run.out<i64>(0, h.shape);
    run.parallel(h.rows(), kRowsPerPart, [&](std::size_t from, std::size_t to) {
      for (std::size_t row = from; row < to; ++row) {
        const int shift = shift_count(exponent.data[row] + offset_);
        for (std::size_t i = row * n; i < (row + 1) * n; ++i)
          out[i] = di_residual_add(h.data[i], z.data[i], mantissa.data[row], shift);
      }
    });
  }

 private:
  i64 offset_;
};

struct Rotary : Computes<Rotary> {
  static constexpr const char* kName = "DIRotary";
  static constexpr std::size_t kRequired = 3;
  static Types inputs() { return {kI64, kI64, kI64}; }
  static Types outputs() { return {kI64}; }

  explicit Rotary(const Ort::ConstKernelInfo&) {}

  void compute(Run& run) {
    const auto z = run.in<i64>(0), cosine = run.in<i64>(1), sine = run.in<i64>(2);
    const std::size_t n = z.row(), positions = cosine.rows();
    i64* out = run.out<i64>(0, z.shape);
    run.parallel(z.rows(), 4 * kRowsPerPart, [&](std::size_t from, std::size_t to) {
      for (std::size_t row = from; row < to; ++row) {
        const std::size_t angle = row % positions * (n / 2);
        di_rotary(z.data + row * n, cosine.data + angle, sine.data + angle, n / 2, out + row * n);
      }
    });
  }
};

// Where a row of a result finds its row in an operand that is broadcast to it.
class Broadcast {
 public:
  Broadcast(const Shape& operand, const Shape& result) : result_(result), strides_(result.size()) {
    std::size_t stride = 1;
    for (std::size_t i = 0; i < operand.size(); ++i) {
      const std::size_t axis = operand.size() - 1 - i, to = result.size() - 1 - i;
      strides_.at(to) = operand[axis] == 1 ? 0 : stride;
      stride *= static_cast<std::size_t>(operand[axis]);
    }
  }
  std::size_t last_stride() const { return strides_.back(); }
  std::size_t row(std::size_t index) const {
    std::size_t at = 0;
    for (std::size_t axis = result_.size() - 1; axis-- > 0;) {
      const auto size = static_cast<std::size_t>(result_[axis]);
      at += index % size * strides_[axis];
      index /= size;
    }
    return at;
  }

 private:
  Shape result_;
  std::vector<std::size_t> strides_;
};

struct ClippedSoftmax : Computes<ClippedSoftmax> {
  static constexpr const char* kName = "DIClippedSoftmax";
  static constexpr std::size_t kRequired = 5;
  static Types inputs() { return {kI64, kI64, kI64, kBool, kI64}; }
  static Types outputs() { return {kU8, kU8, kI64, kI64}; }

  explicit ClippedSoftmax(const Ort::ConstKernelInfo&) {}

  void compute(Run& run) {
    const auto scores = run.in<i64>(0), mantissa = run.in<i64>(1), exponent = run.in<i64>(2);
    const auto visible = run.in<bool>(3);
    const auto scale = run.in<i64>(4);
    const Broadcast seen(visible.shape, scores.shape), scaled(scale.shape, scores.shape);
    const std::size_t n = scores.row();
    auto* high = run.out<std::uint8_t>(0, scores.shape);
    auto* low = run.out<std::uint8_t>(1, scores.shape);
    const RowScales scales(run, 2, scores.shape);
    run.parallel(scores.rows(), 1, [&](std::size_t from, std::size_t to) {
      std::vector<i64> weights(n);
      for (std::size_t row = from, at = from * n; row < to; ++row, at += n)
        scales.set(row, di_clipped_softmax(
                            scores.data + at, n, {mantissa.data[row], exponent.data[row]},
                            visible.data + seen.row(row), seen.last_stride(),
                            scale.data + scaled.row(row), scaled.last_stride(), weights.data(),
                            high + at, low + at));
    });
  }
};

}  // namespace edgeport
