// What --help, list and --version print, in 80 columns.
#pragma once

#include <string>
#include <vector>

#include "experiments/lab/session.hpp"

namespace surgeon {

std::string help_of(const Program& program, const Experiment& e, Options& own, Options& common, const Paint& paint);
std::string general_help(const Program& program, Options& common, const Paint& paint);
std::string list_text(const Program& program, const Paint& paint);
std::string list_json(const Program& program);
std::string version_text(const Program& program);

}  // namespace surgeon
