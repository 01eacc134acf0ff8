#include "ptb_dist/io/checkpoint.hpp"

#include <hdf5.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cstring>
#include <limits>
#include <random>

#include "io/memory_backend.hpp"
#include "io/sample_checkpoint.hpp"
#include "io/scratch.hpp"
#include "ptb_dist/io/parameters_file.hpp"
#include "support/requirements.hpp"

namespace fs = std::filesystem;
using namespace ptb;
using namespace ptb::test;

namespace {

constexpr std::array kWidths = {ElementType::f32, ElementType::f64};

// As a user would compute it: xxhsum -H2 of the file with its digits set to '0'.
std::string digest_from_outside(std::string bytes) {
  const std::size_t digits = bytes.find("xxh3_128 = ") + std::strlen("xxh3_128 = ");
  std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(digits), 32, '0');
  XXH128_canonical_t canonical{};
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  std::array<char, 33> text{};
  for (std::size_t i = 0; i < 16; ++i) {
    std::snprintf(text.data() + 2 * i, 3, "%02x", canonical.digest[i]);
  }
  return text.data();
}

// Whether the reason is one that is found without HDF5.
bool is_found_early(const Failure& failure) {
  const std::array reasons = {"digest mismatch",    "truncated", "is not a checkpoint",
                              "bytes are damaged",  "is empty",  "written in format",
                              "does not say which", "too many"};
  return failure.code == 65 &&
         std::ranges::any_of(reasons, [&](const char* reason) { return failure.names(reason); });
}

// Flips each bit alone in a file that holds `whole`; reading it must fail before HDF5 sees a byte.
void check_flips(const fs::path& path, const std::string& whole, unsigned first_seed, int count) {
  std::mt19937_64 random(first_seed);
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  for (int i = 0; i < count; ++i) {
    const std::size_t bit = random() % (8 * whole.size());
    const char good = whole[bit / 8];
    const auto put_at = [&](char byte) {
      file.seekp(static_cast<std::streamoff>(bit / 8)).put(byte).flush();
    };
    put_at(static_cast<char>(good ^ (1 << bit % 8)));
    const Failure failure = failure_of_reading(path);
    BOOST_TEST(is_found_early(failure), "bit " << bit << ": " << failure.line);
    put_at(good);
  }
  BOOST_TEST(failure_of_reading(path).line == "");
}

}  // namespace

BOOST_AUTO_TEST_SUITE(checkpoint)

