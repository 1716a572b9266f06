// The weights in an ONNX model, read by ONNX's own classes (onnx.proto).
#include "framework/serialize/file.hpp"

#ifdef SURGEON_HAS_ONNX
#include <onnx/onnx_pb.h>

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#endif

namespace surgeon {

#ifndef SURGEON_HAS_ONNX

Parameters load_onnx(const std::filesystem::path& path) {
  detail::fail(path, "this build does not read ONNX files; configure with -DSURGEON_ONNX=ON (Debian: libonnx-dev and "
                     "libprotobuf-dev)");
}

#else

namespace {

using detail::fail;

const detail::Format* format_of(std::int32_t type) {
  using onnx::TensorProto;
  switch (type) {
    case TensorProto::FLOAT: return detail::safetensors_format("F32");
    case TensorProto::DOUBLE: return detail::safetensors_format("F64");
    case TensorProto::FLOAT16: return detail::safetensors_format("F16");
    case TensorProto::BFLOAT16: return detail::safetensors_format("BF16");
    case TensorProto::INT64: return detail::safetensors_format("I64");
    case TensorProto::INT32: return detail::safetensors_format("I32");
    case TensorProto::INT16: return detail::safetensors_format("I16");
    case TensorProto::INT8: return detail::safetensors_format("I8");
    case TensorProto::UINT8: return detail::safetensors_format("U8");
    case TensorProto::BOOL: return detail::safetensors_format("BOOL");
    default: return nullptr;
  }
}

// The numbers as bytes. Those not in raw_data are in a field for their type; the small types share one of int32.
std::string bytes_of(const onnx::TensorProto& tensor, std::int64_t size) {
  const auto packed = [](const auto& field) {
    return std::string(reinterpret_cast<const char*>(field.data()), std::size_t(field.size()) * sizeof(*field.data()));
  };
  if (tensor.has_raw_data()) return tensor.raw_data();
  if (tensor.data_type() == onnx::TensorProto::FLOAT) return packed(tensor.float_data());
  if (tensor.data_type() == onnx::TensorProto::DOUBLE) return packed(tensor.double_data());
  if (tensor.data_type() == onnx::TensorProto::INT64) return packed(tensor.int64_data());
  std::string bytes;
  for (const std::int32_t x : tensor.int32_data()) bytes.append(reinterpret_cast<const char*>(&x), std::size_t(size));
  return bytes;
}

void add(Parameters& found, const std::string& name, const onnx::TensorProto& tensor, const std::filesystem::path& path) {
  const detail::Format* format = format_of(tensor.data_type());
  if (!format || name.empty()) return;
  if (tensor.data_location() == onnx::TensorProto::EXTERNAL) fail(path, name, " lies in another file, which is not read");
  Shape shape;
  double numbers = 1;
  for (const std::int64_t size : tensor.dims()) {
    shape.push_back(size);
    numbers *= double(size);
    if (size < 0 || numbers > 0x1p40 || shape.size() > 64) fail(path, name, " has a shape that no tensor has");
  }
  const std::string bytes = bytes_of(tensor, format->bytes);
  if (std::int64_t(bytes.size()) != count(shape) * format->bytes)
    fail(path, name, " has ", bytes.size(), " bytes for the shape ", shape);
  if (found.contains(name)) fail(path, "has ", name, " twice");
  found.add(name, detail::read_tensor(bytes, *format, shape, path));
}

}  // namespace

Parameters load_onnx(const std::filesystem::path& path) {
  constexpr std::uint64_t longest = 0x7fffffff;   // protobuf's own limit
  const std::string text = read_file(path, longest);
  onnx::ModelProto model;
  google::protobuf::io::ArrayInputStream in(text.data(), int(text.size()));
  google::protobuf::io::CodedInputStream coded(&in);
  if (!model.ParseFromCodedStream(&coded) || !model.has_graph()) fail(path, "is not an ONNX model");
  Parameters found;
  for (const onnx::TensorProto& tensor : model.graph().initializer()) add(found, tensor.name(), tensor, path);
  for (const onnx::NodeProto& node : model.graph().node())
    for (const onnx::AttributeProto& attribute : node.attribute())
      if (node.op_type() == "Constant" && node.output_size() == 1 && attribute.name() == "value")
        add(found, node.output(0), attribute.t(), path);
  return found;
}

#endif

}  // namespace surgeon
