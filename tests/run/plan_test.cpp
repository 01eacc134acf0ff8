// The plan against the run itself: its numbers are computed by hand, its memory is compared with
// what a trainer allocates.
#define BOOST_TEST_MODULE run
#include "ptb_dist/run/plan.hpp"

#include <boost/test/unit_test.hpp>

#include "io/memory_backend.hpp"
#include "ptb_dist/train/replica.hpp"
#include "support/reference_backend.hpp"
#include "support/world.hpp"

namespace ptb {
namespace {

std::unique_ptr<Session> the_session;

// MPI begins before the first test and ends after the last, because a process can do that only
// once.
struct SessionFixture {
  SessionFixture() {
    auto& suite = boost::unit_test::framework::master_test_suite();
    the_session = std::make_unique<Session>(&suite.argc, &suite.argv);
  }
  ~SessionFixture() { the_session.reset(); }
};
BOOST_TEST_GLOBAL_FIXTURE(SessionFixture);

// Allocates no memory, but counts how much it would be. Nothing may be written or read.
class CountingBackend final : public test::MemoryBackend {
 public:
  CountingBackend() : MemoryBackend(ElementType::f32) {}

  Tensor allocate(ElementType type, Shape shape) override {
    bytes += shape.elements() * static_cast<std::int64_t>(size_of(type));
    return {nothing_, type, shape};
  }
  void upload(const Tensor&, std::span<const std::byte>) override {}
  void set_zero(const Tensor&) override {}

  std::int64_t bytes = 0;

