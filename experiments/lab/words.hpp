// The words of a command line, and what they set.
#pragma once

#include <string>
#include <vector>

#include "experiments/lab/session.hpp"

namespace surgeon {

using Words = std::vector<std::string>;
// An option, what was given for it, and where, for errors: "--config: FILE, line 3: ", or nothing when it was typed.
struct Given { Options::Entry* entry; std::string text; std::string where = {}; };

// The command line as one could type it again, in quotes where it needs them.
std::string typed_line(const Program& program, const std::string& first, const Words& rest);
void add_common(Options& o, Settings& s);   // those that mean something to each experiment
void add_seeds(Options& o, Settings& s);    // for all experiments together; each that has draws adds its own
Words names_of(const std::vector<Options*>& all);
Words names_of(const Program& program);   // of its experiments
std::vector<Given> read_words(const std::vector<Options*>& all, const Words& words);
// Later wins: default, quick preset, the file's top, the file's [experiment], command line. UsageError in one line.
void set_all(const std::vector<Options*>& all, Settings& settings, const Words& words, const std::string& experiment,
             const Program& program);
Json values_of(const std::vector<Options*>& all);   // what makes the numbers: all options but those of the terminal

}  // namespace surgeon
