// What the measuring tools of this folder have in common: a command line, and how they end.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <string>

#include "ptb_dist/base/error.hpp"

namespace ptb::bench {

// Parses the command line into what `app` was told of, and measures. The exit status: 0, 2 for a
// wrong command line, or the code of the error that is thrown, whose lines go to standard error.
inline int run_tool(CLI::App& app, int argc, char** argv, const std::function<void()>& measure) {
  try {
    app.parse(argc, argv);
    measure();
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const Error& error) {
    for (const std::string& line : error.lines()) {
      std::fprintf(stderr, "%s: %s\n", app.get_name().c_str(), line.c_str());
    }
    return static_cast<int>(error.code());
  }
  return 0;
}

}  // namespace ptb::bench
