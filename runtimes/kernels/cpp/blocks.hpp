// The two halves of a decoder layer (DIAttention, DIFeedForward of exporters/illm), each one kernel.
//
// What the functions write between their operators stays in the caches here, and a step of decoding
// has two kernels a layer to start in place of some seven hundred nodes.
#pragma once

#include "operators.hpp"

namespace edgeport {

// int8 rows: sum of products; `query_sum` is the sum of the query.
inline std::int32_t dot_rows(const std::int8_t* key, const std::int8_t* query,
                             std::int32_t query_sum, std::size_t n) {
  Vector sums{};
  std::size_t i = 0;
  for (; i + kVectorBytes <= n; i += kVectorBytes)  // key + 128 is unsigned
    sums = dot(sums, load(key + i) ^ static_cast<std::int32_t>(0x80808080), load(query + i));
  std::int32_t total = sum_of(sums);
  for (; i < n; ++i) total += (int{key[i]} + kZeroPoint) * int{query[i]};
  return total - kZeroPoint * query_sum;
}

// Rows of uint8 for a product with `weights`, one scale each.
struct QuantizedRows {
  QuantizedRows(std::size_t rows, const Matrix& weights)
      : stride(weights.stride), values(rows * stride), scales(rows) {}
  std::uint8_t* row(std::size_t index) { return &values[index * stride]; }
  std::size_t stride;
  std::vector<std::uint8_t> values;
  std::vector<Dyadic> scales;
};

// out = h + x @ weights, in the unit of the stream; `out` may be `h`.
inline void add_product(const Run& run, const i64* h, QuantizedRows& x, const Matrix& weights,
                        const i64* column_scale, i64 offset, i64* out) {
  multiply(run, weights, x.values.data(), x.scales.size(),
           [&](std::size_t row, std::size_t first, std::size_t n, const std::int32_t* products) {
             const Dyadic scale = x.scales[row];
             const int shift = shift_count(scale.exponent + offset);
             const std::size_t at = row * weights.width + first;
             for (std::size_t j = 0; j < n; ++j)
               out[at + j] = di_residual_add(h[at + j], products[j] * column_scale[first + j],
                                             scale.mantissa, shift);
           });
}

// z = x @ weights
inline void product(const Run& run, const QuantizedRows& x, const Matrix& weights,
                    const i64* column_scale, i64* z) {
  multiply(run, weights, x.values.data(), x.scales.size(),
           [&](std::size_t row, std::size_t first, std::size_t n, const std::int32_t* products) {
             i64* to = z + row * weights.width + first;
             for (std::size_t j = 0; j < n; ++j) to[j] = products[j] * column_scale[first + j];
           });
}

struct Attention : Computes<Attention> {
  static constexpr const char* kName = "DIAttention";
  static constexpr std::size_t kRequired = 12;
  enum Input { kH, kKV, kScale, kCosine, kSine, kVisible, kGain, kQkv, kQkvScale, kBase, kOutput,
               kOutputScale, kBias };
  static Types inputs() {
    return {kI64, kI8, kI32, kI64, kI64, kBool, kI64, kI8, kI64, kI64, kI8, kI64, kI64};
  }
  static Types outputs() { return {kI64, kI8, kI32}; }

  explicit Attention(const Ort::ConstKernelInfo& info)
      : qkv_(info, kQkv), output_(info, kOutput) {
    const auto get = [&](const char* name) { return info.GetAttribute<i64>(name); };
    heads_ = static_cast<std::size_t>(get("heads"));
    kv_heads_ = static_cast<std::size_t>(get("kv_heads"));
    rounding_ = row_rounding(info);
    mixing_ = static_cast<int>(attribute_or(info, "mixing", 0));
    gain_exponent_ = get("gain_exponent");
    qkv_exponent_ = get("qkv_exponent");
    bias_exponent_ = get("bias_exponent");
    key_exponent_ = get("key_exponent");
    value_exponent_ = get("value_exponent");
    score_ = {get("score_mantissa"), get("score_exponent")};
    offset_ = get("output_exponent") - get("residual_exponent");
  }

