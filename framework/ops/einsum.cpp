// einsum: letters to axes, then one matrix product for each operand after the first.
#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "framework/errors.hpp"
#include "framework/ops.hpp"
#include "framework/ops/common.hpp"

namespace surgeon {

using namespace ops;

namespace {

using Labels = std::string;   // one character for each axis: a letter, or '0', '1', ... for those of an ellipsis

struct Operand {
  Tensor x;
  Labels labels;
};

bool has(const Labels& labels, char c) { return labels.find(c) != Labels::npos; }

struct Spec {
  std::vector<Labels> inputs;
  Labels output;
  bool explicit_output = false;
};

[[noreturn]] void refuse(std::string_view spec, const std::string& why) {
  throw std::invalid_argument(sentence("einsum: \"", spec, "\": ", why));
}

Spec parsed(const std::string& spec) {
  std::string text;
  for (const char c : spec)
    if (c != ' ') text += c;
  Spec result;
  const std::size_t arrow = text.find("->");
  std::string left = text.substr(0, arrow);
  if ((result.explicit_output = arrow != std::string::npos)) result.output = text.substr(arrow + 2);
  for (std::size_t start = 0; start <= left.size();) {
    const std::size_t comma = std::min(left.find(',', start), left.size());
    result.inputs.push_back(left.substr(start, comma - start));
    start = comma + 1;
  }
  const auto check = [&](const Labels& labels) {
    const std::size_t dots = labels.find("...");
    Labels rest = labels;
    if (dots != Labels::npos) rest.erase(dots, 3);
    for (const char c : rest)
      if (!std::isalpha(static_cast<unsigned char>(c))) refuse(spec, std::string("'") + c + "' is not a letter");
  };
  for (const Labels& labels : result.inputs) check(labels);
  check(result.output);
  return result;
}

// "..." becomes the last `many` of the digits that stand for the ellipsis' axes.
Labels expanded(const Labels& labels, std::size_t many, std::size_t most) {
  const std::size_t dots = labels.find("...");
  if (dots == Labels::npos) return labels;
  Labels digits;
  for (std::size_t i = most - many; i < most; ++i) digits += char('0' + i);
  return Labels(labels).replace(dots, 3, digits);
}

// Of a label that occurs twice only the diagonal counts.
Operand without_repeats(Operand operand) {
  for (std::size_t i = 0; i < operand.labels.size(); ++i) {
    const std::size_t j = operand.labels.find(operand.labels[i], i + 1);
    if (j == Labels::npos) continue;
    operand = {diagonal(operand.x, int(i), int(j)), Labels(operand.labels).erase(j, 1).erase(i, 1) + operand.labels[i]};
    i = std::size_t(-1);   // from the start again: the axes have moved
  }
  return operand;
}

Operand in_order(const Operand& operand, const Labels& labels) {
  std::vector<int> order;
  for (const char c : labels) order.push_back(int(operand.labels.find(c)));
  const bool same = labels == operand.labels;
  return {same ? operand.x : permute(operand.x, order), labels};
}

Operand summed_to(const Operand& operand, const Labels& kept) {
  std::vector<int> axes;
  Labels labels;
  for (std::size_t i = 0; i < operand.labels.size(); ++i) {
    if (has(kept, operand.labels[i])) labels += operand.labels[i];
    else axes.push_back(int(i));
  }
  return axes.empty() ? operand : Operand{sum(operand.x, Over{axes}), labels};
}

// One product: labels of both that nobody needs any more are summed over.
Operand contracted(const Operand& a, const Operand& b, const Labels& needed) {
  Labels batch, inner, rows, columns;
  for (const char c : a.labels) (!has(b.labels, c) ? rows : has(needed, c) ? batch : inner) += c;
  for (const char c : b.labels)
    if (!has(a.labels, c)) columns += c;
  const Tensor left = in_order(a, batch + rows + inner).x, right = in_order(b, batch + inner + columns).x;
  const auto sizes = [](const Tensor& x, std::size_t from, std::size_t many) {
    return Shape(x.shape().begin() + std::ptrdiff_t(from), x.shape().begin() + std::ptrdiff_t(from + many));
  };
  const Shape batches = sizes(left, 0, batch.size()), tall = sizes(left, batch.size(), rows.size()),
              wide = sizes(right, batch.size() + inner.size(), columns.size());
  const Size B = count(batches), m = count(tall), k = count(sizes(right, batch.size(), inner.size())), n = count(wide);
  Shape shape = batches;
  shape.insert(shape.end(), tall.begin(), tall.end());
  shape.insert(shape.end(), wide.begin(), wide.end());
  return {reshape(matmul(reshape(left, {B, m, k}), reshape(right, {B, k, n})), shape), batch + rows + columns};
}

std::vector<Operand> operands_of(const std::string& text, Spec& spec, const std::vector<Tensor>& xs) {
  if (spec.inputs.size() != xs.size())
    refuse(text, sentence("names ", spec.inputs.size(), " operands, but ", xs.size(), " were given"));
  std::vector<std::size_t> many;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    require_floating("einsum", xs[i]);
    require_same_dtype("einsum", xs[0], xs[i]);
    const bool dots = has(spec.inputs[i], '.');
    const std::size_t letters = spec.inputs[i].size() - (dots ? 3 : 0), rank = std::size_t(xs[i].rank());
    if (dots ? letters > rank : letters != rank)
      refuse(text, sentence("operand ", i, " has ", letters, " letters for shape ", xs[i].shape()));
    many.push_back(dots ? rank - letters : 0);
  }
  const std::size_t most = *std::max_element(many.begin(), many.end());
  if (most > 10) refuse(text, "an ellipsis stands for more than 10 axes");
  std::map<char, int> times;
  std::vector<Operand> operands;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    operands.push_back({xs[i], expanded(spec.inputs[i], many[i], most)});
    for (const char c : operands.back().labels) ++times[c];
  }
  if (spec.explicit_output) {
    spec.output = expanded(spec.output, most, most);
  } else {   // the ellipsis, then the letters that occur once, in alphabetical order
    for (std::size_t i = 0; i < most; ++i) spec.output += char('0' + i);
    for (const auto& [c, n] : times)
      if (n == 1 && std::isalpha(static_cast<unsigned char>(c))) spec.output += c;
  }
  for (const char c : spec.output)
    if (!times.contains(c) || std::count(spec.output.begin(), spec.output.end(), c) > 1)
      refuse(text, std::string("the result's '") + c + (times.contains(c) ? "' occurs twice" : "' occurs in no operand"));
  return operands;
}

