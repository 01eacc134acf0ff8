#include "ptb_dist/train/step.hpp"

#include <limits>
#include <span>

namespace ptb {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

}  // namespace

Step::Step(const StepParts& parts)
    : backend_(parts.backend),
      communicator_(parts.communicator),
      parameters_(parts.parameters),
      model_(backend_, parameters_),
      sgd_(backend_, parts.max_grad_norm),
      groups_(backend_, parameters_.shape(), parts.split, parts.groups,
              {.max_steps = parts.split.num_steps(),
               .for_training = true,
               .keep_prob = parts.keep_prob,
               .seed = parts.seed}),
      turns_(tree_turns(static_cast<int>(parts.groups.size()))) {
  for (int slab = 0; slab < slab_count(turns_); ++slab) {
    slabs_.push_back(
        {.gradients = Gradients(backend_, parameters_.shape(), groups_.words().max_count()),
         .sums = WindowSums(backend_, 1)});
  }
}

Step::InFlight Step::run(const StepInputs& inputs) {
  // 1. The next window of every group's lanes, and the requests of this rank.
  groups_.begin_window(inputs.window);
  slabs_.front().sums.set_requests(backend_, inputs.requests);

  std::vector<Reduction> sums;
  for (std::size_t index = 0; index < turns_.size(); ++index) {
    LaneGroup& group = groups_.groups()[index];
    const Turn& turn = turns_[index];
    Slab& slab = slabs_[static_cast<std::size_t>(turn.slab)];

    // 2. Forward: tokens to cross-entropy. Its sum over the ranks starts, with the requests.
    model_.forward(*group.batch, group.state, *group.workspace, slab.sums.losses());
    if (inputs.spoils_loss) {
      backend_.upload(slab.sums.losses(), std::as_bytes(std::span(&kNaN, 1)));
    }
    const auto sum_of_losses = [](const Slab& of) { return of.sums.sum(); };
    pass_on(turn, sum_of_losses, "the loss", sums);

    // 3. Backward, segment by segment. The sum of each part of the gradient over the ranks starts
    // as soon as the part is complete.
    for (const Segment& segment :
         model_.backward_segments(*group.batch, *group.workspace, slab.gradients)) {
      backend_.run_segment(segment.key, segment.enqueue);
      if (!segment.completes) continue;
      const auto part = [&](const Slab& of) { return of.gradients.part(*segment.completes); };
      pass_on(turn, part, segment.name, sums);
    }
  }

  // 4. The gradient of the global batch, the same on every rank.
  for (const Reduction& sum : sums) communicator_.wait(sum);

  // 5. Global-norm clip, and the update.
  update();

  // 6. The results start on their way to the host, which reads them later.
  return {.sum = backend_.begin_download(slabs_.front().sums.sum()),
          .norm = backend_.begin_download(sgd_.norm())};
}

StepResult Step::result(const InFlight& window, const std::string& what) {
  communicator_.await(window.norm.event, what);  // the norm is the last to be copied
  const WindowSums::Values sums = WindowSums::read(window.sum);
  return {.cross_entropy = sums.cross_entropy,
          .gradient_norm = window.norm.read<double>(1).front(),
          .requests = sums.requests};
}

// Adds the result of a turn along the tree of groups. After the last turn the sum of all groups
// goes into the sum over ranks.
void Step::pass_on(const Turn& turn, const std::function<Tensor(const Slab&)>& part,
                   const std::string& what, std::vector<Reduction>& sums) {
  auto slab = static_cast<std::size_t>(turn.slab);
  for (int i = 0; i < turn.additions; ++i, --slab) {
    backend_.add({.to = part(slabs_[slab - 1]), .from = part(slabs_[slab])});
  }
  if (&turn != &turns_.back()) return;
  sums.push_back(communicator_.all_reduce(part(slabs_.front()), backend_.record(), what));
}

void Step::update() {
  const Slab& sum = slabs_.front();
  sgd_.step(
      parameters_,
      {.embedding = embedding_rows(groups_.words(), sum.gradients), .dense = sum.gradients.dense()},
      sum.sums.losses());
}

std::vector<Step::Phase> Step::phases() {
  LaneGroup& group = groups_.groups().front();
  Slab& slab = slabs_.front();
  std::vector<Phase> phases;
  phases.push_back({"copies of the weights", [this] {
                      parameters_.touch();
                      backend_.prepare(parameters_.weights());
                    }});
  phases.push_back({"forward", [this, &group, &slab] {
                      model_.forward(*group.batch, group.state, *group.workspace,
                                     slab.sums.losses());
                    }});
  for (const Segment& segment :
       model_.backward_segments(*group.batch, *group.workspace, slab.gradients)) {
    phases.push_back({segment.name + ", backward",
                      [this, segment] { backend_.run_segment(segment.key, segment.enqueue); }});
  }
  phases.push_back({"clip and step", [this] { update(); }});
  return phases;
}

}  // namespace ptb