  void compute(Run& run) {
    const auto h = run.in<i64>(kH);
    const Step step(run, *this, h);
    const auto qkv = qkv_.of(run), output = output_.of(run);
    QuantizedRows x(step.tokens, *qkv);
    const i64* gain = run.in<i64>(kGain).data;
    run.parallel(step.tokens, kRowsPerPart, [&](std::size_t from, std::size_t to) {
      std::vector<i64> room(h.row());
      for (std::size_t t = from; t < to; ++t)
        x.scales[t] = di_rms_norm(h.data + t * h.row(), gain, h.row(), static_cast<i64>(h.row()),
                                  gain_exponent_, rounding_, room.data(), x.row(t));
    });
    std::vector<i64> z(step.tokens * qkv->width);
    product(run, x, *qkv, run.in<i64>(kQkvScale).data, z.data());

    Queries queries(step.tokens * heads_, step.head_dim);
    run.parallel(step.tokens, kRowsPerPart, [&](std::size_t from, std::size_t to) {
      for (std::size_t t = from; t < to; ++t)
        rotate_and_quantize(step, t, &z[t * qkv->width], x.scales[t], queries);
    });
    std::vector<i64> attended(step.tokens * output->depth);
    std::vector<Dyadic> scales(step.tokens * heads_);
    const std::size_t least = 1 + (1 << 14) / (step.total * step.head_dim);
    run.parallel(step.tokens * heads_, least, [&](std::size_t from, std::size_t to) {
      Scratch scratch(step.total, step.head_dim);
      for (std::size_t row = from; row < to; ++row)
        scales[row] = attend(step, row / heads_, row % heads_, queries, scratch,
                             &attended[row * step.head_dim]);
    });
    QuantizedRows merged(step.tokens, *output);
    run.parallel(step.tokens, kRowsPerPart, [&](std::size_t from, std::size_t to) {
      for (std::size_t t = from; t < to; ++t)
        merged.scales[t] = merge(&attended[t * output->depth], step.head_dim, &scales[t * heads_],
                                 merged.row(t));
    });
    add_product(run, h.data, merged, *output, run.in<i64>(kOutputScale).data, offset_,
                run.out<i64>(0, h.shape));
  }

 private:
  // Sizes of one run, its tables, and the caches with the past copied in.
  struct Step {
    Step(Run& run, const Attention& kernel, const Tensor<i64>& h)
        : cosine(run.in<i64>(kCosine)),
          sine(run.in<i64>(kSine).data),
          visible(run.in<bool>(kVisible).data),
          base(run.in<i64>(kBase).data),
          tokens(h.rows()) {
      const auto past = run.in<std::int8_t>(kKV);
      const auto past_scale = run.in<std::int32_t>(kScale);
      const std::size_t rows = 2 * kernel.kv_heads_;
      first = past.dim(2);
      total = first + tokens;
      head_dim = past.dim(3);
      kv = run.out<std::int8_t>(1, {1, past.shape[1], static_cast<i64>(total), past.shape[3]});
      scale = run.out<std::int32_t>(2, {1, past.shape[1], static_cast<i64>(total), 1});
      for (std::size_t c = 0; c < rows; ++c) {
        std::memcpy(kv + c * total * head_dim, past.data + c * first * head_dim, first * head_dim);
        std::memcpy(scale + c * total, past_scale.data + c * first, 4 * first);
      }
      if (run.has(kBias)) bias = run.in<i64>(kBias).data;
    }
    Tensor<i64> cosine;
    const i64* sine;
    const bool* visible;
    const i64* base;
    const i64* bias = nullptr;
    std::size_t tokens, first, total, head_dim;
    std::int8_t* kv;
    std::int32_t* scale;
  };

  struct Queries {
    Queries(std::size_t rows, std::size_t head_dim) : values(rows * head_dim), sums(rows), scales(rows) {}
    std::vector<std::int8_t> values;
    std::vector<std::int32_t> sums;
    std::vector<Dyadic> scales;
  };

  struct Scratch {
    Scratch(std::size_t total, std::size_t head_dim)
        : scores(total), weights(total), high(total), low(total), sums(2 * head_dim) {}
    std::vector<i64> scores, weights;
    std::vector<std::uint8_t> high, low;
    std::vector<std::int32_t> sums;
  };

