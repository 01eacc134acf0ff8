// How near a comparison came to its tolerance, told whether or not it passed: a tolerance that was
// reasoned without a device is judged by what the first one makes.
#pragma once

#include <string>

namespace ptb::test {

// Counts a comparison of the test case that runs now, of the backend of that name. When the program
// ends, standard output has a line for each pair: the comparison that was nearest to its tolerance,
// or beyond it. Tolerances of 0 are not in it.
void note_difference(const std::string& backend, double difference, double tolerance);

}  // namespace ptb::test
