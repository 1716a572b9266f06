// The `surgeon` program: its words to surgeon_command.
#include <iostream>

#include "experiments/list.hpp"

int main(int count, char** words) {
  return surgeon::surgeon_command(surgeon::all_experiments(), {words + 1, words + count}, std::cout, std::cerr);
}
