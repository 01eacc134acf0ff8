// ptb_dist_mutant: the program with a defect of choice, to show that the tests of the whole program
// find it. Its bf16 is the portable one. Never installed.
//
//   PTB_DIST_MUTANT=<name> mpirun -np 3 ptb_dist_mutant ...
//
//   local_lane_dropout   dropout is keyed by the rank's own lane, not by the global one
//   mean_of_means        gradients are averaged in each rank, then over the ranks: wrong if uneven
//   unshifted_targets    the model predicts its input, not the next word
//   rank_order           sums over ranks do not follow the tree of lane groups
//   groups_per_rank      lanes are dealt to ranks, and a rank's lanes to its groups
//   not_finite           the loss is NaN from the epoch's window 5 on, as after an overflow
//   missing_on_rank_1    rank 1 finds no backend, the others do
//   none                 no defect: the tests then pass, so it is the defects that they find
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ptb_dist/program.hpp"
#include "ptb_dist/train/lane_groups.hpp"
#include "support/portable_products.hpp"

namespace ptb {
namespace {

enum class Defect {
  none,
  local_lane_dropout,
  mean_of_means,
  unshifted_targets,
  rank_order,
  groups_per_rank,
  not_finite,
  missing_on_rank_1,
};
const std::map<std::string, Defect> kDefects = {
    {"none", Defect::none},
    {"local_lane_dropout", Defect::local_lane_dropout},
    {"mean_of_means", Defect::mean_of_means},
    {"unshifted_targets", Defect::unshifted_targets},
    {"rank_order", Defect::rank_order},
    {"groups_per_rank", Defect::groups_per_rank},
    {"not_finite", Defect::not_finite},
    {"missing_on_rank_1", Defect::missing_on_rank_1},
};

std::string variable(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}

Defect chosen_defect() { return kDefects.at(variable("PTB_DIST_MUTANT", "none")); }

// The CPU backend, handed wrong arguments.
class MutantBackend final : public Backend {
 public:
  MutantBackend(std::unique_ptr<Backend> real, Defect defect, int ranks)
      : real_(std::move(real)), defect_(defect), ranks_(ranks) {}

  void draw_dropout(const Dropout& dropout) override {
    Dropout wrong = dropout;
    if (first_lane_ < 0) first_lane_ = dropout.first_lane;
    if (defect_ == Defect::local_lane_dropout) wrong.first_lane -= first_lane_;
    real_->draw_dropout(wrong);
  }
  void embedding(const EmbeddingForward& op) override {
    inputs_ = op.ids;
    real_->embedding(op);
  }
  void softmax_loss(const SoftmaxLoss& op) override {
    SoftmaxLoss wrong = op;
    if (defect_ == Defect::mean_of_means && op.gradient_scale != 0) {
      wrong.gradient_scale = 1.0 / (static_cast<double>(inputs_.shape()[1]) * ranks_);
    }
    if (defect_ == Defect::unshifted_targets) wrong.targets = inputs_.view({inputs_.elements()});
    real_->softmax_loss(wrong);
    if (defect_ == Defect::not_finite && window_ >= 5) {
      const double nan = std::numeric_limits<double>::quiet_NaN();
      real_->upload(op.loss, std::as_bytes(std::span(&nan, 1)));
    }
  }

  void set_step(const StepState& step) override {
    window_ = step.window;
    real_->set_step(step);
  }

