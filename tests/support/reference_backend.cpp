#include "support/reference_backend.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <new>

#include "ptb_dist/backend/cell_math.hpp"
#include "ptb_dist/base/random.hpp"

namespace ptb {
namespace {

using Index = std::int64_t;

// a[i,k] lies at data[i·row_stride + k·column_stride], so that a transpose is only a view.
struct Matrix {
  const double* data;
  Index rows, columns, row_stride, column_stride;

  double operator()(Index i, Index k) const { return data[i * row_stride + k * column_stride]; }
  Matrix transposed() const { return {data, columns, rows, column_stride, row_stride}; }
};

// A tensor as a matrix whose columns are its last axis.
Matrix matrix(const Tensor& tensor) {
  const Index columns = tensor.shape()[tensor.shape().rank() - 1];
  return {tensor.data<double>(), tensor.elements() / columns, columns, columns, 1};
}

// c[i,j] += Σ_k a[i,k]·b[k,j], in ascending order of k. The strip of b that stays in the cache
// changes no sum; with it a window of the small model takes about a second.
void add_product(const Matrix& a, const Matrix& b, double* c) {
  require(a.columns == b.rows, "a product sums over one extent");
  constexpr Index kStrip = 128;
  std::vector<double> storage(static_cast<std::size_t>(b.rows * kStrip));
  double* strip = storage.data();
  for (Index j0 = 0; j0 < b.columns; j0 += kStrip) {
    const Index width = std::min(kStrip, b.columns - j0);
    for (Index k = 0; k < b.rows; ++k) {
      for (Index j = 0; j < width; ++j) strip[k * kStrip + j] = b(k, j0 + j);
    }
    for (Index i = 0; i < a.rows; ++i) {
      double* row = c + i * b.columns + j0;
      for (Index k = 0; k < a.columns; ++k) {
        const double x = a(i, k);
        for (Index j = 0; j < width; ++j) row[j] += x * strip[k * kStrip + j];
      }
    }
  }
}

// c[i,j] = bias[j] for every row of c.
void fill_rows(double* c, Index rows, const Tensor& bias) {
  for (Index i = 0; i < rows; ++i) {
    std::copy_n(bias.data<double>(), bias.elements(), c + i * bias.elements());
  }
}

// sums[j] = Σ_i a[i,j]
void sum_rows(const Matrix& a, double* sums) {
  std::fill_n(sums, a.columns, 0.0);
  for (Index i = 0; i < a.rows; ++i) {
    for (Index j = 0; j < a.columns; ++j) sums[j] += a(i, j);
  }
}

void zero(const Tensor& tensor) { std::fill_n(tensor.data<double>(), tensor.elements(), 0.0); }

void copy(const Tensor& from, const Tensor& to) {
  std::copy_n(from.data<double>(), from.elements(), to.data<double>());
}

// One site of a window's dropout: element i of its [T,B,H] values, dropped or scaled.
class DropoutSite {
 public:
  DropoutSite(const Dropout& dropout, int site) : scale_(1.0 / dropout.keep_prob) {
    if (!dropout.masks.empty()) keep_ = dropout.masks[site].data<std::uint8_t>();
  }
  double operator()(double x, Index i) const {
    return keep_ == nullptr ? x : cell::dropped(x, keep_[i], scale_);
  }

