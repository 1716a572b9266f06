// A tensor as text, laid out as NumPy prints arrays: eight digits at most, 75 columns, and only the edges of more than a
// thousand numbers.
#include "framework/print.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ostream>
#include <string>
#include <vector>

#include "framework/detail/node.hpp"

namespace surgeon {
namespace {

constexpr std::int64_t threshold = 1000, edge = 3;
constexpr std::size_t line_width = 75;
constexpr int precision = 8;   // digits after the point, at most

// The fewest digits that read back as the same number of its own type.
template <class T>
std::string shortest(T x, std::chars_format format) {
  char text[400];
  const auto done = std::to_chars(text, text + sizeof text, x, format);
  return {text, done.ptr};
}

std::string rounded(const char* format, double x) {
  char text[400];
  return {text, std::size_t(std::snprintf(text, sizeof text, format, precision, x))};
}

// "12.", "0.25": no zeros at the end, always a point.
std::string trimmed(std::string digits) {
  if (digits.find('.') == std::string::npos) return digits + '.';
  digits.erase(digits.find_last_not_of('0') + 1);
  return digits;
}

// The shortest digits with the point where it belongs; to_chars would write a large number out exactly.
template <class T>
std::string written_out(T x) {
  const std::string text = shortest(x, std::chars_format::scientific);
  const std::size_t e = text.find('e'), first = x < 0 || std::signbit(x);
  const int exponent = std::stoi(text.substr(e + 1));
  std::string digits = text.substr(first, e - first);
  std::erase(digits, '.');
  if (exponent < 0) digits.insert(0, std::size_t(-exponent), '0');
  const std::size_t whole = std::size_t(std::max(exponent, 0)) + 1;
  if (digits.size() < whole) digits.append(whole - digits.size(), '0');
  return (first ? "-" : "") + digits.insert(whole, ".");
}

template <class T>
std::string positional(T x) {
  const std::string text = trimmed(written_out(x));
  const std::size_t decimals = text.size() - text.find('.') - 1;
  return decimals <= precision ? text : trimmed(rounded("%.*f", double(x)));
}

struct Scientific {
  std::string digits, exponent;   // "1.25", "e-05"
};
template <class T>
Scientific scientific(T x) {
  std::string text = shortest(x, std::chars_format::scientific);
  std::size_t e = text.find('e');
  if (e > precision + std::size_t(x < 0) + 2) text = rounded("%.*e", double(x)), e = text.find('e');
  return {trimmed(text.substr(0, e)), text.substr(e)};
}

// How the numbers of one tensor are written, all to the same width.
template <class T>
class Writer {
 public:
  explicit Writer(const std::vector<T>& values) {
    double largest = 0, smallest = INFINITY;
    for (const T x : values) {
      if (!std::isfinite(x)) continue;
      if (x != 0) largest = std::max(largest, std::abs(double(x))), smallest = std::min(smallest, std::abs(double(x)));
    }
    exponents_ = largest >= 1e8 || (largest > 0 && (smallest < 1e-4 || largest / smallest > 1000));
    for (const T x : values)
      if (std::isfinite(x)) measure(x);
    for (const T x : values) {
      if (std::isfinite(x)) continue;
      const std::size_t length = not_finite(x).size(), offset = right_ + 1;
      left_ = std::max(left_, length > offset ? length - offset : 0);
    }
  }

  std::string operator()(T x) const {
    if (!std::isfinite(x)) return padded(not_finite(x), left_ + right_ + 1);
    if (exponents_) {
      Scientific parts = scientific(x);
      const std::size_t point = parts.digits.find('.');
      parts.digits.append(decimals_ - (parts.digits.size() - point - 1), '0');
      parts.exponent.insert(2, exponent_ - parts.exponent.size(), '0');   // after "e-"
      return std::string(left_ - point, ' ') + parts.digits + parts.exponent;
    }
    const std::string text = positional(x);
    const std::size_t point = text.find('.');
    return std::string(left_ - point, ' ') + text + std::string(right_ - (text.size() - point - 1), ' ');
  }

 private:
  static std::string not_finite(T x) { return std::isnan(x) ? "nan" : x < 0 ? "-inf" : "inf"; }
  static std::string padded(const std::string& text, std::size_t width) {
    return std::string(width > text.size() ? width - text.size() : 0, ' ') + text;
  }
  void measure(T x) {
    const std::string text = exponents_ ? scientific(x).digits : positional(x);
    const std::size_t point = text.find('.');
    left_ = std::max(left_, point);
    decimals_ = std::max(decimals_, text.size() - point - 1);
    exponent_ = std::max(exponent_, exponents_ ? scientific(x).exponent.size() : 0);
    right_ = decimals_ + exponent_;
  }

