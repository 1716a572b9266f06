// ONNX files: a reader of the protobuf wire format, and the walk through a model's nodes.
#include "tests/onnx/onnx.hpp"

#include <bit>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string_view>

namespace surgeon::tests::onnx {
namespace {

// One field of a message: a number (varint, fixed32, fixed64) or the bytes of a string, list or nested message.
struct Field {
  std::uint32_t id = 0;
  std::uint64_t number = 0;
  std::string_view bytes = {};
  std::uint32_t wire = 0;
};

class Message {
 public:
  explicit Message(std::string_view bytes) : rest_(bytes) {}

  bool next(Field& field) {
    if (rest_.empty()) return false;
    const std::uint64_t key = varint();
    field = {.id = std::uint32_t(key >> 3), .wire = std::uint32_t(key & 7)};
    switch (field.wire) {
      case 0: field.number = varint(); return true;
      case 1: field.number = fixed<std::uint64_t>(); return true;
      case 2: field.bytes = take(varint()); return true;
      case 5: field.number = fixed<std::uint32_t>(); return true;
    }
    throw std::runtime_error("onnx: wire type " + std::to_string(field.wire));
  }

  bool empty() const { return rest_.empty(); }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= std::uint64_t(byte & 127) << shift;
      if (byte < 128) return value;
    }
    throw std::runtime_error("onnx: a varint of more than 64 bits");
  }

  template <class T> T fixed() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

 private:
  std::string_view take(std::uint64_t n) {
    if (n > rest_.size()) throw std::runtime_error("onnx: a message ends too early");
    const std::string_view taken = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return taken;
  }
  std::string_view rest_;
};

// Repeated numbers come packed into one field or one by one.
void collect_integers(const Field& field, std::vector<std::int64_t>& into) {
  if (field.wire != 2) return into.push_back(std::int64_t(field.number));
  for (Message list(field.bytes); !list.empty();) into.push_back(std::int64_t(list.varint()));
}

template <class T> void collect_reals(const Field& field, std::vector<double>& into) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  if (field.wire != 2) return into.push_back(std::bit_cast<T>(Bits(field.number)));
  for (Message list(field.bytes); !list.empty();) into.push_back(list.fixed<T>());
}

template <class Stored, class T> std::vector<T> unpacked(std::string_view raw) {
  std::vector<T> values;
  for (Message list(raw); !list.empty();) values.push_back(static_cast<T>(list.fixed<Stored>()));
  return values;
}

std::string type_name(std::uint64_t type) {
  static const char* const names[] = {"undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64",
                                      "string",
                                      "bool", "float16", "float64", "uint32", "uint64", "complex64", "complex128",
                                      "bfloat16"};
  return type < std::size(names) ? names[type] : "number " + std::to_string(type);
}

Tensor parse_tensor(std::string_view bytes) {
  Shape shape;
  std::uint64_t type = 0;
  std::vector<double> reals;
  std::vector<std::int64_t> integers;
  std::string_view raw;
  Field field;
  for (Message message(bytes); message.next(field);) switch (field.id) {
    case 1: collect_integers(field, shape); break;
    case 2: type = field.number; break;
    case 4: collect_reals<float>(field, reals); break;
    case 5: case 7: collect_integers(field, integers); break;
    case 9: raw = field.bytes; break;
    case 10: collect_reals<double>(field, reals); break;
  }
  switch (type) {
    case 1: return tensor(raw.empty() ? reals : unpacked<float, double>(raw), shape).to(Dtype::float32);
    case 6: return tensor(raw.empty() ? integers : unpacked<std::int32_t, std::int64_t>(raw), shape);
    case 7: return tensor(raw.empty() ? integers : unpacked<std::int64_t, std::int64_t>(raw), shape);
    case 9: return tensor(raw.empty() ? std::vector<unsigned char>(integers.begin(), integers.end())
                                      : unpacked<unsigned char, unsigned char>(raw), shape);
    case 11: return tensor(raw.empty() ? reals : unpacked<double, double>(raw), shape);
  }
  throw LeftOut("type " + type_name(type));
}

