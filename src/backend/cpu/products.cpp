#include "backend/cpu/products.hpp"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <map>
#include <new>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#include "backend/cpu/amx.hpp"
#include "backend/cpu/loops.hpp"
#include "backend/cpu/parallel.hpp"
#include "backend/cpu/team.hpp"
#include "backend/cpu/tile_products.hpp"
#include "ptb_dist/base/error.hpp"

namespace ptb {
namespace {

using Tag = dnnl::memory::format_tag;
using Type = dnnl::memory::data_type;

// oneDNN's handles take a mutable pointer even to what is only read.
void* handle(const void* data) { return const_cast<void*>(data); }

// For oneDNN's C calls; its C++ classes throw dnnl::error, which ends the run as an internal error.
void check(dnnl_status_t status) {
  if (status == dnnl_success) return;
  if (status == dnnl_out_of_memory) throw std::bad_alloc();
  throw Error(ExitCode::internal, Complaint{.what = "a matrix product failed",
                                            .why = fmt::format("oneDNN status {}", int{status})});
}

// Instruction sets are sets of bits in oneDNN: a later one has those of the earlier, too.
bool has(dnnl::cpu_isa wanted) {
  const auto all = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto bits = static_cast<unsigned>(wanted);
  return (all & bits) == bits;
}

void require_bf16() {
  if (*bf16_instructions() != '\0') return;
  throw Error(ExitCode::missing,
              {.what = "no products of bf16 on this processor",
               .where = "--precision bf16",
               .why = "neither AMX nor AVX512_BF16 is there, or ONEDNN_MAX_CPU_ISA or "
                      "DNNL_MAX_CPU_ISA hides them",
               .remedy = "use --precision fp32"});
}

enum class Right { plain, transposed, packed };

// A product of one shape, ready to run on any addresses.
struct Product {
  dnnl::matmul primitive;
  dnnl::memory a, b, c;  // b: of a plain or transposed right-hand side
  dnnl::memory::desc packed_layout;

  void run(dnnl::stream& stream, const void* a_data, const dnnl::memory& b_values, float* c_data) {
    a.set_data_handle(handle(a_data));
    c.set_data_handle(c_data);
    primitive.execute(stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b_values}, {DNNL_ARG_DST, c}});
  }
};

// A copy of weights, in the library's layout and the precision's type.
struct PackedWeights {
  dnnl::memory plain;  // view of the weights as the model has them
  dnnl::memory values;
  dnnl::reorder pack;
  std::optional<std::uint64_t> version{};  // of the values
};

// The same in bf16, as the model has them: both directions read one copy.
struct ConvertedWeights {
  Bf16Buffer values{};
  std::optional<std::uint64_t> version{};
};

class DnnlProducts final : public Products {
 public:
  DnnlProducts(Precision precision, int threads);

  Precision precision() const override { return precision_; }
  void multiply(const MatrixView& a, const MatrixView& b, float* c) override;
  void multiply_weights(const MatrixView& a, const WeightView& w, float* c) override;
  void multiply_packed(const MatrixView& a, const WeightView& w, Into into, float* c) override;
  std::int64_t own_bytes(const Extents& extents) const override;
  std::string arithmetic() const override;
  std::string library() const override { return products_library(); }

 private:
  using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, bool, Right, Into>;

  Product& product_of(const MatrixView& a, const MatrixView& b, Right right, Into into);
  PackedWeights& packed(const WeightView& w, const dnnl::memory::desc& layout);
  const Bf16* converted(const WeightView& w);
  // The values of a matrix in the type that is multiplied, in `scratch` if they have to be made.
  const void* operand(const MatrixView& matrix, Bf16Buffer& scratch);
  dnnl::memory::desc layout_of(const MatrixView& m) const {
    const std::int64_t stride = precision_ == Precision::bf16 ? padded(m.width()) : m.width();
    return {{m.rows, m.columns},
            type_,
            m.transposed ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1}};
  }

  Precision precision_;
  Type type_;
  int threads_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<Key, Product> products_;
  // By address and direction, each layout that products of it want: as a rule one.
  std::map<std::pair<const float*, bool>, std::vector<PackedWeights>> packed_;
  std::map<const float*, ConvertedWeights> converted_;  // by address
  Bf16Buffer left_, right_;                             // operands of one product
};

DnnlProducts::DnnlProducts(Precision precision, int threads)
    : precision_(precision),
      type_(precision == Precision::bf16 ? Type::bf16 : Type::f32),
      threads_(threads) {
  if (precision == Precision::bf16) require_bf16();
  omp_set_num_threads(threads);
  require_team(threads);
  // Whatever ONEDNN_DEFAULT_FPMATH_MODE says: that would be another precision than the run's.
  check(dnnl_set_default_fpmath_mode(dnnl_fpmath_mode_strict));
}

Product& DnnlProducts::product_of(const MatrixView& a, const MatrixView& b, Right right,
                                  Into into) {
  const Key key(a.rows, b.columns, a.columns, a.transposed, right, into);
  const auto found = products_.find(key);
  if (found != products_.end()) return found->second;
  dnnl::primitive_attr attributes;
  if (into == Into::add) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  const dnnl::memory::desc a_layout = layout_of(a);
  const dnnl::memory::desc b_layout = right == Right::packed
                                          ? dnnl::memory::desc({b.rows, b.columns}, type_, Tag::any)
                                          : layout_of(b);
  const dnnl::memory::desc c_layout({a.rows, b.columns}, Type::f32, Tag::ab);
  const dnnl::matmul::primitive_desc description({a_layout, b_layout, c_layout}, attributes,
                                                 engine_);
  Product made{.primitive = dnnl::matmul(description),
               .a = dnnl::memory(a_layout, engine_, nullptr),
               .b = dnnl::memory(description.weights_desc(), engine_, nullptr),
               .c = dnnl::memory(c_layout, engine_, nullptr),
               .packed_layout = description.weights_desc()};
  return products_.emplace(key, std::move(made)).first->second;
}

