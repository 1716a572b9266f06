// The `surgeon` program: its words to surgeon_command.
#include <csignal>
#include <iostream>

#include "experiments/list.hpp"

int main(int count, char** words) {
  std::signal(SIGPIPE, SIG_IGN);   // a reader that goes away does not take the run's files with it
  return surgeon::surgeon_command(surgeon::all_experiments(), {words + 1, words + count}, std::cout, std::cerr);
}
