#include "framework/serialize/pickle.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "framework/serialize/file.hpp"

namespace surgeon::detail::pickle {
namespace {

constexpr std::size_t most_values = 4'000'000;

bool is_known(std::string_view global) {
  constexpr std::string_view known[] = {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2",
                                        "torch._utils._rebuild_parameter", "torch.Size", "torch.device"};
  if (std::find(std::begin(known), std::end(known), global) != std::end(known)) return true;
  if (!global.starts_with("torch.") || global.find('.', 6) != std::string_view::npos) return false;
  const std::string_view name = global.substr(6);   // torch.FloatStorage, torch.float32
  return name.ends_with("Storage") || name.starts_with("float") || name.starts_with("int") || name == "bfloat16" ||
         name == "bool" || name == "uint8";
}

}  // namespace

// One pass over the opcodes, as Lib/pickletools.py describes them.
struct Pickle::Reader {
  using Kind = Value::Kind;
  Pickle& pickle;
  const std::filesystem::path& path;
  std::string_view left;
  std::size_t made = 0;
  std::vector<Value> stack = {};
  std::vector<std::size_t> marks = {};
  std::unordered_map<std::uint64_t, Value> memo = {};

  [[noreturn]] void damaged() const { fail(path, "its pickle is damaged"); }

  std::string_view take(std::uint64_t bytes) {
    if (bytes > left.size()) damaged();
    const std::string_view taken = left.substr(0, bytes);
    left.remove_prefix(bytes);
    return taken;
  }
  template <class T> T number() {
    T x;
    std::memcpy(&x, take(sizeof x).data(), sizeof x);
    return x;
  }
  std::string_view line() {
    const std::size_t end = left.find('\n');
    if (end == std::string_view::npos) damaged();
    const std::string_view found = take(end);
    take(1);
    return found;
  }

  void push(const Value& value) {
    if (++made > most_values) fail(path, "its pickle makes more than ", most_values, " values");
    stack.push_back(value);
  }
  Value pop() {
    if (stack.size() <= (marks.empty() ? 0 : marks.back())) damaged();
    const Value value = stack.back();
    stack.pop_back();
    return value;
  }
  std::vector<Value> popped_to_mark() {
    if (marks.empty()) damaged();
    std::vector<Value> values(stack.begin() + std::ptrdiff_t(marks.back()), stack.end());
    stack.resize(marks.back());
    marks.pop_back();
    return values;
  }
  Value& top(Kind kind) {
    if (stack.size() <= (marks.empty() ? 0 : marks.back()) || stack.back().kind != kind) damaged();
    return stack.back();
  }
  Value container(Kind kind, std::vector<Value> values) {
    return {.kind = kind, .items = &pickle.containers_.emplace_back(std::move(values))};
  }
  void extend(Kind kind, const std::vector<Value>& values) {
    if (kind == Kind::dict && values.size() % 2) damaged();
    std::vector<Value>& items = *top(kind).items;
    items.insert(items.end(), values.begin(), values.end());
  }
  void push_tuple(std::size_t n) {
    std::vector<Value> values(n);
    for (std::size_t i = n; i-- > 0;) values[i] = pop();
    push(container(Kind::sequence, std::move(values)));
  }

  // ---- What opcodes do, by kind; false: not one of these -----------------------------------------------------------
  bool pushes_number(unsigned char op) {
    const auto integer = [&](std::int64_t x) { push({.kind = Kind::integer, .integer = x}); };
    switch (op) {
      case 'N': push({}); return true;
      case 0x88: case 0x89: push({.kind = Kind::boolean, .integer = op == 0x88}); return true;
      case 'J': integer(number<std::int32_t>()); return true;
      case 'K': integer(number<std::uint8_t>()); return true;
      case 'M': integer(number<std::uint16_t>()); return true;
      case 'G': take(8); push({.kind = Kind::real}); return true;   // nobody reads it
      case 0x8a: integer(long_integer(take(number<std::uint8_t>()))); return true;
      default: return false;
    }
  }
  // Little-endian, two's complement.
  std::int64_t long_integer(std::string_view bytes) const {
    if (bytes.size() > 8) fail(path, "its pickle holds an integer of more than 64 bits");
    std::uint64_t x = bytes.empty() || !(bytes.back() & 0x80) ? 0 : ~std::uint64_t{0};
    for (std::size_t i = bytes.size(); i-- > 0;) x = x << 8 | std::uint8_t(bytes[i]);
    return std::int64_t(x);
  }

  bool pushes_text(unsigned char op) {
    const auto text = [&](std::uint64_t bytes) { push({.kind = Kind::text, .text = take(bytes)}); };
    switch (op) {
      case 'X': case 'T': text(number<std::uint32_t>()); return true;
      case 'U': case 0x8c: text(number<std::uint8_t>()); return true;
      case 0x8d: text(number<std::uint64_t>()); return true;
      default: return false;
    }
  }

