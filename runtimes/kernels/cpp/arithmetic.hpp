// Canonical integer arithmetic of the edgeport functions, one number or one row at a time.
//
// Every name has its twin in exporters/ops, whose bits it gives. Sums and products wrap at 64 bits
// (-fwrapv); no floating-point number occurs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace edgeport {

using i64 = std::int64_t;

inline int log2_floor(i64 x) { return x < 1 ? 0 : 63 - __builtin_clzll(static_cast<unsigned long long>(x)); }

inline int shift_count(i64 shift) { return static_cast<int>(std::clamp<i64>(shift, 0, 62)); }

inline i64 power_of_two(i64 shift) { return i64{1} << shift_count(shift); }

inline i64 magnitude(i64 x) { return x < 0 ? -x : x; }

inline i64 rounded(i64 a, i64 divisor) {
  const i64 half = divisor / 2;
  return (a + (a >= 0 ? half : -half)) / divisor;
}

inline i64 rounded_up(i64 a, i64 divisor) { return (a + divisor / 2) / divisor; }

// a / 2^count, halves away from zero; count in 0 .. 62.
inline i64 rounded_shift(i64 a, int count) {
  const i64 quotient = (magnitude(a) + ((i64{1} << count) >> 1)) >> count;
  return a < 0 ? -quotient : quotient;
}

// Newton's iteration with the steps of the function: exactly floor(sqrt(n)).
inline i64 isqrt(i64 n) {
  i64 root = power_of_two(log2_floor(std::max<i64>(n, 1)) / 2 + 1);
  for (int step = 0; step < 6; ++step) root = (root + n / std::max<i64>(root, 1)) / 2;
  return root - (root * root > n);
}

// m / 2^k
struct Dyadic {
  i64 mantissa;
  i64 exponent;
};

inline Dyadic dyadic_fit(i64 numerator, i64 denominator) {
  const auto leading_31_bits = [](i64 x, int log) {
    return log > 30 ? x >> (log - 30) : x << (30 - log);
  };
  const int top = log2_floor(numerator), bottom = log2_floor(denominator);
  const i64 mantissa =
      rounded_up(leading_31_bits(numerator, top) << 15, leading_31_bits(denominator, bottom));
  return {mantissa, 15 - top + bottom};
}

inline Dyadic dyadic_product(Dyadic a, Dyadic b) {
  const i64 product = a.mantissa * b.mantissa;
  const int excess = shift_count(log2_floor(product) - 14);
  return {rounded_up(product, i64{1} << excess), a.exponent + b.exponent - excess};
}

inline i64 dyadic_align(Dyadic x, i64 base) {
  constexpr i64 kBits = 26;
  const i64 up = base - x.exponent;
  const i64 value = x.mantissa * power_of_two(std::min(up, kBits));
  return std::min(rounded_up(value, power_of_two(-up)), (i64{1} << kBits) - 1);
}

// Exact quotients a / divisor for many a of one row, 0 <= a < 2^16 divisor.
//
// A 64-bit division takes some ten cycles and no vector unit has it. The quotient is estimated from
// the divisor's leading 24 bits: the estimate is off by less than 2^-5, its floor by at most one,
// and the remainder, which is exact, says which way.
class RowDivider {
 public:
  explicit RowDivider(i64 divisor)
      : divisor_(divisor),
        up_(std::max(0, 23 - log2_floor(divisor))),
        down_(std::max(0, log2_floor(divisor) - 23)),
        inverse_((i64{1} << kInverseBits) / ((divisor << up_) >> down_)) {}

  i64 operator()(i64 a) const {
    const i64 quotient = (((a << up_) >> down_) * inverse_) >> kInverseBits;
    const i64 remainder = a - quotient * divisor_;
    return quotient + (remainder >= divisor_) - (remainder < 0);
  }

 private:
  static constexpr int kInverseBits = 46;
  i64 divisor_;
  int up_, down_;
  i64 inverse_;
};

}  // namespace edgeport
