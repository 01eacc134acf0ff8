// The synthetic source: pinned text, and an entropy rate that its own text agrees with.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "ptb_dist/data/corpus.hpp"

namespace ptb {
namespace {

using Ids = std::vector<std::int32_t>;

// The source by its definition (src/data/synthetic.cpp), as one matrix-free table: no closed form.
class PlainSource {
 public:
  explicit PlainSource(int words) : words_(words) {
    while ((classes_ + 1) * (classes_ + 1) <= words) ++classes_;
    for (int r = 0; r < words; ++r) total_ += 1.0 / (r + 1);
    class_sum_.assign(static_cast<std::size_t>(classes_), 0.0);
    for (int r = 0; r < words; ++r) class_sum_[static_cast<std::size_t>(r % classes_)] += zipf(r);
  }
  double zipf(int r) const { return 1.0 / (r + 1) / total_; }
  double probability(int next, int last) const {
    const double of_class = class_sum_[static_cast<std::size_t>(last % classes_)];
    const bool stays = next % classes_ == last % classes_;
    return 0.25 * zipf(next) + (stays ? 0.75 * zipf(next) / of_class : 0.0);
  }
  int words() const { return words_; }

 private:
  int words_;
  int classes_ = 1;
  double total_ = 0;
  std::vector<double> class_sum_;
};

// Place of an id's word in the source: <unk> is 0, "w0017" is 16.
int source_word(const Corpus& corpus, std::int32_t id) {
  const std::string& word = corpus.words[static_cast<std::size_t>(id)];
  return word == "<unk>" ? 0 : std::stoi(word.substr(1)) - 1;
}

// Costs -log p of each word after the first.
std::vector<double> costs(const Corpus& corpus, Split split, bool with_context) {
  const PlainSource source(static_cast<int>(corpus.words.size()));
  const Ids& tokens = corpus.split(split);
  std::vector<double> result;
  for (std::size_t i = 1; i < tokens.size(); ++i) {
    const int next = source_word(corpus, tokens[i]);
    const int last = source_word(corpus, tokens[i - 1]);
    result.push_back(-std::log(with_context ? source.probability(next, last) : source.zipf(next)));
  }
  return result;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Standard error of a mean, from 100 batches in a row: neighbours are correlated.
double standard_error(const std::vector<double>& values) {
  constexpr std::size_t kBatches = 100;
  const auto length = static_cast<std::ptrdiff_t>(values.size() / kBatches);
  const double centre = mean(values);
  double squares = 0;
  for (std::size_t b = 0; b < kBatches; ++b) {
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(b) * length;
    const double difference =
        std::accumulate(begin, begin + length, 0.0) / static_cast<double>(length) - centre;
    squares += difference * difference;
  }
  return std::sqrt(squares / (kBatches - 1) / kBatches);
}

BOOST_AUTO_TEST_CASE(default_shape_is_that_of_ptb) {
  const Corpus corpus = synthetic_corpus();
  BOOST_TEST(corpus.words.size() == 10'000u);
  BOOST_TEST(corpus.split(Split::train).size() == 929'589u);
  BOOST_TEST(corpus.split(Split::valid).size() == 73'760u);
  BOOST_TEST(corpus.split(Split::test).size() == 82'430u);
  for (const std::int64_t unknown : corpus.unknown) BOOST_TEST(unknown == 0);

  // Valid text under the true source costs the entropy rate; without context far more.
  for (const Split split : {Split::train, Split::valid, Split::test}) {
    const std::vector<double> with_context = costs(corpus, split, true);
    const double bound = std::log(corpus.perplexity_bound.value());
    BOOST_TEST(std::abs(mean(with_context) - bound) < 3 * standard_error(with_context));
    BOOST_TEST(mean(costs(corpus, split, false)) > bound + 2.5);
  }
  BOOST_TEST(corpus.perplexity_bound.value() == 51.0559, boost::test_tools::tolerance(1e-6));
}

BOOST_AUTO_TEST_CASE(bound_is_the_entropy_rate_summed_in_full) {
  for (const int words : {1, 2, 3, 4, 10, 50, 200}) {
    const PlainSource source(words);
    // The stationary distribution, by following the chain from anywhere: it forgets by 3/4 a step.
    std::vector<double> now(static_cast<std::size_t>(words), 0.0), then;
    now.back() = 1;
    for (int step = 0; step < 150; ++step) {
      then.assign(now.size(), 0.0);
      for (int a = 0; a < words; ++a) {
        for (int b = 0; b < words; ++b) {
          then[static_cast<std::size_t>(b)] +=
              now[static_cast<std::size_t>(a)] * source.probability(b, a);
        }
      }
      now = then;
    }
    double entropy = 0;
    for (int a = 0; a < words; ++a) {
      for (int b = 0; b < words; ++b) {
        const double p = source.probability(b, a);
        entropy -= now[static_cast<std::size_t>(a)] * p * std::log(p);
      }
    }
    BOOST_TEST(synthetic_corpus(100, words).perplexity_bound.value() == std::exp(entropy),
               boost::test_tools::tolerance(1e-12));
  }
}

// Pins the source itself: the counter packing, the order of draws and the names of words. A script
// with its own Philox gave the same words.
BOOST_AUTO_TEST_CASE(text_is_pinned) {
  const Corpus corpus = synthetic_corpus(2'000, 50);
  const auto first_words = [&](Split split) {
    std::string text;
    for (std::size_t i = 0; i < 12; ++i) {
      text += corpus.words[static_cast<std::size_t>(corpus.split(split)[i])] + " ";
    }
    return text;
  };
  BOOST_TEST(first_words(Split::train) == "<unk> w05 w03 w10 w03 w32 w41 w41 w41 w08 <unk> <unk> ");
  BOOST_TEST(first_words(Split::valid) ==
             "<unk> w08 <unk> <unk> <unk> w12 w03 <unk> <unk> <unk> <unk> <unk> ");
  BOOST_TEST(first_words(Split::test) ==
             "<unk> <unk> <unk> <unk> w36 w08 <unk> <unk> <unk> <unk> <unk> <unk> ");
  BOOST_TEST(corpus.split(Split::valid).size() == 158u);  // 2,000 · 73,760 / 929,589
  BOOST_TEST(corpus.split(Split::test).size() == 177u);
}

BOOST_AUTO_TEST_CASE(a_shorter_text_is_the_beginning_of_a_longer_one) {
  const Corpus less = synthetic_corpus(1'000, 20);
  const Corpus more = synthetic_corpus(5'000, 20);
  for (std::size_t i = 0; i < 1'000; ++i) {
    BOOST_REQUIRE(less.words[static_cast<std::size_t>(less.tokens[0][i])] ==
                  more.words[static_cast<std::size_t>(more.tokens[0][i])]);
  }
}

BOOST_AUTO_TEST_CASE(vocabulary_follows_the_rule_of_the_reader) {
  const Corpus corpus = synthetic_corpus(3'000, 1'000);  // too short for some of the words
  BOOST_TEST(corpus.words.size() < 1'000u);
  std::vector<std::int64_t> counts(corpus.words.size(), 0);
  for (const std::int32_t id : corpus.split(Split::train)) ++counts[static_cast<std::size_t>(id)];
  BOOST_TEST(counts.back() > 0);
  for (std::size_t id = 1; id < counts.size(); ++id) {
    BOOST_TEST((counts[id - 1] > counts[id] ||
                (counts[id - 1] == counts[id] && corpus.words[id - 1] < corpus.words[id])));
  }
  BOOST_TEST(corpus.unknown[0] == 0);
  BOOST_TEST(corpus.unknown[1] > 0);
  const auto unk = std::find(corpus.words.begin(), corpus.words.end(), "<unk>");
  BOOST_REQUIRE((unk != corpus.words.end()));
  const auto& valid = corpus.split(Split::valid);
  BOOST_TEST(std::count(valid.begin(), valid.end(), unk - corpus.words.begin()) >=
             corpus.unknown[1]);
}

BOOST_AUTO_TEST_CASE(smallest_sizes_work) {
  for (const int words : {1, 2, 3, 10'000}) {
    const Corpus corpus = synthetic_corpus(100, words);
    BOOST_TEST(corpus.words.size() >= 1u);
    BOOST_TEST(corpus.words.size() <= static_cast<std::size_t>(words));
    BOOST_TEST(corpus.split(Split::train).size() == 100u);
    BOOST_TEST(corpus.split(Split::valid).size() == 7u);
  }
}

}  // namespace
}  // namespace ptb