PackedWeights& DnnlProducts::packed(const WeightView& w, const dnnl::memory::desc& layout) {
  std::vector<PackedWeights>& copies = packed_[{w.view.data, w.view.transposed}];
  auto found = std::ranges::find_if(
      copies, [&](const PackedWeights& copy) { return copy.values.get_desc() == layout; });
  if (found == copies.end()) {
    const dnnl::memory::desc plain({w.view.rows, w.view.columns}, Type::f32,
                                   w.view.transposed ? Tag::ba : Tag::ab);
    PackedWeights made{.plain = dnnl::memory(plain, engine_, handle(w.view.data)),
                       .values = dnnl::memory(layout, engine_),
                       .pack = {}};
    made.pack = dnnl::reorder(made.plain, made.values);
    copies.push_back(std::move(made));
    found = copies.end() - 1;
  }
  if (found->version != w.version) {
    found->pack.execute(stream_, found->plain, found->values);
    found->version = w.version;
  }
  return *found;
}

const Bf16* DnnlProducts::converted(const WeightView& w) {
  ConvertedWeights& copy = converted_[w.view.data];
  Bf16* const values = copy.values.get(w.view.padded_elements());
  if (copy.version != w.version) convert_rows(threads_, w.view, values);
  copy.version = w.version;
  return values;
}

const void* DnnlProducts::operand(const MatrixView& matrix, Bf16Buffer& scratch) {
  if (precision_ == Precision::fp32) return matrix.data;
  if (matrix.converted != nullptr) return matrix.converted;
  Bf16* const values = scratch.get(matrix.padded_elements());
  convert_rows(threads_, matrix, values);
  return values;
}

void DnnlProducts::multiply(const MatrixView& a, const MatrixView& b, float* c) {
  require(a.columns == b.rows, "the inner extents of a product agree");
  if (a.columns == 0) std::fill_n(c, a.rows * b.columns, 0.0f);  // no lanes: an empty sum
  if (a.rows == 0 || b.columns == 0 || a.columns == 0) return;
  // In fp32, with a plain right-hand side sgemm is the fastest on every shape of the models; with a
  // transposed one matmul is, by up to a tenth.
  if (precision_ == Precision::fp32 && !b.transposed) {
    const std::int64_t M = a.rows, N = b.columns, K = a.columns;
    check(dnnl_sgemm(a.transposed ? 'T' : 'N', 'N', M, N, K, 1.0f, a.data, a.transposed ? M : K,
                     b.data, N, 0.0f, c, N));
    return;
  }
  Product& product =
      product_of(a, b, b.transposed ? Right::transposed : Right::plain, Into::overwrite);
  const void* const left = operand(a, left_);
  product.b.set_data_handle(handle(operand(b, right_)));
  product.run(stream_, left, product.b, c);
}

void DnnlProducts::multiply_weights(const MatrixView& a, const WeightView& w, float* c) {
  MatrixView right = w.view;
  if (precision_ == Precision::bf16) right.converted = converted(w);
  multiply(a, right, c);
}

void DnnlProducts::multiply_packed(const MatrixView& a, const WeightView& w, Into into, float* c) {
  require(a.columns == w.view.rows, "the inner extents of a product agree");
  if (a.rows == 0) return;
  Product& product = product_of(a, w.view, Right::packed, into);
  const PackedWeights& weights = packed(w, product.packed_layout);
  product.run(stream_, operand(a, left_), weights.values, c);
}

// The recurrent weights are packed for both directions. In bf16 the others have a copy, and the
// operand that is not converted before is a layer's input, once as it is and once transposed.
std::int64_t DnnlProducts::own_bytes(const Extents& e) const {
  const std::int64_t kernel = e.layers * e.hidden * traits_of(e.cell).gates * e.hidden;
  if (precision_ == Precision::fp32) return 2 * kernel * std::int64_t{sizeof(float)};
  return (2 * kernel + kernel + e.hidden * e.vocab + e.positions * e.hidden) *
         std::int64_t{sizeof(Bf16)};
}

std::string DnnlProducts::arithmetic() const {
  return precision_ == Precision::fp32 ? "fp32" : fmt::format("bf16 by {}", bf16_instructions());
}

}  // namespace

void convert_rows(int threads, const MatrixView& matrix, Bf16* to) {
  const std::int64_t width = matrix.width();
  parallel_for(threads, matrix.height(), 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      loops::convert(width, matrix.data + row * width, to + row * padded(width));
    }
  });
}

const char* bf16_instructions() {
  if (has(dnnl::cpu_isa::avx512_core_amx) && amx::is_there()) return "amx_bf16";
  if (has(dnnl::cpu_isa::avx512_core_bf16)) return "avx512_bf16";
  return "";
}

std::unique_ptr<Products> make_products(Precision precision, int threads) {
  if (precision == Precision::bf16 && std::string_view(bf16_instructions()) == "amx_bf16") {
    return make_tile_products({.multiply = amx::multiply, .arithmetic = "bf16 by amx_bf16"},
                              threads);
  }
  return std::make_unique<DnnlProducts>(precision, threads);
}

std::string products_library() {
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