  // One token: its heads to queries, and to rows of the caches.
  void rotate_and_quantize(const Step& step, std::size_t t, i64* z, Dyadic x_scale,
                           Queries& queries) const {
    constexpr int kRotaryBits = 14;
    const std::size_t n = step.head_dim, rotary = heads_ + kv_heads_, all = heads_ + 2 * kv_heads_;
    if (step.bias) di_bias(z, step.bias, all * n, x_scale, qkv_exponent_ - bias_exponent_);
    std::vector<i64> turned(n);
    std::vector<std::uint8_t> bytes(n);
    for (std::size_t head = 0; head < all; ++head, z += n) {
      if (head < rotary) {
        di_rotary(z, step.cosine.data + t * (n / 2), step.sine + t * (n / 2), n / 2, turned.data());
        mix(turned.data(), n, mixing_);
      } else {
        for (std::size_t i = 0; i < n; ++i) turned[i] = z[i] << kRotaryBits;
      }
      Dyadic scale = di_quantize(turned.data(), n, rounding_, bytes.data());
      scale.exponent += qkv_exponent_ + kRotaryBits;
      scale = dyadic_product(scale, x_scale);
      std::int8_t* to;
      if (head < heads_) {
        const std::size_t row = t * heads_ + head;
        to = &queries.values[row * n];
        queries.scales[row] =
            dyadic_product({scale.mantissa, scale.exponent + key_exponent_}, score_);
        for (std::size_t i = 0; i < n; ++i) queries.sums[row] += int{bytes[i]} - kZeroPoint;
      } else {
        const std::size_t cached = head - heads_, row = cached * step.total + step.first + t;
        to = step.kv + row * n;
        step.scale[row] = static_cast<std::int32_t>(dyadic_align(scale, step.base[cached]));
      }
      for (std::size_t i = 0; i < n; ++i) to[i] = static_cast<std::int8_t>(bytes[i] - kZeroPoint);
    }
  }

  // One query: its keys' values, weighted, into `attended`; returns their scale.
  Dyadic attend(const Step& step, std::size_t t, std::size_t head, const Queries& queries,
                Scratch& room, i64* attended) const {
    const std::size_t n = step.head_dim, group = heads_ / kv_heads_, row = t * heads_ + head;
    const bool* visible = step.visible + (head % group * step.tokens + t) * step.total;
    std::size_t seen = step.total;  // keys behind the last visible one weigh nothing
    while (seen > 0 && !visible[seen - 1]) --seen;
    const std::size_t key_rows = head / group * step.total;
    const std::size_t value_rows = key_rows + kv_heads_ * step.total;
    for (std::size_t j = 0; j < seen; ++j)
      room.scores[j] = i64{dot_rows(step.kv + (key_rows + j) * n, &queries.values[row * n],
                                    queries.sums[row], n)} * step.scale[key_rows + j];
    Dyadic scale = di_clipped_softmax(room.scores.data(), seen, queries.scales[row], visible, 1,
                                      step.scale + value_rows, 1, room.weights.data(),
                                      room.high.data(), room.low.data());
    std::int32_t* __restrict high = room.sums.data();
    std::int32_t* __restrict low = high + n;
    std::fill(high, low + n, 0);
    for (std::size_t j = 0; j < seen; ++j) {
      const std::int8_t* value = step.kv + (value_rows + j) * n;
      const std::int32_t h = room.high[j], l = room.low[j];
      for (std::size_t i = 0; i < n; ++i) {
        high[i] += h * value[i];
        low[i] += l * value[i];
      }
    }
    for (std::size_t i = 0; i < n; ++i) attended[i] = high[i] + rounded(low[i], 256);
    return {scale.mantissa, scale.exponent + value_exponent_ - 8};
  }

  // The heads of one token with one exponent (DyadicCommon), quantized as one row.
  Dyadic merge(i64* row, std::size_t head_dim, const Dyadic* scales, std::uint8_t* q) const {
    constexpr i64 kMaxDistance = 40;
    constexpr int kCommonShift = 8;
    i64 smallest = scales[0].exponent;
    for (std::size_t j = 1; j < heads_; ++j) smallest = std::min(smallest, scales[j].exponent);
    for (std::size_t j = 0; j < heads_; ++j) {
      const i64 distance = std::min(scales[j].exponent - smallest, kMaxDistance);
      const i64 factor = (scales[j].mantissa << kCommonShift) >> distance;
      for (std::size_t i = 0; i < head_dim; ++i) row[j * head_dim + i] *= factor;
    }
    const Dyadic scale = di_quantize(row, heads_ * head_dim, rounding_, q);
    return {scale.mantissa, scale.exponent + smallest + kCommonShift};
  }