  std::string name() const override { return real_->name(); }
  std::string description() const override { return real_->description() + ", mutant"; }
  std::string identity() const override { return real_->identity(); }
  ElementType real_type() const override { return real_->real_type(); }
  bool has_host_memory() const override { return real_->has_host_memory(); }
  std::int64_t own_bytes(const Extents& extents) const override {
    return real_->own_bytes(extents);
  }
  Tensor allocate(ElementType type, Shape shape) override { return real_->allocate(type, shape); }
  void upload(const Tensor& to, std::span<const std::byte> from) override {
    real_->upload(to, from);
  }
  void download(const Tensor& from, std::span<std::byte> to) override { real_->download(from, to); }
  Arrival begin_download(const Tensor& from) override { return real_->begin_download(from); }
  int lag() const override { return real_->lag(); }
  void set_zero(const Tensor& tensor) override { real_->set_zero(tensor); }
  void prepare(const Weights& weights) override { real_->prepare(weights); }
  void load_window(const WindowLoad& op) override { real_->load_window(op); }
  void run_segment(SegmentKey key, const std::function<void()>& segment) override {
    real_->run_segment(key, segment);
  }
  Event record() override { return real_->record(); }
  void wait(const Event& event) override { real_->wait(event); }
  bool done(const Event& event) override { return real_->done(event); }
  void embedding_backward(const EmbeddingBackward& op) override { real_->embedding_backward(op); }
  void stack(const StackForward& op) override { real_->stack(op); }
  void stack_backward(const StackBackward& op) override { real_->stack_backward(op); }
  void layer_weight_gradient(const LayerWeightGradient& op) override {
    real_->layer_weight_gradient(op);
  }
  void softmax_backward(const SoftmaxBackward& op) override { real_->softmax_backward(op); }
  void add(const Addition& op) override { real_->add(op); }
  void gradient_norm(const GradientNorm& op) override { real_->gradient_norm(op); }
  void clip_step(const ClipStep& op) override { real_->clip_step(op); }

 private:
  std::unique_ptr<Backend> real_;
  Defect defect_;
  int ranks_;
  int window_ = 0;
  int first_lane_ = -1;  // of this rank
  Tensor inputs_;        // [T,B] i32 of the window in hand
};

std::unique_ptr<Backend> make_mutant(const BackendOptions& options) {
  const Defect defect = chosen_defect();
  if (defect == Defect::missing_on_rank_1 && variable("OMPI_COMM_WORLD_RANK", "0") == "1") {
    throw Error(ExitCode::missing, {.what = "no backend"});
  }
  return std::make_unique<MutantBackend>(test::make_portable_backend(options), defect,
                                         std::stoi(variable("OMPI_COMM_WORLD_SIZE", "1")));
}

// Adds what ranks have in the order of their numbers, ((0 + 1) + 2) + 3.
class RankOrder final : public Communicator {
 public:
  using Communicator::Communicator;

  std::string name() const override { return "mpi"; }
  Reduction all_reduce(const Tensor& part, const Event&, const std::string&) override {
    part.type() == ElementType::f64 ? sum<double>(part) : sum<float>(part);
    return nullptr;
  }

 private:
  template <class Real>
  void sum(const Tensor& part) {
    std::string bytes(part.bytes(), '\0');
    backend_.download(part, std::as_writable_bytes(std::span(bytes)));
    std::vector<Real> total(static_cast<std::size_t>(part.elements()));
    for (const std::string& theirs : session_.gather(bytes)) {
      const auto* values = reinterpret_cast<const Real*>(theirs.data());
      for (std::size_t i = 0; i < total.size(); ++i) total[i] += values[i];
    }
    session_.broadcast(std::as_writable_bytes(std::span(total)));
    backend_.upload(part, std::as_bytes(std::span(total)));
  }
};

std::unique_ptr<Communicator> make_mutant_communicator(const std::string& name, Session& session,
                                                       Backend& backend, SumOrder order) {
  if (chosen_defect() == Defect::rank_order) {
    return std::make_unique<RankOrder>(session, backend);
  }
  return make_communicator(name, session, backend, order);
}

}  // namespace

// In place of the program's own (train/lane_groups.hpp): the linker takes the first that it meets.
std::vector<LaneSlice> groups_of_rank(int lanes, int groups, int rank, int ranks) {
  const bool is_wrong = chosen_defect() == Defect::groups_per_rank;
  const LaneSlice mine = deal_lanes(is_wrong ? lanes : groups, rank, ranks);
  std::vector<LaneSlice> slices;
  if (is_wrong) {
    for (int group = 0; group < groups / ranks; ++group) {
      const LaneSlice slice = deal_lanes(mine.count, group, groups / ranks);
      slices.push_back({mine.first + slice.first, slice.count, lanes});
    }
  } else {
    for (int group = mine.first; group < mine.first + mine.count; ++group) {
      slices.push_back(deal_lanes(lanes, group, groups));
    }
  }
  return slices;
}

}  // namespace ptb

int main(int argc, char** argv) {
  return ptb::run_program(
      argc, argv, {.backend = ptb::make_mutant, .communicator = ptb::make_mutant_communicator});
}
