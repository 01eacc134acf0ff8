// A program whose last rank fails, to see from outside that the whole job ends, and how.
//
//   mpirun -np 3 session_driver lost_peer   the last rank never comes: 70 from the others' deadline
//   mpirun -np 3 session_driver unwinding   its exception passes its Session: 70
//   mpirun -np 3 session_driver abort       it alone ends the job: 65
//   mpirun -np 3 session_driver on_root     an error that all agree on: 74
//   SLURM_STEP_NUM_TASKS=4 session_driver on_root   1 of 4 that do not know each other: 2
#include <chrono>
#include <iostream>
#include <string>
#include <thread>

#include "ptb_dist/comm/session.hpp"

namespace {

using namespace ptb;

int run(Session& session, const std::string& mode) {
  session.set_timeout(std::chrono::seconds(1));
  const bool fails = session.rank() == session.size() - 1;
  if (mode == "on_root") {
    session.on_root([] { throw Error(ExitCode::io, Complaint{.what = "disk full"}); });
  }
  if (fails && mode == "lost_peer") std::this_thread::sleep_for(std::chrono::minutes(5));
  if (fails && mode == "unwinding") throw std::string("an exception of another kind");
  if (fails && mode == "abort") session.abort(ExitCode::bad_data);
  std::string text = "for everyone";
  if (mode != "lost_peer") session.set_timeout(std::chrono::minutes(5));
  session.gather(text);
  session.broadcast(text);
  return 0;
}

int run_in_session(int argc, char** argv) {
  Session session(&argc, &argv);
  try {
    return run(session, argc > 1 ? argv[1] : "");
  } catch (const AgreedError& error) {
    if (session.is_root()) std::cerr << error.what() << '\n';
    return static_cast<int>(error.code());
  } catch (const Error& error) {
    std::cerr << error.what() << '\n';
    session.abort(error.code());
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run_in_session(argc, argv);
  } catch (const Error& error) {
    std::cerr << error.what() << '\n';
    return static_cast<int>(error.code());
  } catch (const std::string&) {
    return 1;
  }
}
