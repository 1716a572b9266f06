// Tensors by name into specimens: which tensor is what, and the order of its axes.
#pragma once

#include <string>
#include <vector>

#include "experiments/specimen_files.hpp"
#include "framework/parameters.hpp"

namespace surgeon {

// Whether a name, after its layer's, says that a tensor is a query: "Q", "layers.3.query".
bool has_queries(const Parameters& tensors);
std::string names_of_parts();   // for messages

// One specimen for each layer. layout: "auto", "BHTd" or "BTHd". ignored: a sentence for each tensor that is not used.
// UsageError for what the options would have to say.
std::vector<Specimen> specimens_of(const Parameters& tensors, const SpecimenFiles& files, const std::string& layout,
                                   std::vector<std::string>& ignored);

}  // namespace surgeon