 private:
  double scale_;
  const std::uint8_t* keep_ = nullptr;
};

// out[i] = dropped(in[i]) for all elements of a site; `in` may be `out`.
void apply(const DropoutSite& dropped, const double* in, Index count, double* out) {
  for (Index i = 0; i < count; ++i) out[i] = dropped(in[i], i);
}

// (h, c)[t], activations[t] = lstm(z[t], c[t-1]) of one layer; z is in `gates` and overwritten.
// gates [B,4H]; c_before, c, h [B,H].
void lstm_forward(const Cell& cell, double* gates, const double* c_before, double* c, double* h,
                  Index lanes, Index units) {
  for (Index b = 0; b < lanes; ++b) {
    double* gate = gates + b * 4 * units;
    for (Index k = 0; k < units; ++k) {
      const auto unit =
          cell::lstm_forward(gate[k], gate[units + k], gate[2 * units + k], gate[3 * units + k],
                             c_before[b * units + k], cell.forget_bias);
      gate[k] = unit.i;
      gate[units + k] = unit.j;
      gate[2 * units + k] = unit.f;
      gate[3 * units + k] = unit.o;
      c[b * units + k] = unit.c;
      h[b * units + k] = unit.h;
    }
  }
}

// Activations in `gates` become d_z, d_c of c[t] becomes that of c[t-1].
void lstm_backward(double* gates, const double* c_before, const double* c, const double* d_h,
                   double* d_c, Index lanes, Index units) {
  for (Index b = 0; b < lanes; ++b) {
    double* gate = gates + b * 4 * units;
    for (Index k = 0; k < units; ++k) {
      const Index at = b * units + k;
      const auto d =
          cell::lstm_backward(gate[k], gate[units + k], gate[2 * units + k], gate[3 * units + k],
                              c_before[at], c[at], d_h[at], d_c[at]);
      gate[k] = d.zi;
      gate[units + k] = d.zj;
      gate[2 * units + k] = d.zf;
      gate[3 * units + k] = d.zo;
      d_c[at] = d.c_before;
    }
  }
}

// h[t] = gru(x[t], s[t], h[t-1]): the inputs' and the recurrent shares of the gates, [B,3H] each
// and with their biases, which become the activations; of s the third gate's is kept.
void gru_forward(double* x, double* s, const double* h_before, double* h, Index lanes,
                 Index units) {
  for (Index b = 0; b < lanes; ++b) {
    double *r = x + b * 3 * units, *z = r + units, *n = z + units;
    double *sr = s + b * 3 * units, *sz = sr + units, *sn = sz + units;
    for (Index k = 0; k < units; ++k) {
      const auto unit =
          cell::gru_forward(r[k], z[k], n[k], sr[k], sz[k], sn[k], h_before[b * units + k]);
      r[k] = unit.r;
      z[k] = unit.z;
      n[k] = unit.n;
      h[b * units + k] = unit.h;
    }
  }
}

// x and s become the gradients of both shares; d_h that of h[t-1] but for the way through s.
void gru_backward(double* x, double* s, const double* h_before, double* d_h, Index lanes,
                  Index units) {
  for (Index b = 0; b < lanes; ++b) {
    double *r = x + b * 3 * units, *z = r + units, *n = z + units;
    double *sr = s + b * 3 * units, *sz = sr + units, *sn = sz + units;
    for (Index k = 0; k < units; ++k) {
      const Index at = b * units + k;
      const auto d = cell::gru_backward(r[k], z[k], n[k], sn[k], h_before[at], d_h[at]);
      r[k] = sr[k] = d.xr;
      z[k] = sz[k] = d.xz;
      n[k] = d.xn;
      sn[k] = d.sn;
      d_h[at] = d.h_before;
    }
  }
}

// Rows of a [2H,G·H] kernel: those of x, then those of h.
Tensor x_rows(const Tensor& kernel) { return kernel.slice(0, kernel.shape()[0] / 2); }
Tensor h_rows(const Tensor& kernel) {
  return kernel.slice(kernel.shape()[0] / 2, kernel.shape()[0] / 2);
}

const Tensor& layer_input(const StackActivations& activations, int layer) {
  return layer == 0 ? activations.input : activations.outputs[static_cast<std::size_t>(layer - 1)];
}

class ReferenceBackend final : public Backend {
 public:
  std::string name() const override { return "reference"; }
  std::string description() const override { return "naive reference in double, 1 thread"; }
  std::string identity() const override { return "naive reference in double"; }
  ElementType real_type() const override { return ElementType::f64; }
  bool has_host_memory() const override { return true; }
  std::int64_t own_bytes(const Extents&) const override { return 0; }