Attribute parse_attribute(std::string_view bytes, std::string& name) {
  Attribute made;
  Field field;
  for (Message message(bytes); message.next(field);) switch (field.id) {
    case 1: name = field.bytes; break;
    case 2: made.f = std::bit_cast<float>(std::uint32_t(field.number)); break;
    case 3: made.i = std::int64_t(field.number); break;
    case 4: made.s = field.bytes; break;
    case 5: made.t = parse_tensor(field.bytes); break;
    case 6: throw LeftOut("a graph inside a node");
    case 7: collect_reals<float>(field, made.floats); break;
    case 8: collect_integers(field, made.ints); break;
  }
  return made;
}

Node parse_node(std::string_view bytes) {
  Node node;
  Field field;
  std::vector<std::string_view> attributes;
  for (Message message(bytes); message.next(field);) switch (field.id) {
    case 1: node.inputs.emplace_back(field.bytes); break;
    case 2: node.outputs.emplace_back(field.bytes); break;
    case 4: node.type = field.bytes; break;
    case 5: attributes.push_back(field.bytes); break;
  }
  for (const std::string_view attribute : attributes) {
    std::string name;
    Attribute made = parse_attribute(attribute, name);
    node.attributes.emplace(name, std::move(made));
  }
  return node;
}

std::string parse_value_name(std::string_view bytes) {
  std::string name;
  Field field, type;
  for (Message message(bytes); message.next(field);) {
    if (field.id == 1) name = field.bytes;
    if (field.id == 2)
      for (Message types(field.bytes); types.next(type);)
        if (type.id != 1 && type.id != 6) throw LeftOut("type sequence or optional");
  }
  return name;
}

void parse_graph(std::string_view bytes, Model& model) {
  Field field;
  for (Message message(bytes); message.next(field);) switch (field.id) {
    case 1: model.nodes.push_back(parse_node(field.bytes)); break;
    case 11: model.inputs.push_back(parse_value_name(field.bytes)); break;
    case 12: model.outputs.push_back(parse_value_name(field.bytes)); break;
  }
}

std::string file_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot open " + path);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

std::int64_t Node::integer(const std::string& name, std::int64_t otherwise) const {
  return has(name) ? attributes.at(name).i : otherwise;
}
double Node::real(const std::string& name, double otherwise) const {
  return has(name) ? attributes.at(name).f : otherwise;
}
std::string Node::text(const std::string& name, const std::string& otherwise) const {
  return has(name) ? attributes.at(name).s : otherwise;
}
std::vector<std::int64_t> Node::integers(const std::string& name) const {
  return has(name) ? attributes.at(name).ints : std::vector<std::int64_t>{};
}

Tensor read_tensor(const std::string& path) { return parse_tensor(file_bytes(path)); }

Model read_model(const std::string& path) {
  const std::string bytes = file_bytes(path);
  Model model;
  Field field;
  for (Message message(bytes); message.next(field);)
    if (field.id == 7) parse_graph(field.bytes, model);
  return model;
}

std::vector<Tensor> run(const Model& model, const std::vector<Tensor>& inputs) {
  std::map<std::string, Tensor> values;
  for (std::size_t i = 0; i < inputs.size(); ++i) values[model.inputs.at(i)] = inputs[i];
  for (const Node& node : model.nodes) {
    std::vector<Tensor> given;
    for (const std::string& name : node.inputs) given.push_back(name.empty() ? Tensor() : values.at(name));
    const std::vector<Tensor> made = evaluate(node, given);
    for (std::size_t i = 0; i < node.outputs.size() && i < made.size(); ++i) values[node.outputs[i]] = made[i];
  }
  std::vector<Tensor> results;
  for (const std::string& name : model.outputs) results.push_back(values.contains(name) ? values[name] : Tensor());
  return results;
}

}  // namespace surgeon::tests::onnx
