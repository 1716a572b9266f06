// The op table covers the vocabulary: each function that framework/ops.hpp declares has a row in tests/op_cases.cpp,
// unless its contract says "no gradient".
#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/folder.hpp"
#include "tests/op_cases.hpp"

namespace {

// The names of the functions declared in a header, but for those with "no gradient" on their line or in a comment above
// them; a blank line ends what a comment says.
std::set<std::string> differentiable(const std::string& header) {
  static const std::regex declaration(R"(^(?:inline )?Tensor (operator[^(]+|\w+)\()");
  std::set<std::string> names;
  bool no_gradient = false;
  std::istringstream lines(header);
  for (std::string line; std::getline(lines, line);) {
    const bool said = line.find("no gradient") != std::string::npos;
    if (line.empty()) no_gradient = false;
    if (line.starts_with("//")) no_gradient |= said;
    std::smatch found;
    if (std::regex_search(line, found, declaration) && !no_gradient && !said) names.insert(found[1]);
  }
  return names;
}

// Rows are called "matmul a^T [2, 3] x [3, 4]", "a + b [2] x [2]", "-x [3]".
bool has_row(const std::string& function, const std::vector<std::string>& rows) {
  const bool symbol = function.starts_with("operator");
  const std::string name = symbol ? function.substr(8) : function;
  return std::any_of(rows.begin(), rows.end(), [&](const std::string& row) {
    if (symbol) return row.find(" " + name + " ") != std::string::npos;
    const auto follows = row.size() > name.size() ? row[name.size()] : ' ';
    return row.starts_with(name) && !std::isalnum(static_cast<unsigned char>(follows)) && follows != '_';
  });
}

}  // namespace

TEST_SUITE("op_cases") {

TEST_CASE("op_cases: every op that ops.hpp declares with a gradient has a row") {
  std::vector<std::string> rows;
  for (const surgeon::tests::OpCase& row : surgeon::tests::op_cases()) rows.push_back(row.name);
  const auto ops = differentiable(surgeon::tests::read_bytes(surgeon::tests::source_folder() / "framework/ops.hpp"));
  CHECK(ops.size() > 50);
  for (const std::string& op : ops) CHECK_MESSAGE(has_row(op, rows), op, " has no row in tests/op_cases.cpp");
}

TEST_CASE("op_cases: the reader of declarations knows which have a gradient") {
  const std::set<std::string> expected = {"exp", "operator-", "gather"};
  CHECK(differentiable("Tensor exp(const Tensor& x);   // e^x\n"
                       "// A comparison; no gradient.\n"
                       "Tensor operator<(const Tensor& a, const Tensor& b);\n"
                       "inline Tensor operator>(double a, const Tensor& b) { return b < a; }\n"
                       "\n"
                       "Tensor operator-(const Tensor& x);\n"
                       "Tensor argmax(const Tensor& x, int axis);   // int64; no gradient\n"
                       "Tensor gather(const Tensor& x, int axis, const Tensor& index);\n") == expected);
}

TEST_CASE("op_cases: a row is found by its op's whole name") {
  const std::vector<std::string> rows = {"maximum [2]", "log_softmax 0 [2, 3]", "a - b [2] x [2]"};
  CHECK(has_row("maximum", rows));
  CHECK(has_row("log_softmax", rows));
  CHECK(has_row("operator-", rows));
  CHECK_FALSE(has_row("max", rows));
  CHECK_FALSE(has_row("softmax", rows));
  CHECK_FALSE(has_row("log", rows));
  CHECK_FALSE(has_row("operator+", rows));
}

}