 private:
  std::shared_ptr<std::byte> nothing_ = std::make_shared<std::byte>();
};

// As large as the Penn Treebank. Words follow each other, so that a window of 20 lanes has none
// twice.
const Corpus& corpus() {
  static const Corpus corpus = [] {
    Corpus made;
    made.tokens = {std::vector<std::int32_t>(929'589), std::vector<std::int32_t>(73'760),
                   std::vector<std::int32_t>(82'430)};
    for (std::vector<std::int32_t>& tokens : made.tokens) {
      for (std::size_t k = 0; k < tokens.size(); ++k) {
        tokens[k] = static_cast<std::int32_t>(k % 10'000);
      }
    }
    return made;
  }();
  return corpus;
}

Config configuration(const char* name) { return resolve_config(name, {}).values; }

Plan plan_of(const Config& config, int ranks) {
  return make_plan(config, corpus(), ranks, CountingBackend());
}

ExitCode code_of(const Config& config, int ranks) {
  try {
    plan_of(config, ranks);
    return ExitCode::done;
  } catch (const Error& error) {
    return error.code();
  }
}

bool contains(const std::vector<std::string>& lines, const std::string& part) {
  for (const std::string& line : lines) {
    if (line.find(part) != std::string::npos) return true;
  }
  return false;
}

std::int64_t allocated(const Config& config, const Plan& plan) {
  CountingBackend backend;
  const auto communicator = make_communicator("single", test::session(), backend);
  Parameters parameters(backend, plan.model);
  const Replica replica({.config = config,
                         .work = plan,
                         .corpus = corpus(),
                         .communicator = *communicator,
                         .backend = backend,
                         .parameters = parameters});
  return backend.bytes;
}

}  // namespace

Session& test::session() { return *the_session; }

BOOST_AUTO_TEST_SUITE(plan_suite)

BOOST_AUTO_TEST_CASE(small_on_one_rank) {
  const Plan plan = plan_of(configuration("small"), 1);
  BOOST_TEST(plan.parameters == 4'651'600);
  BOOST_TEST(plan.parameter_bytes == 4 * 4'651'600);
  BOOST_TEST(plan.windows_per_epoch == 2323);
  BOOST_TEST(plan.train_tokens_per_epoch == 929'200);
  BOOST_TEST(plan.epochs == 13);
  BOOST_TEST(plan.global_lanes == 20);
  BOOST_TEST(plan.max_rows == 400);
  BOOST_TEST(plan.all_reduce_bytes == 0);
  // 6·(L·8·H² + H·V)
  BOOST_TEST(plan.flops_per_word == 6.0 * (2 * 8 * 200 * 200 + 200 * 10'000));
  BOOST_TEST(plan.warnings(configuration("small")).empty());
}

BOOST_AUTO_TEST_CASE(medium_on_eight_ranks) {
  const Config config = configuration("medium");
  const Plan plan = plan_of(config, 8);
  BOOST_TEST(plan.windows_per_epoch == 1327);
  BOOST_TEST(plan.train_tokens_per_epoch == 928'900);
  // Everything but the embedding, and a row for each of 35·20 words.
  BOOST_TEST(plan.all_reduce_bytes == 4 * (19'775'200 - 10'000 * 650 + 700 * 650));
  for (int rank = 0; rank < 8; ++rank) BOOST_TEST(plan.lanes_of(rank).count == (rank < 4 ? 3 : 2));
  const std::vector<std::string> lines = plan.lines(config);
  BOOST_TEST(contains(lines, "3 lanes on ranks 0-3, 2 lanes on ranks 4-7"));
  BOOST_TEST(contains(lines, "19775200 parameters (79.1 MB)"));
  BOOST_TEST(contains(lines, "little speed-up"));
}

BOOST_AUTO_TEST_CASE(a_checkpoint_and_what_saving_it_takes) {
  const Config config = configuration("small");
  const Plan plan = plan_of(config, 2);
  // Parameters, and h and c of 2 layers of 20 lanes; vocabulary and names come on top.
  const std::int64_t tensors = 4 * (4'651'600 + 2 * 2 * 20 * 200);
  BOOST_TEST(plan.checkpoint_bytes >= tensors);
  BOOST_TEST(plan.checkpoint_bytes < tensors + tensors / 100);
  BOOST_TEST(contains(plan.lines(config), "while one is saved rank 0 needs 37.5 MB more"));
}

BOOST_AUTO_TEST_CASE(a_run_that_goes_on_keeps_its_global_batch) {
  Config config = configuration("small");
  config.scaling = "weak";
  BOOST_TEST(plan_of(config, 3).global_lanes == 60);
  BOOST_TEST(make_plan(config, corpus(), 3, CountingBackend(), 40).global_lanes == 40);
}

BOOST_AUTO_TEST_CASE(reals_may_be_wider) {
  const Config config = configuration("small");
  const Plan narrow = plan_of(config, 2);
  const Plan wide = make_plan(config, corpus(), 2, *make_reference_backend());
  BOOST_TEST(wide.parameter_bytes == 2 * narrow.parameter_bytes);
  BOOST_TEST(wide.all_reduce_bytes == 2 * narrow.all_reduce_bytes);
  BOOST_TEST(contains(wide.lines(config), "4651600 parameters (37.2 MB)"));
}

BOOST_AUTO_TEST_CASE(weak_scaling_has_lanes_on_every_rank) {
  Config config = configuration("small");
  config.scaling = "weak";
  const Plan plan = plan_of(config, 4);
  BOOST_TEST(plan.global_lanes == 80);
  for (int rank = 0; rank < 4; ++rank) BOOST_TEST(plan.lanes_of(rank).count == 20);
  BOOST_TEST(plan.windows_per_epoch == (929'589 / 80 - 1) / 20);
  BOOST_TEST(contains(plan.warnings(config), "580 updates an epoch instead of about 2320"));
  BOOST_TEST(plan_of(config, 1).warnings(config).empty());
}

BOOST_AUTO_TEST_CASE(ranks_and_lanes_have_limits) {
  Config config = configuration("small");
  BOOST_TEST((code_of(config, 20) == ExitCode::done));
  BOOST_TEST((code_of(config, 21) == ExitCode::usage));
  config.scaling = "weak";
  BOOST_TEST((code_of(config, 21) == ExitCode::done));
  config.batch_size = kMaxLanes / 2;
  BOOST_TEST((code_of(config, 3) == ExitCode::usage));
  BOOST_TEST((code_of(config, 2) == ExitCode::bad_data));  // the text is too short for so many
}

double ratio_of_memory(const Config& config) {
  const Plan plan = plan_of(config, 1);
  return static_cast<double>(plan.rank_bytes) / static_cast<double>(allocated(config, plan));
}

// The plan leaves single numbers out.
BOOST_AUTO_TEST_CASE(memory_is_what_a_trainer_allocates) {
  for (const char* name : {"small", "medium"}) {
    for (const double keep_prob : {1.0, 0.5}) {
      Config config = configuration(name);
      config.keep_prob = keep_prob;
      const double ratio = ratio_of_memory(config);
      BOOST_TEST(ratio > 0.995, name << " " << keep_prob << ": " << ratio);
      BOOST_TEST(ratio < 1.005, name << " " << keep_prob << ": " << ratio);
    }
  }
}

// Groups of 3 and of 2 lanes: a workspace of each, and four slabs of gradients.
BOOST_AUTO_TEST_CASE(memory_of_lane_groups) {
  Config config = configuration("medium");
  config.lane_groups = 8;
  const double ratio = ratio_of_memory(config);
  BOOST_TEST(ratio > 0.995, ratio);
  BOOST_TEST(ratio < 1.005, ratio);
}

// The CPU backend also has packed recurrent weights, one copy for each direction, however many rows
// there are: 20 (training and validation), 3 and 2 (training in groups), 1 (test).
BOOST_AUTO_TEST_CASE(memory_has_what_the_backend_takes_for_itself) {
  Config config = configuration("medium");
  const auto cpu = make_backend({.name = "cpu"});
  for (const int groups : {0, 8}) {
    config.lane_groups = groups;
    const std::int64_t with = make_plan(config, corpus(), 1, *cpu).rank_bytes;
    BOOST_TEST(with - plan_of(config, 1).rank_bytes == std::int64_t{2} * 2 * 650 * 4 * 650 * 4);
  }
}

// As the log and --dry-run have it, and more than there is.
BOOST_AUTO_TEST_CASE(memory_of_a_gpu) {
  class GpuBackend final : public test::MemoryBackend {
   public:
    GpuBackend() : MemoryBackend(ElementType::f32) {}
    PhysicalDevice device() const override { return {.uuid = "GPU-1", .memory = 200'000'000}; }
    std::int64_t own_bytes(const Extents&) const override { return 50'000'000; }
  };
  const Config config = configuration("small");
  const Plan plan = make_plan(config, corpus(), 1, GpuBackend());
  BOOST_TEST(plan.rank_bytes == plan_of(config, 1).rank_bytes + 50'000'000);
  BOOST_TEST(contains(plan.lines(config), "GPU memory: about "));
  BOOST_TEST(contains(plan.lines(config), " per rank, of 200.0 MB"));
  BOOST_TEST(plan.warnings(config, 1).empty());
  BOOST_TEST(contains(plan.warnings(config, 2), "2 ranks on a GPU need about "));
  BOOST_TEST(contains(plan_of(config, 1).lines(config), "Memory: about "));
}

BOOST_AUTO_TEST_CASE(a_large_batch_in_groups_needs_less_memory) {
  Config config = configuration("small");
  config.batch_size = 320;
  const std::int64_t whole = plan_of(config, 1).rank_bytes;
  config.lane_groups = 16;
  // Each group has the positions of the window's words: here no word occurs twice in a window, so
  // their number is the largest possible.
  BOOST_TEST(plan_of(config, 1).rank_bytes < whole / 2);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace ptb