BOOST_AUTO_TEST_CASE(round_trip_in_either_width) {
  const Scratch scratch;
  for (const ElementType saved : kWidths) {
    SampleRun run(saved);
    run.save(scratch / "a.h5");
    const CheckpointFile file(scratch / "a.h5");
    const CheckpointInfo& info = file.info();
    BOOST_TEST((info.config == run.info.config));
    BOOST_TEST((info.corpus == run.info.corpus));
    BOOST_TEST((info.progress == run.info.progress));
    BOOST_TEST((info.exact_class == run.info.exact_class));
    BOOST_TEST((info.real == saved));
    BOOST_TEST(file.bytes() == static_cast<std::int64_t>(fs::file_size(scratch / "a.h5")));
    for (const ElementType loaded : kWidths) {
      SampleRun to(loaded);
      to.backend.set_zero(to.parameters.slab());
      const std::uint64_t version = to.parameters.weights().version;
      file.load_parameters(to.backend, to.parameters);
      std::vector<std::byte> slab(to.parameters.slab().bytes());
      to.backend.download(to.parameters.slab(), slab);
      BOOST_TEST((slab == to.reals(SampleRun::value, slab.size() / size_of(loaded))));
      BOOST_TEST(to.parameters.weights().version > version);
      const HostState state = file.state(loaded);
      BOOST_TEST(state.size() == to.state.size());
      for (std::size_t i = 0; i < state.size(); ++i) {
        BOOST_TEST(state[i].name == to.state[i].name);
        BOOST_TEST((state[i].shape == to.state[i].shape));
        BOOST_TEST((state[i].values == to.state[i].values));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(every_mathematical_key_is_kept) {
  const Config config = SampleRun::make_info(ElementType::f32).config, defaults;
  for (const Key& key : config_schema()) {
    // Without this the round trip would say nothing about it.
    // For keys that the first checkpoints did not have see checkpoint_config_test.
    const bool is_here = key.is_mathematical && !key.value_before;
    BOOST_TEST((toml_value(config, key) != toml_value(defaults, key)) == is_here, key.name);
  }
}

BOOST_AUTO_TEST_CASE(a_run_before_its_first_epoch_is_over) {
  const Scratch scratch;
  SampleRun run(ElementType::f32);
  run.info.progress = {.epoch = 0, .window = 0, .step = 0, .cross_entropy = 0, .history = {}};
  run.info.exact_class = {};
  run.save(scratch / "a.h5");
  const CheckpointFile file(scratch / "a.h5");
  BOOST_TEST((file.info().progress == run.info.progress));
  BOOST_TEST(file.info().exact_class.empty());
}

BOOST_AUTO_TEST_CASE(one_state_gives_the_same_bytes) {
  const std::vector<std::byte> first = SampleRun(ElementType::f32).image();
  BOOST_TEST((first == SampleRun(ElementType::f32).image()));
  SampleRun later(ElementType::f32);
  later.info.progress.cross_entropy = std::nextafter(0.1, 1.0);
  BOOST_TEST((first != later.image()));
  // Time stamps have whole seconds, so equal bytes alone would prove little.
  const Scratch scratch;
  put(scratch / "a.h5", SampleRun::text_of(first));
  const hid_t file = H5Fopen((scratch / "a.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  for (const char* name : {"/", "/config", "/progress", "/parameters/lstm", "/parameters/embedding",
                           "/state/lstm/0/h", "/history", "/history/train", "/vocabulary"}) {
    const hid_t object = H5Oopen(file, name, H5P_DEFAULT);
    H5O_info_t info{};
    H5Oget_info1(object, &info);
    H5Oclose(object);
    BOOST_TEST((info.mtime == 0 && info.ctime == 0 && info.btime == 0), name);
  }
  H5Fclose(file);
}

BOOST_AUTO_TEST_CASE(the_first_512_bytes_are_text) {
  const Scratch scratch;
  SampleRun(ElementType::f32).save(scratch / "a.h5");
  const std::string whole = content(scratch / "a.h5");
  std::string expected =
      "ptb_dist checkpoint\nformat = 1\nbytes = " + std::to_string(whole.size()) +
      "\nxxh3_128 = " + digest_from_outside(whole) + "\nstep = 19\n";
  expected.resize(512);
  BOOST_TEST(whole.substr(0, 512) == expected);
  BOOST_TEST(whole.substr(512, 4) == "\x89HDF");
  BOOST_TEST(CheckpointFile(scratch / "a.h5").digest() == digest_from_outside(whole));
}

BOOST_AUTO_TEST_CASE(an_unsealed_image_is_no_checkpoint_yet) {
  const Scratch scratch;
  SampleRun run(ElementType::f32);
  put(scratch / "a.h5",
      SampleRun::text_of(checkpoint_image(run.info, run.state, run.backend, run.parameters).bytes));
  BOOST_TEST(failure_of_reading(scratch / "a.h5").names("digest mismatch (stored 0000"));
}

BOOST_AUTO_TEST_CASE(tensors_by_name) {
  const Scratch scratch;
  SampleRun(ElementType::f32).save(scratch / "a.h5");
  const CheckpointFile file(scratch / "a.h5");
  const std::vector<CheckpointFile::TensorName> tensors = file.tensors();
  BOOST_TEST(tensors.size() == 1u + 2 * 3 + 2 + 2 * 3);
  BOOST_TEST(tensors.front().name == "/parameters/embedding");
  BOOST_TEST((tensors.front().shape == Shape{7, 3}));
  BOOST_TEST(file.values(tensors.front()).at(20) == SampleRun::value(20));
  BOOST_TEST(tensors.back().name == "/state/lstm/2/c");
  BOOST_TEST((tensors.back().shape == Shape{4, 3}));
  BOOST_TEST(file.values(tensors.back()).back() == SampleRun::c(35));
}

BOOST_AUTO_TEST_CASE(the_size_is_known_beforehand) {
  SampleRun run(ElementType::f32);
  const std::int64_t estimate =
      checkpoint_bytes(run.parameters.table(), run.info.state(), sizeof(float));
  const auto real = static_cast<std::int64_t>(run.image().size());
  BOOST_TEST(estimate > real / 2);
  BOOST_TEST(estimate < real * 2);
}

BOOST_AUTO_TEST_CASE(the_best_epoch_is_the_first_of_equals) {
  Progress progress;
  BOOST_TEST(progress.best_epoch() == -1);
  progress.history = {{.valid = 5}, {.valid = 4}, {.valid = 4}};
  BOOST_TEST(progress.best_epoch() == 1);
}

BOOST_AUTO_TEST_CASE(exact_classes_differ_by_member) {
  const ExactClass then = {{"ranks", "2"}, {"threads", "1"}, {"note", "x"}};
  BOOST_TEST(differences(then, then) == "");
  BOOST_TEST(differences({{"ranks", "4"}, {"threads", "1"}, {"gpu", "A100"}}, then) ==
             "ranks 4 instead of 2; gpu A100 instead of none; note none instead of x");
}

BOOST_AUTO_TEST_CASE(an_exact_class_without_numerics_has_the_first_ones) {
  const ExactClass old = {{"ranks", "2"}};
  const ExactClass first = {{"ranks", "2"}, {"numerics", "1"}};
  const ExactClass later = {{"ranks", "2"}, {"numerics", "2"}};
  BOOST_TEST(differences(first, old) == "");
  BOOST_TEST(differences(old, first) == "");
  BOOST_TEST(differences(later, old) == "numerics 2 instead of 1");
  BOOST_TEST(differences(old, later) == "numerics 1 instead of 2");
}

BOOST_AUTO_TEST_CASE(the_first_numerics_are_not_written) {
  const Scratch scratch;
  for (const char* number : {"1", "2"}) {
    SampleRun run(ElementType::f32);
    const std::vector<std::byte> without = run.image();
    run.info.exact_class.emplace_back("numerics", number);
    BOOST_TEST((run.image() == without) == (std::string(number) == "1"));
    run.save(scratch / "a.h5");
    const CheckpointFile file(scratch / "a.h5");
    BOOST_TEST(differences(run.info.exact_class, file.info().exact_class) == "");
  }
}

BOOST_AUTO_TEST_CASE(a_corpus_is_known_by_its_ids_and_words) {
  Corpus corpus;
  corpus.words = {"a", "b"};
  corpus.tokens = {std::vector<std::int32_t>{0, 1, 1}, {1}, {}};
  const CorpusIdentity identity = identity_of(corpus);
  BOOST_TEST(identity.words == corpus.words);
  BOOST_TEST((identity.tokens == std::array<std::int64_t, 3>{3, 1, 0}));
  BOOST_TEST(identity.digests[2] == "99aa06d3014798d86001c324468d497f");  // of nothing
  corpus.source = "elsewhere";
  BOOST_TEST((identity_of(corpus) == identity));
  corpus.tokens[0] = {1, 0, 1};
  BOOST_TEST((identity_of(corpus).digests[0] != identity.digests[0]));
}

BOOST_AUTO_TEST_CASE(values_that_are_not_finite_are_not_saved) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  SampleRun weights(ElementType::f64), state(ElementType::f64), sum(ElementType::f64),
      history(ElementType::f64);
  weights.parameters.slab().span<double>()[8] = nan;
  std::memcpy(state.state[3].values.data() + 3 * sizeof nan, &nan, sizeof nan);
  sum.info.progress.cross_entropy = nan;
  history.info.progress.history[1].train = std::numeric_limits<double>::infinity();
  const std::pair<SampleRun*, const char*> cases[] = {
      {&weights, "/parameters/embedding: the value at [2,2] is nan"},
      {&state, "/state/lstm/1/c: the value at [1,0] is nan"},
      {&sum, "/progress/cross_entropy: the value at [] is nan"},
      {&history, "/history/train: the value at [1] is inf"}};
  for (const auto& [run, reason] : cases) {
    const Failure failure = failure_of([&, r = run] { r->image(); });
    BOOST_TEST(failure.code == 76);
    BOOST_TEST(failure.names(reason), failure.line);
  }
}

BOOST_AUTO_TEST_CASE(parameters_are_loaded_from_a_checkpoint) {
  const Scratch scratch;
  SampleRun run(ElementType::f64);
  run.save(scratch / "a.h5");
  BOOST_TEST(looks_like_a_checkpoint(scratch / "a.h5"));
  SampleRun to(ElementType::f32);
  to.backend.set_zero(to.parameters.slab());
  load_parameters(scratch / "a.h5", to.backend, to.parameters);
  BOOST_TEST(to.parameters.slab().span<float>()[9] == SampleRun::value(9));

  ModelShape wider = run.info.shape();
  wider.hidden_size = 4;
  Parameters other(to.backend, wider);
  const Failure failure = failure_of([&] { load_parameters(scratch / "a.h5", to.backend, other); });
  BOOST_TEST(failure.code == 65);
  BOOST_TEST(
      failure.names("is of a model with 7 words, 3 units and 3 lstm layers, this one has 7 words,"
                    " 4 units and 3 lstm layers"),
      failure.line);

  std::string damaged = content(scratch / "a.h5");
  damaged.back() ^= 1;
  put(scratch / "b.h5", damaged);
  BOOST_TEST(failure_of([&] {
               load_parameters(scratch / "b.h5", to.backend, to.parameters);
             }).names("digest mismatch"));
  save_parameters(scratch / "c.h5", to.backend, to.parameters);
  for (const fs::path& path : {scratch / "c.h5", scratch / "absent.h5", scratch.path()}) {
    BOOST_TEST(!looks_like_a_checkpoint(path));
  }
}

BOOST_AUTO_TEST_CASE(doubles_beyond_the_range_of_floats_are_refused_as_floats) {
  const Scratch scratch;
  SampleRun run(ElementType::f64);
  run.parameters.slab().span<double>()[0] = 1e300;
  run.save(scratch / "a.h5");
  const CheckpointFile file(scratch / "a.h5");
  SampleRun to(ElementType::f32);
  BOOST_TEST(failure_of([&] {
               file.load_parameters(to.backend, to.parameters);
             }).names("/parameters/embedding: the value at [0,0] is inf as a 32-bit float"));
}

BOOST_AUTO_TEST_CASE(truncation_is_found_wherever_it_is) {
  const Scratch scratch;
  SampleRun(ElementType::f32).save(scratch / "whole.h5");
  const std::string whole = content(scratch / "whole.h5");
  for (std::size_t length = 0; length < whole.size(); length += length < 512 ? 1 : 64) {
    put(scratch / "cut.h5", whole.substr(0, length));
    const Failure failure = failure_of_reading(scratch / "cut.h5");
    BOOST_TEST(is_found_early(failure), length << ": " << failure.line);
    if (length < 512) continue;
    const std::string reason =
        "truncated: " + std::to_string(length) + " of " + std::to_string(whole.size()) + " bytes";
    BOOST_TEST(failure.names(reason), failure.line);
  }
  put(scratch / "long.h5", whole + 'x');
  BOOST_TEST(failure_of_reading(scratch / "long.h5").names("1 of them too many"));
}

BOOST_AUTO_TEST_CASE(single_bits_are_found_before_hdf5_sees_them) {
  const Scratch scratch;
  SampleRun(ElementType::f32).save(scratch / "a.h5");
  check_flips(scratch / "a.h5", content(scratch / "a.h5"), 1, 1000);
}

BOOST_AUTO_TEST_CASE(other_formats_are_named) {
  const Scratch scratch;
  SampleRun(ElementType::f32).save(scratch / "a.h5");
  std::string text = content(scratch / "a.h5");
  const std::size_t format = text.find("format = ") + std::strlen("format = ");
  const std::pair<char, const char*> cases[] = {
      {'3', "written in format 3 by a later ptb_dist; this one reads format 1"},
      {'0', "written in format 0 by an earlier ptb_dist; this one reads format 1"},
      {'x', "does not say which format it is written in"}};
  for (const auto& [digit, reason] : cases) {
    text[format] = digit;
    put(scratch / "b.h5", text);
    const Failure failure = failure_of_reading(scratch / "b.h5");
    BOOST_TEST(failure.code == 65);
    BOOST_TEST(failure.names(reason), failure.line);
  }
}

BOOST_AUTO_TEST_CASE(what_is_no_checkpoint_is_refused_unread) {
  const Scratch scratch;
  put(scratch / "empty.h5", "");
  put(scratch / "text.h5", std::string(5000, 'x'));
  put(scratch / "title.h5", "ptb_dist checkpoint\n");
  ::mkfifo((scratch / "fifo.h5").c_str(), 0600);
  fs::create_directory(scratch / "folder.h5");
  fs::create_symlink("loop.h5", scratch / "loop.h5");
  // A file of holes: its length alone must not cost memory.
  put(scratch / "holes.h5", "ptb_dist checkpoint\nformat = 1\nbytes = 4398046511104\nxxh3_128 = " +
                                std::string(32, '0') + "\nstep = 19\n");
  fs::resize_file(scratch / "holes.h5", std::uintmax_t{1} << 42);
  const struct {
    fs::path path;
    int code;
    const char* reason;
  } cases[] = {{scratch / "empty.h5", 65, "is empty"},
               {scratch / "text.h5", 65, "is not a checkpoint of ptb_dist"},
               {scratch / "title.h5", 65, "does not say which format it is written in"},
               {scratch / "fifo.h5", 65, "is not a regular file"},
               {scratch / "folder.h5", 65, "is a folder"},
               {"/dev/zero", 65, "is not a regular file"},
               {scratch / "loop.h5", 74, "Too many levels of symbolic links"},
               {scratch / "absent.h5", 74, "No such file or directory"},
               {scratch / "holes.h5", 69, "has 4.40 TB, the memory of this machine "}};
  for (const auto& [path, code, reason] : cases) {
    const Failure failure = failure_of_reading(path);
    BOOST_TEST(failure.code == code, failure.line);
    BOOST_TEST(failure.names("checkpoint: " + path.string() + ": " + reason), failure.line);
  }
}

BOOST_AUTO_TEST_CASE(a_file_without_permission_is_refused,
                     *boost::unit_test::precondition(needs_other_user)) {
  const Scratch scratch;
  SampleRun(ElementType::f32).save(scratch / "a.h5");
  fs::permissions(scratch.path(), fs::perms::all);
  fs::permissions(scratch / "a.h5", fs::perms::none);
  const OtherUser user;
  const Failure failure = failure_of_reading(scratch / "a.h5");
  BOOST_TEST(failure.code == 74);
  BOOST_TEST(failure.names("Permission denied"), failure.line);
}

BOOST_AUTO_TEST_SUITE_END()

// The long form, under the label "fault".
BOOST_AUTO_TEST_SUITE(checkpoint_sweep, *boost::unit_test::disabled())

BOOST_AUTO_TEST_CASE(ten_thousand_single_bits) {
  const Scratch scratch;
  SampleRun(ElementType::f64).save(scratch / "a.h5");
  check_flips(scratch / "a.h5", content(scratch / "a.h5"), 2, 10'000);
}

BOOST_AUTO_TEST_SUITE_END()