  bool builds_container(unsigned char op) {
    switch (op) {
      case '}': push(container(Kind::dict, {})); return true;
      case ']': case ')': push(container(Kind::sequence, {})); return true;
      case '(': marks.push_back(stack.size()); return true;
      case 't': case 'l': push(container(Kind::sequence, popped_to_mark())); return true;
      case 'd': {
        const std::vector<Value> values = popped_to_mark();
        push(container(Kind::dict, {}));
        extend(Kind::dict, values);
        return true;
      }
      case 0x85: case 0x86: case 0x87: push_tuple(op - 0x84u); return true;
      case 'a': { const Value x = pop(); extend(Kind::sequence, {x}); return true; }
      case 'e': extend(Kind::sequence, popped_to_mark()); return true;
      case 's': { const Value x = pop(), key = pop(); extend(Kind::dict, {key, x}); return true; }
      case 'u': extend(Kind::dict, popped_to_mark()); return true;
      case '0': pop(); return true;
      default: return false;
    }
  }

  bool uses_memo(unsigned char op) {
    const auto put = [&](std::uint64_t place) {
      if (stack.empty()) damaged();
      memo[place] = stack.back();
    };
    const auto get = [&](std::uint64_t place) {
      const auto found = memo.find(place);
      if (found == memo.end()) damaged();
      push(found->second);
    };
    switch (op) {
      case 'q': put(number<std::uint8_t>()); return true;
      case 'r': put(number<std::uint32_t>()); return true;
      case 0x94: put(memo.size()); return true;
      case 'h': get(number<std::uint8_t>()); return true;
      case 'j': get(number<std::uint32_t>()); return true;
      default: return false;
    }
  }

  // ---- What would run code in Python -------------------------------------------------------------------------------
  void push_global(std::string_view module, std::string_view name) {
    const std::string& global = pickle.names_.emplace_back(std::string(module) + "." + std::string(name));
    if (!is_known(global))
      fail(path, "asks for ", global, "; only tensors, and dicts and lists of them, are read, and no code is run. "
                 "Save a state_dict instead");
    push({.kind = Kind::global, .text = global});
  }

  Value called(const Value& function, const Value& arguments) {
    if (function.kind != Kind::global || arguments.kind != Kind::sequence) damaged();
    const std::vector<Value>& given = *arguments.items;
    const auto is = [&](std::size_t i, Kind kind) { return i < given.size() && given[i].kind == kind; };
    if (function.text == "torch._utils._rebuild_tensor_v2") {
      if (!is(0, Kind::storage) || !is(1, Kind::integer) || !is(2, Kind::sequence) || !is(3, Kind::sequence)) damaged();
      return {.kind = Kind::tensor, .items = arguments.items};
    }
    if (function.text == "torch._utils._rebuild_parameter") {
      if (!is(0, Kind::tensor)) damaged();
      return given[0];
    }
    if (function.text == "torch.Size" && is(0, Kind::sequence)) return given[0];
    if (function.text == "torch.device") return {};
    if (function.text != "collections.OrderedDict" || !given.empty()) damaged();
    return container(Kind::dict, {});
  }

  Value storage(const Value& id) {
    const std::vector<Value>* parts = id.kind == Kind::sequence ? id.items : nullptr;
    if (!parts || parts->size() < 5 || (*parts)[0].text != "storage" || (*parts)[1].kind != Kind::global ||
        (*parts)[2].kind != Kind::text || (*parts)[4].kind != Kind::integer)
      damaged();
    return {.kind = Kind::storage, .items = id.items};
  }

  bool would_run(unsigned char op) {
    switch (op) {
      case 'c': { const std::string_view module = line(); push_global(module, line()); return true; }
      case 0x93: {
        const Value name = pop(), module = pop();
        if (name.kind != Kind::text || module.kind != Kind::text) damaged();
        push_global(module.text, name.text);
        return true;
      }
      case 'R': { const Value arguments = pop(), function = pop(); push(called(function, arguments)); return true; }
      case 'b': pop(); top(Kind::dict); return true;   // attributes of an OrderedDict: PyTorch's versions of modules
      case 'Q': push(storage(pop())); return true;
      default: return false;
    }
  }

  void read() {
    for (;;) {
      const auto op = number<unsigned char>();
      if (op == '.') break;
      if (op == 0x80) take(1);        // the protocol
      else if (op == 0x95) take(8);   // the length of a frame
      else if (!pushes_number(op) && !pushes_text(op) && !builds_container(op) && !uses_memo(op) && !would_run(op))
        fail(path, "its pickle has the opcode ", int(op), ", which no tensor needs");
    }
    if (stack.size() != 1 || !marks.empty()) damaged();
    pickle.root_ = stack.back();
  }
};

Pickle::Pickle(const std::filesystem::path& path, std::string text) : text_(std::move(text)) {
  Reader{*this, path, text_}.read();
}

}  // namespace surgeon::detail::pickle