  Weights qkv_, output_;
  std::size_t heads_, kv_heads_;
  i64 gain_exponent_, qkv_exponent_, bias_exponent_, key_exponent_, value_exponent_, offset_;
  RowRounding rounding_;
  int mixing_;
  Dyadic score_;
};

struct FeedForward : Computes<FeedForward> {
  static constexpr const char* kName = "DIFeedForward";
  static constexpr std::size_t kRequired = 6;
  enum Input { kH, kGain, kGateUp, kGateUpScale, kDown, kDownScale, kSmoothing };
  static Types inputs() { return {kI64, kI64, kI8, kI64, kI8, kI64, kI64}; }
  static Types outputs() { return {kI64}; }

  explicit FeedForward(const Ort::ConstKernelInfo& info)
      : gate_up_(info, kGateUp), down_(info, kDown) {
    const auto get = [&](const char* name) { return info.GetAttribute<i64>(name); };
    rounding_ = row_rounding(info);
    mixing_ = static_cast<int>(attribute_or(info, "mixing", 0));
    gain_exponent_ = get("gain_exponent");
    gate_up_exponent_ = get("gate_up_exponent");
    smoothing_exponent_ = get("smoothing_exponent");
    log2_e_ = {get("log2_e_mantissa"), get("log2_e_exponent")};
    offset_ = get("down_exponent") - get("residual_exponent");
  }

  void compute(Run& run) {
    constexpr std::size_t kRowsAtOnce = 48;  // their products stay in the second cache
    const auto h = run.in<i64>(kH);
    i64* out = run.out<i64>(0, h.shape);
    const auto gate_up = gate_up_.of(run), down = down_.of(run);
    std::vector<i64> z(std::min(h.rows(), kRowsAtOnce) * gate_up->width);
    for (std::size_t row = 0; row < h.rows(); row += kRowsAtOnce) {
      const std::size_t rows = std::min(kRowsAtOnce, h.rows() - row), at = row * h.row();
      some_rows(run, h.data + at, rows, h.row(), *gate_up, *down, z, out + at);
    }
  }

 private:
  void some_rows(const Run& run, const i64* h, std::size_t rows, std::size_t n,
                 const Matrix& gate_up, const Matrix& down, std::vector<i64>& z, i64* out) const {
    QuantizedRows x(rows, gate_up), y(rows, down);
    const i64* gain = run.in<i64>(kGain).data;
    const i64* smoothing = run.has(kSmoothing) ? run.in<i64>(kSmoothing).data : nullptr;
    run.parallel(rows, kRowsPerPart, [&](std::size_t from, std::size_t to) {
      std::vector<i64> room(n);
      for (std::size_t r = from; r < to; ++r)
        x.scales[r] = di_rms_norm(h + r * n, gain, n, static_cast<i64>(n), gain_exponent_, rounding_,
                                  room.data(), x.row(r));
    });
    product(run, x, gate_up, run.in<i64>(kGateUpScale).data, z.data());
    run.parallel(rows, kRowsPerPart, [&](std::size_t from, std::size_t to) {
      for (std::size_t r = from; r < to; ++r)
        y.scales[r] = gated(&z[r * gate_up.width], smoothing, down.depth, x.scales[r], y.row(r));
    });
    add_product(run, h, y, down, run.in<i64>(kDownScale).data, offset_, out);
  }

  // One row: gate and up in, quantized row out.
  Dyadic gated(i64* z, const i64* smoothing, std::size_t ffn, Dyadic x, std::uint8_t* q) const {
    const i64 exponent = gate_up_exponent_, extra = smoothing ? smoothing_exponent_ : 0;
    const Dyadic octaves = dyadic_product({x.mantissa, x.exponent + exponent + extra}, log2_e_);
    const i64 shift = di_swiglu(z, z, smoothing, z + ffn, ffn, octaves, z);
    mix(z, ffn, mixing_);
    Dyadic scale = di_quantize(z, ffn, rounding_, q);
    scale.exponent += kSigmoidBits + 2 * exponent - shift;
    return dyadic_product(dyadic_product(scale, x), x);
  }

  Weights gate_up_, down_;
  i64 gain_exponent_, gate_up_exponent_, smoothing_exponent_, offset_;
  RowRounding rounding_;
  int mixing_;
  Dyadic log2_e_;
};

}  // namespace edgeport