// Sizes of 1 are repeated to the label's size, so that every label has one size.
void broadcast_labels(const std::string& text, std::vector<Operand>& operands) {
  std::map<char, Size> sizes;
  for (const Operand& o : operands)
    for (std::size_t i = 0; i < o.labels.size(); ++i) {
      const auto [found, added] = sizes.try_emplace(o.labels[i], o.x.shape(int(i)));
      const Size size = o.x.shape(int(i));
      if (size != found->second && size != 1 && found->second != 1)
        refuse(text, sentence("'", o.labels[i], "' has sizes ", found->second, " and ", size));
      if (found->second == 1) found->second = size;
    }
  for (Operand& o : operands) {
    Shape shape;
    for (const char c : o.labels) shape.push_back(sizes.at(c));
    if (shape != o.x.shape()) o.x = broadcast_to(o.x, shape);
  }
}

}  // namespace

Tensor diagonal(const Tensor& x, int first, int second) {
  require_value("diagonal", x);
  const int a = checked_axis("diagonal", first, x.rank()), b = checked_axis("diagonal", second, x.rank());
  require(a != b && x.shape(a) == x.shape(b), "diagonal: axes ", first, " and ", second, " of ", x.shape(),
          " must be two axes of one size");
  const Size n = x.shape(a);
  std::vector<int> order;
  for (int axis = 0; axis < x.rank(); ++axis)
    if (axis != a && axis != b) order.push_back(axis);
  order.insert(order.end(), {a, b});
  const Tensor last = permute(x, order);
  Shape shape(last.shape().begin(), last.shape().end() - 2);
  shape.push_back(n * n);
  return slice(reshape(last, shape), -1, 0, to_end, n + 1);
}

Tensor einsum(const std::string& spec, const std::vector<Tensor>& operands) {
  require(!operands.empty(), "einsum: \"", spec, "\": no operands were given");
  Spec letters = parsed(spec);
  std::vector<Operand> parts = operands_of(spec, letters, operands);
  for (Operand& part : parts) part = without_repeats(part);
  broadcast_labels(spec, parts);
  Operand result = parts.front();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    Labels needed = letters.output;
    for (std::size_t k = i + 1; k < parts.size(); ++k) needed += parts[k].labels;
    if (i == 0) result = summed_to(result, needed);
    else result = contracted(result, summed_to(parts[i], needed + result.labels), needed);
    result = summed_to(result, needed);
  }
  return in_order(result, letters.output).x;
}

}  // namespace surgeon
