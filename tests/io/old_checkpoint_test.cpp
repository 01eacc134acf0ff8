// Checkpoints that an early ptb_dist wrote (0.1.0, commit cad7433) can be read for ever, with the
// values that they had then. program/old_checkpoints_test.py says how they were made, and resumes
// from them.
#include <boost/test/unit_test.hpp>
#include <span>
#include <string>
#include <vector>

#include "io/files/digest.hpp"
#include "io/sample_checkpoint.hpp"

using namespace ptb;
using namespace ptb::test;

namespace {

const std::string kFolder = PTB_DIST_OLD_CHECKPOINTS;

// Names, shapes and values of all tensors whose name begins so, in the order in which they are
// told.
std::string digest_of_tensors(const CheckpointFile& file, const std::string& beginning) {
  std::string names;
  std::vector<double> values;
  for (const CheckpointFile::TensorName& tensor : file.tensors()) {
    if (!tensor.name.starts_with(beginning)) continue;
    names += tensor.name + tensor.shape.text();
    for (const double value : file.values(tensor)) values.push_back(value);
  }
  return digest_of({std::as_bytes(std::span(names)), std::as_bytes(std::span(values))});
}

std::string digest_of_words(const CheckpointFile& file) {
  std::string text;
  for (const std::string& word : file.info().corpus.words) text += word + '\n';
  return digest_of({std::as_bytes(std::span(text))});
}

// What both runs have.
Config common_config() {
  Config config;
  config.init_scale = 0.25;
  config.num_steps = 5;
  config.vocab_size = 20;
  config.max_epoch = 3;
  config.batch_size = 4;
  config.eval_lanes = 2;
  return config;
}

void check_text(const CheckpointFile& file) {
  const CorpusIdentity& corpus = file.info().corpus;
  BOOST_TEST(digest_of_words(file) == "322c3043e41f398acf658b8e48a107cd");
  BOOST_TEST((corpus.tokens == std::array<std::int64_t, 3>{1500, 119, 133}));
  BOOST_TEST(corpus.digests[0] == "4d094be5e1924bc4f0cb32c7e808c53e");
  BOOST_TEST(corpus.digests[1] == "9ea88487c19b3653ea00c09fa9ba35f6");
  BOOST_TEST(corpus.digests[2] == "c1bae64dc4bc10bc68f0ecadd036d1e6");
}

}  // namespace

BOOST_AUTO_TEST_SUITE(old_checkpoint)

BOOST_AUTO_TEST_CASE(without_dropout) {
  const CheckpointFile file(kFolder + "/plain.h5");
  Config config = common_config();
  config.num_layers = 1;
  config.hidden_size = 6;
  BOOST_TEST((file.info().config == config));
  const Progress progress{.epoch = 1,
                          .window = 26,
                          .step = 100,
                          .cross_entropy = 1089.3822641587558,
                          .history = {{1.0, 11.527620449984523, 7.626467972895326}}};
  BOOST_TEST((file.info().progress == progress));
  check_text(file);
  BOOST_TEST(file.digest() == "4864678e75d314adc39747b3027b7a03");
  BOOST_TEST(digest_of_tensors(file, "/parameters/") == "d0cce77e903c3753b471f5c56db2e624");
  BOOST_TEST(digest_of_tensors(file, "/state/") == "7b4dd73d0645274ab4142b0cae487417");
  BOOST_TEST(file.tensors().size() == 7u);
  const ExactClass exact_class = {
      {"program", "ptb_dist 0.1.0"},
      {"ranks", "1"},
      {"ranks per host", "1"},
      {"threads", "1"},
      {"backend", "cpu, fp32, loops avx512, oneDNN 2.6.3, avx512_core_amx"},
      {"all-reduce", "single"},
      {"MPI library", "Open MPI v4.1.4"}};
  BOOST_TEST((file.info().exact_class == exact_class));
}

BOOST_AUTO_TEST_CASE(with_dropout_and_lane_groups) {
  const CheckpointFile file(kFolder + "/dropout.h5");
  Config config = common_config();
  config.num_layers = 2;
  config.hidden_size = 5;
  config.keep_prob = 0.75;
  config.forget_bias = 0.5;
  config.lane_groups = 2;
  config.seed = 9'007'199'254'740'993;
  BOOST_TEST((file.info().config == config));
  const Progress progress{.epoch = 1,
                          .window = 26,
                          .step = 100,
                          .cross_entropy = 1283.7898538714644,
                          .history = {{1.0, 13.387738201691285, 13.035441707695787}}};
  BOOST_TEST((file.info().progress == progress));
  check_text(file);
  BOOST_TEST(file.digest() == "c7d1daf9ab99153414f3c10b2e824d16");
  BOOST_TEST(digest_of_tensors(file, "/parameters/") == "4a58d14279a0412314b5ded1e6ec4b7e");
  BOOST_TEST(digest_of_tensors(file, "/state/") == "3b822d4cfd874e9d396ae61a681dae04");
  BOOST_TEST(file.tensors().size() == 11u);
}

BOOST_AUTO_TEST_SUITE_END()
