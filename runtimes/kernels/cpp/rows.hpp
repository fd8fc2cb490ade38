// The operators of exporters/ops on one row: quantization, norm, gate, residual, rotation, softmax.
#pragma once

#include "arithmetic.hpp"
#include "tables.hpp"

namespace edgeport {

constexpr int kZeroPoint = 128;

inline i64 row_peak(const i64* z, std::size_t n) {
  i64 peak = 1;
  for (std::size_t i = 0; i < n; ++i) peak = std::max(peak, magnitude(z[i]));
  return peak;
}

// A row's largest value is at steps / parts of its `levels` steps; what is beyond them is cut.
struct RowRounding {
  i64 levels, steps, parts;
  static RowRounding whole(i64 levels) { return {levels, levels, 1}; }
};

// put(i, q) with q = RD(z steps, peak parts) within +-levels; steps / parts < 2^16.
template <class Put>
inline void round_row(const i64* z, std::size_t n, RowRounding rounding, i64 peak, Put&& put) {
  const i64 divisor = peak * rounding.parts, half = divisor / 2;
  const RowDivider divide(divisor);
  for (std::size_t i = 0; i < n; ++i) {
    const i64 q = std::min(divide(magnitude(z[i]) * rounding.steps + half), rounding.levels);
    put(i, z[i] < 0 ? -q : q);
  }
}

// DIQuantize, DIQuantizeCut
inline Dyadic di_quantize(const i64* z, std::size_t n, RowRounding rounding, std::uint8_t* q) {
  const i64 peak = row_peak(z, n);
  round_row(z, n, rounding, peak,
            [q](std::size_t i, i64 value) { q[i] = static_cast<std::uint8_t>(kZeroPoint + value); });
  return dyadic_fit(peak * rounding.parts, rounding.steps);
}

// Blocks of 2^bits numbers: RD(x / 2^bits) times the Hadamard matrix (exporters/ops/hadamard.py).
inline void mix(i64* x, std::size_t n, int bits) {
  if (bits == 0) return;
  for (std::size_t i = 0; i < n; ++i) x[i] = rounded_shift(x[i], bits);
  for (std::size_t half = 1; half < std::size_t{1} << bits; half *= 2)
    for (std::size_t block = 0; block < n; block += 2 * half)
      for (std::size_t i = block; i < block + half; ++i) {
        const i64 first = x[i], second = x[i + half];
        x[i] = first + second;
        x[i + half] = first - second;
      }
}

// The rows of every norm: put(i, q) of a row, whose scale is returned; `z` is room for n numbers.
template <class Put>
inline Dyadic norm_row(const i64* h, const i64* gain, std::size_t n, i64 channels,
                       i64 gain_exponent, RowRounding rounding, i64* z, Put&& put) {
  constexpr int kSquareBits = 20, kRootBits = 8;
  const int shift = log2_floor(row_peak(h, n)) - (kSquareBits - 1);
  const int up = shift_count(-shift), down = shift_count(shift);
  i64 squares = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const i64 scaled = rounded_shift(h[i] << up, down);
    squares += scaled * scaled;
    z[i] = h[i] * gain[i];
  }
  const i64 root = std::max<i64>(isqrt((squares / channels) << (2 * kRootBits)), 1);
  const i64 peak = row_peak(z, n);
  round_row(z, n, rounding, peak, put);
  const Dyadic fitted = dyadic_fit(peak * rounding.parts, root * rounding.steps);
  return {fitted.mantissa, fitted.exponent + shift + gain_exponent - kRootBits};
}

// DIRmsNorm, DIRmsNormCut
inline Dyadic di_rms_norm(const i64* h, const i64* gain, std::size_t n, i64 channels,
                          i64 gain_exponent, RowRounding rounding, i64* z, std::uint8_t* q) {
  return norm_row(h, gain, n, channels, gain_exponent, rounding, z, [q](std::size_t i, i64 value) {
    q[i] = static_cast<std::uint8_t>(kZeroPoint + value);
  });
}

// DIRmsNormWide
inline Dyadic di_rms_norm_wide(const i64* h, const i64* gain, std::size_t n, i64 channels,
                               i64 gain_exponent, i64* z, std::uint8_t* high, std::uint8_t* low) {
  constexpr i64 kLevels = 127 << 8, kUp = (1 << 15) + kZeroPoint;
  return norm_row(h, gain, n, channels, gain_exponent, RowRounding::whole(kLevels), z,
                  [high, low](std::size_t i, i64 value) {
                    high[i] = static_cast<std::uint8_t>((value + kUp) >> 8);
                    low[i] = static_cast<std::uint8_t>(value + kUp);
                  });
}