  Tensor allocate(ElementType type, Shape shape) override;
  void upload(const Tensor& to, std::span<const std::byte> from) override;
  void download(const Tensor& from, std::span<std::byte> to) override;
  void set_zero(const Tensor& tensor) override;

  void prepare(const Weights&) override {}
  void set_step(const StepState& step) override { step_ = step; }
  void run_segment(SegmentKey, const std::function<void()>& segment) override { segment(); }
  Event record() override { return nullptr; }
  void wait(const Event&) override {}
  bool done(const Event&) override { return true; }

  void draw_dropout(const Dropout& dropout) override;
  void load_window(const WindowLoad& op) override;
  void embedding(const EmbeddingForward& op) override;
  void embedding_backward(const EmbeddingBackward& op) override;
  void stack(const StackForward& op) override;
  void stack_backward(const StackBackward& op) override;
  void layer_weight_gradient(const LayerWeightGradient& op) override;
  void softmax_loss(const SoftmaxLoss& op) override;
  void softmax_backward(const SoftmaxBackward& op) override;
  void add(const Addition& op) override;
  void gradient_norm(const GradientNorm& op) override;
  void clip_step(const ClipStep& op) override;

 private:
  StepState step_;
};

Tensor ReferenceBackend::allocate(ElementType type, Shape shape) {
  const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * size_of(type);
  try {
    // Of doubles, because they want the strictest alignment of all element types.
    auto storage = std::make_shared<std::vector<double>>((bytes + 7) / 8);
    return {std::shared_ptr<std::byte>(storage, reinterpret_cast<std::byte*>(storage->data())),
            type, shape};
  } catch (const std::bad_alloc&) {
    throw Error(ExitCode::missing, Complaint{.what = "not enough memory",
                                             .where = "reference backend",
                                             .why = fmt::format("{} bytes wanted for a tensor {}",
                                                                bytes, shape.text()),
                                             .remedy = "use a smaller model"});
  }
}

void ReferenceBackend::upload(const Tensor& to, std::span<const std::byte> from) {
  require(to.bytes() == from.size(), "an upload has the tensor's size");
  std::copy(from.begin(), from.end(), static_cast<std::byte*>(to.raw()));
}

void ReferenceBackend::download(const Tensor& from, std::span<std::byte> to) {
  require(from.bytes() == to.size(), "a download has the tensor's size");
  std::copy_n(static_cast<const std::byte*>(from.raw()), from.bytes(), to.begin());
}

void ReferenceBackend::set_zero(const Tensor& tensor) {
  std::fill_n(static_cast<std::byte*>(tensor.raw()), tensor.bytes(), std::byte{0});
}

void ReferenceBackend::load_window(const WindowLoad& op) {
  const Tensor from = op.table[step_.window];
  std::copy_n(from.data<std::int32_t>(), from.elements(), op.to.data<std::int32_t>());
}

// keep[site,t,b,k] = word(epoch, window, site, first_lane + b, t, k) < threshold
void ReferenceBackend::draw_dropout(const Dropout& dropout) {
  if (dropout.masks.empty()) return;
  const Shape& shape = dropout.masks.shape();  // [L+1,T,B,H]
  const std::uint64_t threshold = keep_threshold(dropout.keep_prob);
  std::uint8_t* keep = dropout.masks.data<std::uint8_t>();
  for (Index site = 0; site < shape[0]; ++site) {
    for (Index t = 0; t < shape[1]; ++t) {
      for (Index b = 0; b < shape[2]; ++b) {
        const DropoutPosition at = {.epoch = static_cast<std::uint32_t>(step_.epoch),
                                    .window = static_cast<std::uint32_t>(step_.window),
                                    .site = static_cast<std::uint32_t>(site),
                                    .lane = static_cast<std::uint32_t>(dropout.first_lane + b),
                                    .time = static_cast<std::uint32_t>(t)};
        for (Index k = 0; k < shape[3]; ++k) {
          const RandomBlock words =
              dropout_words(dropout.seed, at, static_cast<std::uint32_t>(k / 4));
          *keep++ = words[static_cast<std::size_t>(k % 4)] < threshold ? 1 : 0;
        }
      }
    }
  }
}

// out[p,k] = dropped(table[ids[p],k]), p = t·B + b
void ReferenceBackend::embedding(const EmbeddingForward& op) {
  const DropoutSite dropped(op.dropout, 0);
  const Index H = op.table.shape()[1];
  const std::int32_t* ids = op.ids.data<std::int32_t>();
  const double* table = op.table.data<double>();
  double* out = op.out.data<double>();
  for (Index p = 0; p < op.ids.elements(); ++p) {
    for (Index k = 0; k < H; ++k) out[p * H + k] = dropped(table[ids[p] * H + k], p * H + k);
  }
}

// packed[u,k] = Σ_{p of word u} dropped(d_out[p,k])
void ReferenceBackend::embedding_backward(const EmbeddingBackward& op) {
  const DropoutSite dropped(op.dropout, 0);
  const Index U = *op.rows.count.data<std::int32_t>(), H = op.rows.packed.shape()[1];
  const std::int32_t* row_begin = op.row_begin.data<std::int32_t>();
  const std::int32_t* positions = op.positions.data<std::int32_t>();
  const double* d_out = op.d_out.data<double>();
  double* packed = op.rows.packed.data<double>();
  zero(op.rows.packed.slice(0, U));
  for (Index u = 0; u < U; ++u) {
    for (Index n = row_begin[u]; n < row_begin[u + 1]; ++n) {
      const Index p = positions[n];
      for (Index k = 0; k < H; ++k) packed[u * H + k] += dropped(d_out[p * H + k], p * H + k);
    }
  }
}

// z[t] = b + x[t]·Wx + h[t-1]·Wh;  (h, c)[t] = cell(z[t], c[t-1]);  out[t] = dropped(h[t])
// With a recurrent share: x[t]·Wx + b and s[t] = h[t-1]·Wh + b' apart.
void ReferenceBackend::stack(const StackForward& op) {
  const CellTraits traits = traits_of(op.cell.kind);
  for (int l = 0; l < static_cast<int>(op.weights.layers.size()); ++l) {
    const auto layer = static_cast<std::size_t>(l);
    const Weights::Layer& weights = op.weights.layers[layer];
    const Tensor& gates = op.activations.gates[layer];
    const Tensor& share = op.activations.shares[layer];
    const Tensor& hidden = op.activations.hidden[layer];
    const Tensor& cell = op.activations.cell[layer];
    const Tensor& input = layer_input(op.activations, l);
    const DropoutSite dropped(op.dropout, l + 1);
    const Index T = gates.shape()[0], B = gates.shape()[1], H = hidden.shape()[2];
    copy(op.h[l], hidden[0]);
    if (traits.has_c) copy(op.c[l], cell[0]);
    for (Index t = 0; t < T; ++t) {
      double* z = gates[t].data<double>();
      double* s = z;
      double* h = hidden[t + 1].data<double>();
      fill_rows(z, B, weights.bias);
      add_product(matrix(input[t]), matrix(x_rows(weights.kernel)), z);
      if (traits.has_recurrent_share) {
        s = share[t].data<double>();
        fill_rows(s, B, weights.recurrent_bias);
      }
      add_product(matrix(hidden[t]), matrix(h_rows(weights.kernel)), s);
      switch (op.cell.kind) {
        case CellKind::lstm:
          lstm_forward(op.cell, z, cell[t].data<double>(), cell[t + 1].data<double>(), h, B, H);
          break;
        case CellKind::gru:
          gru_forward(z, s, hidden[t].data<double>(), h, B, H);
          break;
        case CellKind::rnn:
          for (Index n = 0; n < B * H; ++n) h[n] = z[n] = cell::rnn_forward(z[n]);
          break;
      }
    }
    apply(dropped, hidden.slice(1, T).data<double>(), T * B * H,
          op.activations.outputs[layer].data<double>());
    copy(hidden[T], op.h[l]);
    if (traits.has_c) copy(cell[T], op.c[l]);
  }
}

// From the top layer and the last step: d_h[t] = dropped(d_out[t]) + d_z[t+1]·Whᵀ;
// d_z[t], d_c[t-1] = cell_backward(d_h[t], d_c[t]);  d_x[t] = d_z[t]·Wxᵀ
// With a recurrent share d_s takes the place of d_z before Whᵀ, and cell_backward gives d_h[t-1] a
// part of its own.
void ReferenceBackend::stack_backward(const StackBackward& op) {
  for (int l = static_cast<int>(op.weights.layers.size()) - 1; l >= 0; --l) {
    const auto layer = static_cast<std::size_t>(l);
    const Tensor& kernel = op.weights.layers[layer].kernel;
    const Tensor& gates = op.activations.gates[layer];
    const Tensor& hidden = op.activations.hidden[layer];
    const Tensor& cell = op.activations.cell[layer];
    const DropoutSite dropped(op.dropout, l + 1);
    const Index T = gates.shape()[0], B = gates.shape()[1], H = hidden.shape()[2];
    double* d_io = op.d_io.data<double>();
    apply(dropped, d_io, T * B * H, d_io);
    std::vector<double> d_h(static_cast<std::size_t>(B * H), 0.0);  // from step t + 1
    std::vector<double> d_c(static_cast<std::size_t>(B * H), 0.0);
    for (Index t = T - 1; t >= 0; --t) {
      double* d_io_t = op.d_io[t].data<double>();
      double* z = gates[t].data<double>();
      Tensor d_share = gates[t];
      for (Index n = 0; n < B * H; ++n) d_h[static_cast<std::size_t>(n)] += d_io_t[n];
      switch (op.cell.kind) {
        case CellKind::lstm:
          lstm_backward(z, cell[t].data<double>(), cell[t + 1].data<double>(), d_h.data(),
                        d_c.data(), B, H);
          std::fill(d_h.begin(), d_h.end(), 0.0);
          break;
        case CellKind::gru:
          d_share = op.activations.shares[layer][t];
          gru_backward(z, d_share.data<double>(), hidden[t].data<double>(), d_h.data(), B, H);
          break;
        case CellKind::rnn:
          for (Index n = 0; n < B * H; ++n) {
            z[n] = cell::rnn_backward(z[n], d_h[static_cast<std::size_t>(n)]);
          }
          std::fill(d_h.begin(), d_h.end(), 0.0);
          break;
      }
      zero(op.d_io[t]);
      add_product(matrix(d_share), matrix(h_rows(kernel)).transposed(), d_h.data());
      add_product(matrix(gates[t]), matrix(x_rows(kernel)).transposed(), d_io_t);
    }
  }
}

// d_Wx = Σ_t x[t]ᵀ·d_z[t];  d_Wh = Σ_t h[t-1]ᵀ·d_s[t];  d_b = Σ_t,b d_z[t,b];  d_b' = Σ_t,b
// d_s[t,b] where d_s is d_z but for a cell with a recurrent share.
void ReferenceBackend::layer_weight_gradient(const LayerWeightGradient& op) {
  const auto layer = static_cast<std::size_t>(op.layer);
  const Tensor& d_z = op.activations.gates[layer];
  const bool has_share = !op.d_recurrent_bias.empty();
  const Tensor& d_s = has_share ? op.activations.shares[layer] : d_z;
  const Tensor h_before = op.activations.hidden[layer].slice(0, d_z.shape()[0]);
  zero(op.d_kernel);
  add_product(matrix(layer_input(op.activations, op.layer)).transposed(), matrix(d_z),
              x_rows(op.d_kernel).data<double>());
  add_product(matrix(h_before).transposed(), matrix(d_s), h_rows(op.d_kernel).data<double>());
  sum_rows(matrix(d_z), op.d_bias.data<double>());
  if (has_share) sum_rows(matrix(d_s), op.d_recurrent_bias.data<double>());
}

// s[n,v] = b[v] + Σ_k hidden[n,k]·W[k,v];  loss = Σ_n log Σ_v exp(s[n,v]) - s[n,target[n]]
// d_s[n,v] = gradient_scale · (exp(s[n,v]) / Σ_v exp(s[n,v]) - (v == target[n]))
void ReferenceBackend::softmax_loss(const SoftmaxLoss& op) {
  const Index N = op.hidden.shape()[0], V = op.logits.shape()[1];
  const std::int32_t* targets = op.targets.data<std::int32_t>();
  double* logits = op.logits.data<double>();
  fill_rows(logits, N, op.weights.softmax_bias);
  add_product(matrix(op.hidden), matrix(op.weights.softmax_weight), logits);
  double loss = 0;
  for (Index n = 0; n < N; ++n) {
    double* s = logits + n * V;
    const double largest = *std::max_element(s, s + V);
    double sum = 0;
    for (Index v = 0; v < V; ++v) sum += std::exp(s[v] - largest);
    const double log_sum = largest + std::log(sum);
    loss += log_sum - s[targets[n]];
    if (op.gradient_scale == 0) continue;
    for (Index v = 0; v < V; ++v) {
      const double onehot = v == targets[n] ? 1.0 : 0.0;
      s[v] = op.gradient_scale * (std::exp(s[v] - log_sum) - onehot);
    }
  }
  *op.loss.data<double>() = loss;
}

// d_hidden = d_s·Wᵀ;  d_W = hiddenᵀ·d_s;  d_b = Σ_n d_s[n]
void ReferenceBackend::softmax_backward(const SoftmaxBackward& op) {
  const Matrix d_logits = matrix(op.d_logits);
  zero(op.d_hidden);
  zero(op.d_weight);
  add_product(d_logits, matrix(op.weights.softmax_weight).transposed(), op.d_hidden.data<double>());
  add_product(matrix(op.hidden).transposed(), d_logits, op.d_weight.data<double>());
  sum_rows(d_logits, op.d_bias.data<double>());
}

// to[n] += from[n]
void ReferenceBackend::add(const Addition& op) {
  for (Index n = 0; n < op.to.elements(); ++n) {
    op.to.data<double>()[n] += op.from.data<double>()[n];
  }
}

// norm = sqrt(Σ rows² + Σ dense²)
void ReferenceBackend::gradient_norm(const GradientNorm& op) {
  double sum = 0;
  const Rows& rows = op.gradient.embedding;
  const Tensor used_rows = rows.packed.slice(0, *rows.count.data<std::int32_t>());
  for (const Tensor& part : {used_rows, op.gradient.dense}) {
    const double* g = part.data<double>();
    for (Index n = 0; n < part.elements(); ++n) sum += g[n] * g[n];
  }
  *op.norm.data<double>() = std::sqrt(sum);
}

// w -= learning_rate · max_norm / max(norm, max_norm) · g
void ReferenceBackend::clip_step(const ClipStep& op) {
  const double norm = *op.norm.data<double>();
  std::int32_t& failed = *op.failed.data<std::int32_t>();
  if (!std::isfinite(norm) || !std::isfinite(*op.loss.data<double>())) failed = 1;
  if (failed != 0) return;
  const double rate = step_.learning_rate * op.max_norm / std::max(norm, op.max_norm);
  const std::int32_t* ids = op.gradient.embedding.ids.data<std::int32_t>();
  const Index U = *op.gradient.embedding.count.data<std::int32_t>(), H = op.embedding.shape()[1];
  const double* rows = op.gradient.embedding.packed.data<double>();
  double* embedding = op.embedding.data<double>();
  for (Index u = 0; u < U; ++u) {
    for (Index k = 0; k < H; ++k) embedding[ids[u] * H + k] -= rate * rows[u * H + k];
  }
  const double* gradient = op.gradient.dense.data<double>();
  double* dense = op.dense.data<double>();
  for (Index n = 0; n < op.dense.elements(); ++n) dense[n] -= rate * gradient[n];
}

}  // namespace

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace ptb
