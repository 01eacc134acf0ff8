// Writes the dropout masks that ptb_dist uses, so that another program can train under the same
// ones.
//
// Usage: ptb_dist_dropout_masks --seed N --keep-prob P --epoch E --windows W --num-layers L
//            --num-steps T --batch-size B --hidden-size H --output FILE
// FILE is u8 [W, L + 1 sites, T, B, H]: 1 where the unit is kept, windows 0..W-1 of the epoch; site
// 0 is the embedding's output, site l + 1 the output of LSTM layer l. parity_pytorch.py reads it.
// Exit status 0, or 2 for a wrong command line, 74 if the file cannot be written.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "ptb_dist/base/random.hpp"

namespace {

using Arguments = std::map<std::string, std::string>;

// Pairs of "--name value"; every name of the usage must be there.
Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    arguments[argv[i]] = argv[i + 1];
  }
  for (const char* name : {"--seed", "--keep-prob", "--epoch", "--windows", "--num-layers",
                           "--num-steps", "--batch-size", "--hidden-size", "--output"}) {
    if (!arguments.contains(name)) {
      throw std::invalid_argument(std::string("missing ") + name);
    }
  }
  return arguments;
}

// The mask [H] of one lane at one step, appended to `mask`.
void append_units(std::uint64_t seed, std::uint64_t threshold, const ptb::DropoutPosition& at,
                  std::uint32_t units, std::vector<char>& mask) {
  ptb::RandomBlock words{};
  for (std::uint32_t unit = 0; unit < units; ++unit) {
    if (unit % 4 == 0) {
      words = ptb::dropout_words(seed, at, unit / 4);
    }
    mask.push_back(words[unit % 4] < threshold ? 1 : 0);
  }
}

// The masks [L + 1, T, B, H] of one window.
std::vector<char> window_masks(const Arguments& arguments, std::uint32_t window) {
  const auto number = [&](const char* name) {
    return static_cast<std::uint32_t>(std::stoul(arguments.at(name)));
  };
  const std::uint64_t seed = std::stoull(arguments.at("--seed"));
  const std::uint64_t threshold = ptb::keep_threshold(std::stod(arguments.at("--keep-prob")));
  std::vector<char> mask;
  for (std::uint32_t site = 0; site <= number("--num-layers"); ++site) {
    for (std::uint32_t time = 0; time < number("--num-steps"); ++time) {
      for (std::uint32_t lane = 0; lane < number("--batch-size"); ++lane) {
        append_units(seed, threshold,
                     {.epoch = number("--epoch"),
                      .window = window,
                      .site = site,
                      .lane = lane,
                      .time = time},
                     number("--hidden-size"), mask);
      }
    }
  }
  return mask;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Arguments arguments = parse(argc, argv);
    std::ofstream file(arguments.at("--output"), std::ios::binary);
    const unsigned long windows = std::stoul(arguments.at("--windows"));
    for (std::uint32_t window = 0; window < windows; ++window) {
      const std::vector<char> mask = window_masks(arguments, window);
      file.write(mask.data(), static_cast<std::streamsize>(mask.size()));
    }
    file.close();
    if (!file) {
      std::fprintf(stderr, "ptb_dist_dropout_masks: cannot write %s\n",
                   arguments.at("--output").c_str());
      return 74;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ptb_dist_dropout_masks: %s\n", error.what());
    return 2;
  }
  return EXIT_SUCCESS;
}