  bool exponents_ = false;
  std::size_t left_ = 0, right_ = 0;          // characters before and after the point
  std::size_t decimals_ = 0, exponent_ = 0;   // of those after it
};

template <>
class Writer<std::int64_t> {
 public:
  explicit Writer(const std::vector<std::int64_t>& values) {
    for (const std::int64_t x : values) width_ = std::max(width_, std::to_string(x).size());
  }
  std::string operator()(std::int64_t x) const {
    const std::string text = std::to_string(x);
    return std::string(width_ - text.size(), ' ') + text;
  }

 private:
  std::size_t width_ = 0;
};

template <>
class Writer<bool> {
 public:
  explicit Writer(const std::vector<bool>&) {}
  std::string operator()(bool x) const { return x ? " True" : "False"; }
};

// The places shown along an axis; -1 stands for those left out.
std::vector<std::int64_t> shown(std::int64_t n, bool all) {
  std::vector<std::int64_t> places;
  for (std::int64_t i = 0; i < n; ++i) {
    if (all || n <= 2 * edge || i < edge || i >= n - edge) places.push_back(i);
    else if (i == edge) places.push_back(-1);
  }
  return places;
}

template <class T>
class Page {
 public:
  explicit Page(const Tensor& x) : x_(x), all_(x.size() <= threshold), writer_(values_shown()) {}

  std::string text(std::size_t axis = 0, std::int64_t offset = 0) const {
    const std::string indent(axis + 1, ' ');
    const std::size_t axes_left = x_.shape().size() - axis;
    return "[" + (axes_left == 1 ? numbers(axis, offset, indent) : blocks(axis, offset, indent)) + "]";
  }

 private:
  std::vector<T> values_shown(std::size_t axis = 0, std::int64_t offset = 0) const {
    if (axis == x_.shape().size()) return {detail::data<T>(x_)[offset]};
    std::vector<T> values;
    for (const std::int64_t i : shown(x_.shape()[axis], all_)) {
      if (i < 0) continue;
      const std::vector<T> inner = values_shown(axis + 1, offset * x_.shape()[axis] + i);
      values.insert(values.end(), inner.begin(), inner.end());
    }
    return values;
  }

  std::string numbers(std::size_t axis, std::int64_t offset, const std::string& indent) const {
    const std::size_t width = line_width - axis - 1;   // the brackets still to come
    std::string text, line = indent;
    for (const std::int64_t i : shown(x_.shape()[axis], all_)) {
      const std::string word = i < 0 ? "..." : writer_(detail::data<T>(x_)[offset * x_.shape()[axis] + i]);
      if (line.size() + word.size() > width && line.size() > indent.size()) {
        text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
        line = indent;
      }
      line += word + " ";
    }
    text += line.substr(0, line.size() - 1);
    return text.substr(indent.size());
  }

  std::string blocks(std::size_t axis, std::int64_t offset, const std::string& indent) const {
    std::string text;
    for (const std::int64_t i : shown(x_.shape()[axis], all_)) {
      if (!text.empty()) text += std::string(x_.shape().size() - axis - 1, '\n') + indent;
      text += i < 0 ? "..." : this->text(axis + 1, offset * x_.shape()[axis] + i);
    }
    return text;
  }

  const Tensor& x_;
  bool all_;
  Writer<T> writer_;
};

template <class T>
std::string scalar_text(T x) {
  if constexpr (std::is_same_v<T, bool>) return x ? "True" : "False";
  else if constexpr (std::is_integral_v<T>) return std::to_string(x);
  else {
    if (std::isnan(x)) return "nan";
    if (std::isinf(x)) return x < 0 ? "-inf" : "inf";
    if (x != 0 && (std::abs(double(x)) >= 1e16 || std::abs(double(x)) < 1e-4)) return shortest(x, std::chars_format::scientific);
    const std::string text = trimmed(written_out(x));
    return text.back() == '.' ? text + '0' : text;
  }
}

}  // namespace

std::string to_string(const Tensor& x) {
  if (x.empty()) return "(empty tensor)";
  if (x.size() == 0) return "[]";
  return detail::visit_dtype(x.dtype(), [&]<class T>(T) {
    return x.rank() == 0 ? scalar_text(detail::data<T>(x)[0]) : Page<T>(x).text();
  });
}

std::ostream& operator<<(std::ostream& out, const Tensor& x) { return out << to_string(x); }

}  // namespace surgeon
