// Options: from text to the variables of an experiment. Lists, ranges, limits, and one clear line when text is wrong.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <type_traits>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "experiments/lab/text.hpp"

namespace surgeon {
namespace {

constexpr std::size_t longest_list = 100000;

template <class T> constexpr const char* kind = std::is_same_v<T, std::int64_t> ? "a whole number" : "a number";

template <class T>
T parse_number(const std::string& name, const std::string& text) {
  T value{};
  const char* begin = text.c_str() + (text.size() > 1 && text[0] == '+' ? 1 : 0);
  const char* end = text.c_str() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, value);
  if (error == std::errc::result_out_of_range) {
    const bool small = std::is_floating_point_v<T> && std::abs(std::strtod(begin, nullptr)) < 1;
    throw UsageError(fmt::format("{}: {} is {}", name, as_typed(text),
                                 small ? "so small that it would be read as 0" : "out of range"));
  }
  const bool read = error == std::errc() && stop == end && std::isfinite(double(value));
  if (!read) throw UsageError(fmt::format("{}: \"{}\" is not {}", name, as_typed(text), kind<T>));
  return value;
}

template <class T>
T checked(const std::string& name, T value, const Limits& limits) {
  const bool low = double(value) < limits.low, high = double(value) > limits.high;
  if (low) throw UsageError(fmt::format("{} must be at least {}, not {}", name, limits.low, value));
  if (high) throw UsageError(fmt::format("{} must be at most {}, not {}", name, limits.high, value));
  return value;
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts{""};
  for (char c : text)
    if (c == at) parts.emplace_back();
    else parts.back() += c;
  for (std::string& part : parts) {
    part.erase(0, std::min(part.find_first_not_of(' '), part.size()));
    part.erase(part.find_last_not_of(' ') + 1);
  }
  return parts;
}

// 16:4096:x4 multiplies, 0.1:0.5:0.1 adds; both ends belong to it.
template <class T>
std::vector<T> expand(const std::string& name, const std::string& text) {
  const std::vector<std::string> parts = split(text, ':');
  if (parts.size() == 1) return {parse_number<T>(name, text)};
  const bool empty = std::any_of(parts.begin(), parts.end(), [](const auto& part) { return part.empty(); });
  if (parts.size() > 3 || empty || parts.back() == "x")
    throw UsageError(fmt::format("{}: \"{}\" is not a range{}; write first:last, first:last:step or "
                                 "first:last:xfactor", name, as_typed(text),
                                 parts.size() > 3 ? "" : empty ? ": a part is empty" : ": no factor follows the x"));
  const bool multiply = parts.size() == 3 && parts[2].starts_with("x");
  const double first = double(parse_number<T>(name, parts[0])), last = double(parse_number<T>(name, parts[1]));
  const double step = parts.size() == 2 ? 1 : parse_number<double>(name, parts[2].substr(multiply ? 1 : 0));
  const bool up = multiply ? step > 1 : step > 0;
  const bool moves = multiply ? first > 0 && step > 0 && step != 1 : step != 0;
  if (!moves || (up ? last < first : last > first))
    throw UsageError(fmt::format("{}: the range {} never reaches its end", name, as_typed(text)));
  const double slack = multiply ? std::abs(last) * 1e-9 : std::abs(step) * 1e-9;
  std::vector<T> values;
  for (std::size_t i = 0;; ++i) {
    const double raw = multiply ? first * std::pow(step, double(i)) : first + double(i) * step;
    if (up ? raw > last + slack : raw < last - slack) return values;
    if (i == longest_list)
      throw UsageError(fmt::format("{}: the range {} has more than {} values", name, as_typed(text), longest_list));
    if constexpr (std::is_same_v<T, double>)
      values.push_back(parse_number<double>(name, fmt::format("{:.12g}", raw)));   // 0.3, not 0.30000000000000004
    else values.push_back(std::llround(raw));
  }
}

template <class T>
std::vector<T> parse_list(const std::string& name, const std::string& text, const Limits& limits) {
  std::vector<T> values;
  for (const std::string& part : split(text, ','))
    for (T value : expand<T>(name, part)) values.push_back(checked(name, value, limits));
  if (values.size() > longest_list) throw UsageError(fmt::format("{}: more than {} values", name, longest_list));
  return values;
}

void check_choice(const std::string& name, const std::string& text, const Limits& limits) {
  if (limits.choices.empty()) return;
  for (const std::string& choice : limits.choices)
    if (choice == text) return;
  throw UsageError(fmt::format("{} must be one of {}, not \"{}\"{}", name, fmt::join(limits.choices, ", "),
                               as_typed(text), did_you_mean(text, limits.choices)));
}

std::string as_json(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

Options::Entry& Options::entry(const std::string& name, const std::string& help, const Limits& limits) {
  Entry e;
  e.name = name;
  e.help = help;
  e.quick = limits.quick;
  e.required = limits.required;
  if (!limits.choices.empty()) e.help += fmt::format(" ({})", fmt::join(limits.choices, ", "));
  return entries_.emplace_back(std::move(e));
}

void Options::add(const std::string& name, bool& value, const std::string& help) {
  Entry& e = entry(name, help, {});
  e.is_switch = true;
  e.set = [name, &value](const std::string& text) {
    if (text != "true" && text != "false")
      throw UsageError(fmt::format("{} must be true or false, not \"{}\"", name, as_typed(text)));
    value = text == "true";
  };
  e.json = e.text = [&value] { return std::string(value ? "true" : "false"); };
}

void Options::add(const std::string& name, std::int64_t& value, const std::string& help, const Limits& limits) {
  Entry& e = entry(name, help, limits);
  e.set = [=, &value](const std::string& text) {
    value = checked(name, parse_number<std::int64_t>(name, text), limits);
  };
  e.json = e.text = [&value] { return fmt::format("{}", value); };
}

void Options::add(const std::string& name, double& value, const std::string& help, const Limits& limits) {
  Entry& e = entry(name, help, limits);
  e.set = [=, &value](const std::string& text) { value = checked(name, parse_number<double>(name, text), limits); };
  e.json = [&value] { return as_json(value); };
  e.text = [&value] { return fmt::format("{}", value); };
}

void Options::add(const std::string& name, std::string& value, const std::string& help, const Limits& limits) {
  Entry& e = entry(name, help, limits);
  e.set = [=, &value](const std::string& text) {
    check_choice(name, text, limits);
    value = text;
  };
  e.json = [&value] { return as_json(value); };
  e.text = [&value] { return value; };
}

void Options::add(const std::string& name, std::vector<std::int64_t>& values, const std::string& help,
                  const Limits& limits) {
  Entry& e = entry(name, help, limits);
  e.set = [=, &values](const std::string& text) { values = parse_list<std::int64_t>(name, text, limits); };
  e.json = [&values] { return as_json(values); };
  e.text = [&values] { return fmt::format("{}", fmt::join(values, ",")); };
}

void Options::add(const std::string& name, std::vector<double>& values, const std::string& help, const Limits& limits) {
  Entry& e = entry(name, help, limits);
  e.set = [=, &values](const std::string& text) { values = parse_list<double>(name, text, limits); };
  e.json = [&values] { return as_json(values); };
  e.text = [&values] { return fmt::format("{}", fmt::join(values, ",")); };
}

void Options::add(const std::string& name, std::vector<std::string>& values, const std::string& help,
                  const Limits& limits) {
  Entry& e = entry(name, help, limits);
  e.set = [=, &values](const std::string& text) {
    std::vector<std::string> parts = split(text, ',');
    for (const std::string& part : parts) {
      if (part.empty()) throw UsageError(fmt::format("{}: \"{}\" has an empty entry", name, as_typed(text)));
      check_choice(name, part, limits);
    }
    values = std::move(parts);
  };
  e.json = [&values] { return as_json(values); };
  e.text = [&values] { return fmt::format("{}", fmt::join(values, ",")); };
}

void Options::before_check(std::function<void()> act) { before_check_.push_back(std::move(act)); }

void Options::require(std::function<bool()> holds, const std::string& otherwise) {
  required_.emplace_back(std::move(holds), otherwise);
}

void Options::check() {
  for (const Entry& e : entries_)
    if (e.required && !e.given) throw UsageError(e.name + " is missing");
  for (const auto& act : before_check_) act();
  for (const auto& [holds, otherwise] : required_)
    if (!holds()) throw UsageError(otherwise);
}

}  // namespace surgeon