// Distances in 1/256 octaves, cut at 31 octaves.
class OctaveIndex {
 public:
  explicit OctaveIndex(Dyadic scale) {
    const i64 shift = scale.exponent - kFractionBits;
    limit_ = shift > 48 ? i64{1} << 61
                        : (kLastOctave << std::clamp<i64>(shift, 0, 48)) / scale.mantissa + 1;
    before_ = shift_count(shift - 30);
    const i64 after = shift - before_;
    factor_ = scale.mantissa << std::clamp<i64>(-after, 0, 40);
    after_ = shift_count(after);
    half_ = (i64{1} << after_) >> 1;
  }

  i64 operator()(i64 distance) const {
    const i64 scaled = (std::min(distance, limit_) >> before_) * factor_;
    return std::min((scaled + half_) >> after_, kLastOctave);
  }

 private:
  i64 limit_, factor_, half_;
  int before_, after_;
};

// By how much a row is shifted right so that its largest has 18 bits.
inline int leading_shift(const i64* z, std::size_t n) {
  return shift_count(log2_floor(row_peak(z, n)) - 17);
}

// DISwiGLU; `y` may be `gate`. `smoothing` may be null; else the argument is gate x smoothing.
// Returns the shift.
inline i64 di_swiglu(const i64* gate, const i64* argument, const i64* smoothing, const i64* up,
                     std::size_t n, Dyadic scale, i64* y) {
  const OctaveIndex index(scale);
  const int gate_shift = leading_shift(gate, n), up_shift = leading_shift(up, n);
  for (std::size_t i = 0; i < n; ++i) {
    const i64 x = smoothing == nullptr ? argument[i] : argument[i] * smoothing[i];
    const i64 positive = kSigmoidTable[index(magnitude(x))];
    const i64 sigmoid = x >= 0 ? positive : (1 << kSigmoidBits) - positive;
    y[i] = rounded_shift(gate[i], gate_shift) * sigmoid * rounded_shift(up[i], up_shift);
  }
  return gate_shift + up_shift;
}

// DIResidualAdd of one number; count = exponent + offset, cut to 0 .. 62.
inline i64 di_residual_add(i64 h, i64 z, i64 mantissa, int count) {
  constexpr i64 kLimit = (i64{1} << 30) - 1;
  return std::clamp(h + rounded_shift(z * mantissa, count), -kLimit, kLimit);
}

// DIBias
inline void di_bias(i64* z, const i64* bias, std::size_t n, Dyadic scale, i64 offset) {
  const i64 shift = std::clamp<i64>(scale.exponent + offset, -46, 46);
  const i64 divisor = scale.mantissa * power_of_two(-shift);
  for (std::size_t i = 0; i < n; ++i) z[i] += rounded(bias[i] * power_of_two(shift), divisor);
}

// DIRotary of one head; `out` is not `z`.
inline void di_rotary(const i64* z, const i64* cosine, const i64* sine, std::size_t half, i64* out) {
  for (std::size_t i = 0; i < half; ++i) {
    out[i] = z[i] * cosine[i] - z[half + i] * sine[i];
    out[half + i] = z[half + i] * cosine[i] + z[i] * sine[i];
  }
}

// DIClippedSoftmax of one row in two bytes a probability; `weights` is room for n numbers.
// Element j of `visible` and of `value_scale` is at j x its stride.
template <class Scale>
inline Dyadic di_clipped_softmax(const i64* scores, std::size_t n, Dyadic scale, const bool* visible,
                                 std::size_t visible_stride, const Scale* value_scale,
                                 std::size_t scale_stride, i64* weights, std::uint8_t* high,
                                 std::uint8_t* low) {
  constexpr int kKeptShift = 10;
  constexpr i64 kLevels = 65535, kHidden = -(i64{1} << 61);
  i64 top = kHidden;
  for (std::size_t j = 0; j < n; ++j)
    top = std::max(top, visible[j * visible_stride] ? scores[j] : kHidden);
  const OctaveIndex index(scale);
  i64 total = 0, largest = 1;
  for (std::size_t j = 0; j < n; ++j) {
    const bool seen = visible[j * visible_stride];
    const i64 weight = seen ? i64{kExpTable[index(top - (seen ? scores[j] : top))]} : 0;
    total += weight;
    weights[j] = (weight >> kKeptShift) * value_scale[j * scale_stride];
    largest = std::max(largest, weights[j]);
  }
  const RowDivider by_largest(largest);
  const i64 half = largest / 2;
  for (std::size_t j = 0; j < n; ++j) {
    const i64 p = by_largest(weights[j] * kLevels + half);
    high[j] = static_cast<std::uint8_t>(p >> 8);
    low[j] = static_cast<std::uint8_t>(p);
  }
  return dyadic_fit(largest, (total >> kKeptShift) * kLevels);
}

}  // namespace edgeport
