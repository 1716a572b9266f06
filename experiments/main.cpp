// The `surgeon` program: its words to surgeon_command.
#include <stdlib.h>
#include <unistd.h>

#include <csignal>
#include <iostream>

#include "experiments/list.hpp"

namespace {

// A thread of GNU's OpenMP that waits spins for milliseconds. Where the cores are shared, the one it waits for gets
// none meanwhile: small models then train ten times slower. The runtime reads its variables before main, so start once
// more.
void spin_less(char** words) {
  if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
  setenv("GOMP_SPINCOUNT", "2000", 1);
  setenv("OPENBLAS_NUM_THREADS", "1", 1);   // it is held at one anyhow: so it starts none that spin
  execv("/proc/self/exe", words);   // should that fail, only speed is lost
}

}  // namespace

int main(int count, char** words) {
  spin_less(words);
  std::signal(SIGPIPE, SIG_IGN);   // a reader that goes away does not take the run's files with it
  return surgeon::surgeon_command(surgeon::all_experiments(), {words + 1, words + count}, std::cout, std::cerr);
}
