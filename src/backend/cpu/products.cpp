#include "backend/cpu/products.hpp"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <map>
#include <new>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <tuple>
#include <unordered_map>

#include "backend/cpu/team.hpp"
#include "ptb_dist/base/error.hpp"

namespace ptb {
namespace {

using Tag = dnnl::memory::format_tag;
constexpr auto kFloat = dnnl::memory::data_type::f32;

dnnl::memory::desc layout_of(const MatrixView& m) {
  return {{m.rows, m.columns}, kFloat, m.transposed ? Tag::ba : Tag::ab};
}

// oneDNN's handles take a mutable pointer even to what is only read.
void* handle(const float* data) { return const_cast<float*>(data); }

// For oneDNN's C calls; its C++ classes throw dnnl::error, which ends the run as an internal error.
void check(dnnl_status_t status) {
  if (status == dnnl_success) return;
  if (status == dnnl_out_of_memory) throw std::bad_alloc();
  throw Error(ExitCode::internal, Complaint{.what = "a matrix product failed",
                                            .why = fmt::format("oneDNN status {}", int{status})});
}

// A product of one shape, ready to run on any addresses.
struct Product {
  dnnl::matmul primitive;
  dnnl::memory a, b, c;

  void run(dnnl::stream& stream, const float* a_data, float* c_data) {
    a.set_data_handle(handle(a_data));
    c.set_data_handle(c_data);
    primitive.execute(stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
  }
};

struct PackedProduct {
  Product product;
  dnnl::memory plain;  // view of the weights as the model has them
  dnnl::reorder pack;
  std::optional<std::uint64_t> version;  // of the packed copy
};

}  // namespace

struct Products::Implementation {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  // rows, columns, inner extent, whether a is transposed; b is
  std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t, bool>, Product> plain;
  // weights, transposed, rows of a, accumulate
  std::map<std::tuple<const float*, bool, std::int64_t, bool>, PackedProduct> packed;

  Product make(const dnnl::memory::desc& a, const dnnl::memory::desc& b,
               const dnnl::memory::desc& c, bool accumulate) {
    dnnl::primitive_attr attributes;
    if (accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1.0f);
      attributes.set_post_ops(sum);
    }
    const dnnl::matmul::primitive_desc description({a, b, c}, attributes, engine);
    return {dnnl::matmul(description), dnnl::memory(a, engine, nullptr),
            dnnl::memory(description.weights_desc(), engine, nullptr),
            dnnl::memory(c, engine, nullptr)};
  }
};

Products::Products(int threads) : implementation_(std::make_unique<Implementation>()) {
  omp_set_num_threads(threads);
  require_team(threads);
  // Whatever ONEDNN_DEFAULT_FPMATH_MODE says: that would be another precision than the run's.
  check(dnnl_set_default_fpmath_mode(dnnl_fpmath_mode_strict));
}

Products::~Products() = default;

void Products::multiply(const MatrixView& a, const MatrixView& b, float* c) {
  require(a.columns == b.rows, "the inner extents of a product agree");
  if (a.columns == 0) std::fill_n(c, a.rows * b.columns, 0.0f);  // no lanes: an empty sum
  if (a.rows == 0 || b.columns == 0 || a.columns == 0) return;
  const std::int64_t M = a.rows, N = b.columns, K = a.columns;
  // With a plain right-hand side sgemm is the fastest on every shape of the models; with a
  // transposed one matmul is, by up to a tenth.
  if (!b.transposed) {
    check(dnnl_sgemm(a.transposed ? 'T' : 'N', 'N', M, N, K, 1.0f, a.data, a.transposed ? M : K,
                     b.data, N, 0.0f, c, N));
    return;
  }
  auto& plain = implementation_->plain;
  const auto key = std::tuple(M, N, K, a.transposed);
  auto found = plain.find(key);
  if (found == plain.end()) {
    const dnnl::memory::desc c_layout({M, N}, kFloat, Tag::ab);
    found = plain.emplace(key, implementation_->make(layout_of(a), layout_of(b), c_layout, false))
                .first;
  }
  found->second.b.set_data_handle(handle(b.data));
  found->second.run(implementation_->stream, a.data, c);
}

void Products::multiply_packed(const MatrixView& a, const MatrixView& w, std::uint64_t version,
                               bool accumulate, float* c) {
  require(a.columns == w.rows, "the inner extents of a product agree");
  if (a.rows == 0) return;
  auto& packed = implementation_->packed;
  const auto key = std::tuple(w.data, w.transposed, a.rows, accumulate);
  auto found = packed.find(key);
  if (found == packed.end()) {
    const dnnl::memory::desc free_layout({w.rows, w.columns}, kFloat, Tag::any);
    const dnnl::memory::desc c_layout({a.rows, w.columns}, kFloat, Tag::ab);
    PackedProduct made{implementation_->make(layout_of(a), free_layout, c_layout, accumulate),
                       dnnl::memory(layout_of(w), implementation_->engine, handle(w.data)),
                       {},
                       {}};
    made.product.b = dnnl::memory(made.product.b.get_desc(), implementation_->engine);
    made.pack = dnnl::reorder(made.plain, made.product.b);
    found = packed.emplace(key, std::move(made)).first;
  }
  PackedProduct& it = found->second;
  if (it.version != version) {
    it.pack.execute(implementation_->stream, it.plain, it.product.b);
    it.version = version;
  }
  it.product.run(implementation_->stream, a.data, c);
}

std::string Products::description() {
  const dnnl::version_t* v = dnnl::version();
  const char* isa = "";
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::avx512_core_amx:
      isa = ", avx512_core_amx";
      break;
    case dnnl::cpu_isa::avx512_core_bf16:
      isa = ", avx512_core_bf16";
      break;
    case dnnl::cpu_isa::avx512_core_vnni:
      isa = ", avx512_core_vnni";
      break;
    case dnnl::cpu_isa::avx512_core:
      isa = ", avx512_core";
      break;
    case dnnl::cpu_isa::avx2:
      isa = ", avx2";
      break;
    case dnnl::cpu_isa::avx:
      isa = ", avx";
      break;
    case dnnl::cpu_isa::sse41:
      isa = ", sse41";
      break;
    default:
      break;
  }
  const bool is_hinted = dnnl::get_cpu_isa_hints() != dnnl::cpu_isa_hints::no_hints;
  return fmt::format("oneDNN {}.{}.{}{}{}", v->major, v->minor, v->patch, isa,
                     is_hinted ? ", prefers ymm" : "");
}

}  // namespace ptb
