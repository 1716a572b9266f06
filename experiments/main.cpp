// The `surgeon` program: hands its arguments to surgeon_command.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <iostream>
#include <new>

#include "experiments/list.hpp"

namespace {

// Where stdin, stdout or stderr is closed, the next file that is opened would take its number, and our words.
void open_standard_streams() {
  int descriptor = open("/dev/null", O_RDWR);
  while (descriptor >= 0 && descriptor <= 2) descriptor = open("/dev/null", O_RDWR);
  if (descriptor > 2) close(descriptor);
}

// A waiting thread of GNU's OpenMP spins for milliseconds. On shared cores it takes time from the very thread it waits
// for, and small models then train ten times slower. The runtime reads its variables before main, so start once more.
void spin_less(char** words) {
  if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
  setenv("GOMP_SPINCOUNT", "2000", 1);
  setenv("OPENBLAS_NUM_THREADS", "1", 1);   // we hold it at one anyhow; this way it starts no threads that spin
  execv("/proc/self/exe", words);   // if this fails, only speed is lost
}

}  // namespace

int main(int count, char** words) try {
  open_standard_streams();
  spin_less(words);
  std::signal(SIGPIPE, SIG_IGN);   // a reader that goes away must not end the run
  return surgeon::surgeon_command(surgeon::all_experiments(), {words + 1, words + count}, std::cout, std::cerr);
} catch (const std::bad_alloc&) {
  std::fputs("surgeon: out of memory\n", stderr);
  return 1;
}
