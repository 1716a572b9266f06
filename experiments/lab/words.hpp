// The words of a command line, and what they set.
#pragma once

#include <string>
#include <vector>

#include "experiments/lab/session.hpp"

namespace surgeon {

using Words = std::vector<std::string>;
struct Given { Options::Entry* entry; std::string text; };   // an option and what was given for it

// The command line as one could type it again, in quotes where it needs them.
std::string typed_line(const Program& program, const std::string& first, const Words& rest);
void add_common(Options& o, Settings& s, bool with_seeds);
Words names_of(const std::vector<Options*>& all);
Words names_of(const Program& program);   // of its experiments
std::vector<Given> read_words(const std::vector<Options*>& all, const Words& words);
// Later wins: default, quick preset, the file's top, the file's [experiment], command line. UsageError in one line.
void set_all(const std::vector<Options*>& all, Settings& settings, const Words& words, const std::string& experiment,
             const Words& experiments);
Json values_of(const std::vector<Options*>& all);   // what makes the numbers: all options but those of the terminal

}  // namespace surgeon
