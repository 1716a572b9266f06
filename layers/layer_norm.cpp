#include "layers/layer_norm.hpp"

#include "framework/errors.hpp"

namespace surgeon {

namespace {

std::int64_t checked(const char* layer, std::int64_t d_model) {
  require(d_model >= 1, layer, ": d_model = ", d_model, " must be at least 1");
  return d_model;
}

}  // namespace

LayerNorm::LayerNorm(std::int64_t d_model, Dtype dtype, double eps_)
    : weight(ones({checked("LayerNorm", d_model)}, dtype)), bias(zeros({d_model}, dtype)), eps(eps_) {}
Tensor LayerNorm::operator()(const Tensor& x) const { return layer_norm(x, weight, bias, eps); }
Parameters LayerNorm::parameters() const { return {{"weight", weight}, {"bias", bias}}; }

RmsNorm::RmsNorm(std::int64_t d_model, Dtype dtype, double eps_)
    : weight(ones({checked("RmsNorm", d_model)}, dtype)), eps(eps_) {}
Tensor RmsNorm::operator()(const Tensor& x) const { return rms_norm(x, weight, eps); }
Parameters RmsNorm::parameters() const { return {{"weight", weight}}; }

Norm::Norm(NormKind choice, std::int64_t d_model, Dtype dtype) : kind(RmsNorm(d_model, dtype)) {
  if (choice == NormKind::layer) kind = LayerNorm(d_model, dtype);
}
Tensor Norm::operator()(const Tensor& x) const {
  return std::visit([&](const auto& norm) { return norm(x); }, kind);
}
Parameters Norm::parameters() const {
  return std::visit([](const auto& norm) { return norm.parameters(); }, kind);
}

}  // namespace surgeon
