// Derivatives of whole functions. All of them are differentiable themselves while recording is on; under NoRecord they
// still answer, but build no graph.
#include "framework/derivatives.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "framework/autograd.hpp"
#include "framework/detail/node.hpp"
#include "framework/errors.hpp"
#include "framework/ops.hpp"
#include "framework/random.hpp"

namespace surgeon {

namespace {

using List = std::vector<Tensor>;

// New identities for the inputs, so that one which was made from another is not differentiated through it.
List arguments(const char* name, const List& inputs) {
  List xs;
  for (const Tensor& x : inputs) {
    require_value(name, x);
    require(is_floating(x.dtype()), name, ": input ", xs.size(), " must be float32 or float64, not ", x.dtype());
    xs.push_back(detail::alias(x));
  }
  return xs;
}

void require_like(const char* name, const char* what, const List& vectors, const List& inputs) {
  require(vectors.size() == inputs.size(), name, ": ", vectors.size(), " ", what, "s for ", inputs.size(), " inputs");
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    require_value(name, vectors[i]);
    const Tensor &v = vectors[i], &x = inputs[i];
    require(v.shape() == x.shape() && v.dtype() == x.dtype(), name, ": ", what, " ", i, " is ", v.dtype(), " ",
            v.shape(), ", but its input is ", x.dtype(), " ", x.shape());
  }
}

// sum over i of <a[i], b[i]>
Tensor inner(const List& a, const List& b) {
  Tensor total;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const Tensor product = sum(a[i] * b[i]);
    total = total.empty() ? product : total + product;
  }
  return total;
}

// 1 at one place of the row-major numbers, else 0.
Tensor unit(const Shape& shape, Dtype dtype, std::int64_t place) {
  Tensor e = zeros(shape, dtype);
  detail::visit_floating(dtype, [&]<class T>(T) { detail::fresh<T>(e)[place] = T(1); });
  return e;
}

// J of y with respect to x, row by row.
Tensor rows(const char* name, const Tensor& y, const Tensor& x, bool create_graph) {
  require(is_floating(y.dtype()), name, ": the function's value must be float32 or float64, not ", y.dtype());
  Shape shape = y.shape();
  shape.insert(shape.end(), x.shape().begin(), x.shape().end());
  if (count(shape) == 0) return zeros(shape, x.dtype());
  List found;
  for (std::int64_t place = 0; place < y.size(); ++place)
    found.push_back(grad(y, {x}, {.cotangent = unit(y.shape(), y.dtype(), place), .create_graph = create_graph,
                                  .allow_unused = true})[0]);
  return reshape(stack(found, 0), shape);
}

}  // namespace

List vjp(const Function& f, const List& inputs, const Tensor& cotangent) {
  const bool keep = recording();
  const detail::Recording on;
  const List xs = arguments("vjp", inputs);
  return grad(f(xs), xs, {.cotangent = cotangent, .create_graph = keep, .allow_unused = true});
}

// v^T J is linear in v, and its transpose is J: two walks back make one walk forward.
Tensor jvp(const Function& f, const List& inputs, const List& tangents) {
  const bool keep = recording();
  const detail::Recording on;
  const List xs = arguments("jvp", inputs);
  require_like("jvp", "tangent", tangents, xs);
  const Tensor y = f(xs);
  require_value("jvp", y);
  const Tensor v = zeros_like(y);
  if (xs.empty()) return v;
  const List pulled = grad(y, xs, {.cotangent = v, .create_graph = true, .allow_unused = true});
  return grad(inner(pulled, tangents), {v}, {.create_graph = keep, .allow_unused = true})[0];
}

List hvp(const Function& f, const List& inputs, const List& vectors) {
  const bool keep = recording();
  const detail::Recording on;
  const List xs = arguments("hvp", inputs);
  require_like("hvp", "vector", vectors, xs);
  const Tensor y = f(xs);
  require(y.size() == 1, "hvp: the function's value must have one element, but has shape ", y.shape());
  if (xs.empty()) return {};
  const List gradients = grad(y, xs, {.create_graph = true, .allow_unused = true});
  return grad(inner(gradients, vectors), xs, {.create_graph = keep, .allow_unused = true});
}

Tensor jacobian(const std::function<Tensor(const Tensor&)>& f, const Tensor& x) {
  const bool keep = recording();
  const detail::Recording on;
  const Tensor own = arguments("jacobian", {x})[0];
  const Tensor y = f(own);
  require_value("jacobian", y);
  return rows("jacobian", y, own, keep);
}

Tensor hessian(const std::function<Tensor(const Tensor&)>& f, const Tensor& x) {
  const bool keep = recording();
  const detail::Recording on;
  const Tensor own = arguments("hessian", {x})[0];
  const Tensor y = f(own);
  require(y.size() == 1, "hessian: the function's value must have one element, but has shape ", y.shape());
  const Tensor gradient = grad(y, {own}, {.create_graph = true, .allow_unused = true})[0];
  return rows("hessian", gradient, own, keep);
}

// ---- gradcheck -----------------------------------------------------------------------------------------------------

namespace {

List gradients(const List& outputs, const List& cotangents, const List& xs, bool create_graph) {
  if (outputs.size() == 1)
    return grad(outputs[0], xs, {.cotangent = cotangents[0], .create_graph = create_graph, .allow_unused = true});
  return grad(inner(outputs, cotangents), xs, {.create_graph = create_graph, .allow_unused = true});
}

double dot(const Tensor& a, const Tensor& b) {
  const auto x = a.values<double>(), y = b.values<double>();
  double total = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) total += x[i] * y[i];
  return total;
}

bool bit_equal(const Tensor& a, const Tensor& b) {
  const auto x = a.values<double>(), y = b.values<double>();
  return a.shape() == b.shape() && (x.empty() || std::memcmp(x.data(), y.data(), x.size_bytes()) == 0);
}

double value(const Tensor& x, std::int64_t place) { return x.values<double>()[std::size_t(place)]; }

Shape index_of(std::int64_t place, const Shape& shape) {
  Shape index(shape.size());
  for (std::size_t k = shape.size(); k-- > 0; place /= shape[k]) index[k] = place % shape[k];
  return index;
}

std::string number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.12g", value);
  return text;
}

// One gradcheck. Order k + 1 holds the gradient of <F_k(x), c_k> against differences of F_k, where F_0 = f,
// F_k = the gradient of <F_(k-1), c_(k-1)> as a function of x, and the c are random and fixed.
class Checker {
 public:
  Checker(const Function& f, const List& inputs, const GradcheckOptions& options)
      : f_(f), options_(options), rng_(options.seed) {
    for (const Tensor& x : inputs) xs_.push_back(x.detach());
  }

  // Empty when all is well.
  std::string run() {
    const Tensor y = f_(xs_);
    require_value("gradcheck", y);
    if (y.dtype() != Dtype::float64) return sentence("the function's value must be float64, not ", y.dtype());
    if (!bit_equal(y, f_(xs_)))
      return "the function returns different values for the same inputs (if it draws random numbers, make its Rng "
             "inside it)";
    cotangents_.push_back({randn(y.shape(), rng_, Dtype::float64)});
    std::string fault = repeats(y);
    if (fault.empty()) fault = linear(y);
    for (int order = 1; order <= options_.order && fault.empty(); ++order) {
      if (order > 1) cotangents_.push_back(like_inputs());
      if (order == 2) fault = same_with_graph(y);
      if (fault.empty()) fault = differences(order);
    }
    return fault;
  }

 private:
  List like_inputs() {
    List drawn;
    for (const Tensor& x : xs_) drawn.push_back(randn(x.shape(), rng_, Dtype::float64));
    return drawn;
  }

  List outputs(int k, const List& xs) const {   // F_k
    if (k == 0) return {f_(xs)};
    return gradients(outputs(k - 1, xs), cotangents_[std::size_t(k - 1)], xs, true);
  }

  std::string repeats(const Tensor& y) const {
    const List once = gradients({y}, cotangents_[0], xs_, false), again = gradients({y}, cotangents_[0], xs_, false),
                  anew = gradients({f_(xs_)}, cotangents_[0], xs_, false);
    for (std::size_t i = 0; i < xs_.size(); ++i)
      if (!bit_equal(once[i], again[i]) || !bit_equal(once[i], anew[i]))
        return sentence("order 1, input ", i, ": two backward passes differ in their bits");
    return {};
  }

  bool near(double a, double b) const {   // false for nan
    return std::isfinite(a) && std::abs(a - b) <= options_.atol + options_.rtol * std::max(std::abs(a), std::abs(b));
  }

  std::string first_difference(const char* what, const List& a, const List& b) const {
    for (std::size_t i = 0; i < xs_.size(); ++i)
      for (std::int64_t place = 0; place < xs_[i].size(); ++place) {
        const double left = value(a[i], place), right = value(b[i], place);
        if (!near(left, right))
          return sentence("order 1, input ", i, ", index ", index_of(place, xs_[i].shape()), ": ", what, ": ",
                              number(left), " and ", number(right));
      }
    return {};
  }

  // A rule must be linear in g: 3 g - 2 h must give 3 times the gradient of g less twice that of h.
  std::string linear(const Tensor& y) {
    const Tensor& g = cotangents_[0][0];
    const Tensor h = randn(y.shape(), rng_, Dtype::float64);
    const NoRecord pause;
    const List of_g = gradients({y}, {g}, xs_, false), of_h = gradients({y}, {h}, xs_, false),
                  of_both = gradients({y}, {3.0 * g - 2.0 * h}, xs_, false);
    List both;
    for (std::size_t i = 0; i < xs_.size(); ++i) both.push_back(3.0 * of_g[i] - 2.0 * of_h[i]);
    return first_difference("the gradient is not linear in the cotangent", of_both, both);
  }

  std::string same_with_graph(const Tensor& y) const {
    return first_difference("the gradient with create_graph differs from that without",
                            gradients({y}, cotangents_[0], xs_, true), gradients({y}, cotangents_[0], xs_, false));
  }

  // d/dt <F_k(x + t v), c_k>, the central difference. F's values are subtracted before they are summed, so that what
  // does not move cannot drown what does.
  double numeric(int k, std::size_t input, const Tensor& v, double step) const {
    std::optional<NoRecord> pause;
    if (k == 0) pause.emplace();
    const List ahead = outputs(k, moved(input, v, step)), behind = outputs(k, moved(input, v, -step));
    double total = 0.0;
    for (std::size_t i = 0; i < ahead.size(); ++i) {
      const NoRecord quiet;
      total += dot(cotangents_[std::size_t(k)][i], ahead[i] - behind[i]);
    }
    return total / (2.0 * step);
  }

  List moved(std::size_t input, const Tensor& v, double step) const {
    const NoRecord pause;
    List xs = xs_;
    xs[input] = xs[input] + step * v;
    return xs;
  }

  // Several steps on a mismatch: too large a step meets curvature, too small a one rounding.
  bool agrees(int k, std::size_t input, const Tensor& v, double analytic) const {
    for (double factor : {1.0, 10.0, 0.1, 100.0, 0.01})
      if (near(analytic, numeric(k, input, v, factor * options_.eps))) return true;
    return false;
  }

  std::string differences(int order) {
    const int k = order - 1;
    const List analytic = gradients(outputs(k, xs_), cotangents_[std::size_t(k)], xs_, false);
    for (std::size_t i = 0; i < xs_.size(); ++i) {
      if (!options_.every_element) {
        const Tensor v = randn(xs_[i].shape(), rng_, Dtype::float64);
        if (agrees(k, i, v, dot(analytic[i], v))) continue;
      }
      const std::string fault = worst_element(order, i, analytic[i], !options_.every_element);
      if (!fault.empty()) return fault;
    }
    return {};
  }

  // The element that is furthest off. With `certain`, the direction has already failed: the worst is named even if no
  // single element is out of tolerance.
  std::string worst_element(int order, std::size_t input, const Tensor& analytic, bool certain) const {
    const Tensor& x = xs_[input];
    double worst = -1.0;
    std::int64_t where = -1;
    for (std::int64_t place = 0; place < x.size(); ++place) {
      const Tensor e = unit(x.shape(), Dtype::float64, place);
      const double a = value(analytic, place);
      if (!certain && agrees(order - 1, input, e, a)) continue;
      const double n = numeric(order - 1, input, e, options_.eps);
      const double off = std::isfinite(a - n) ? std::abs(a - n) : HUGE_VAL;
      if (off <= worst) continue;
      worst = off;
      where = place;
    }
    return where < 0 ? std::string() : report(order, input, where, value(analytic, where));
  }

  std::string report(int order, std::size_t input, std::int64_t place, double analytic) const {
    const Shape& shape = xs_[input].shape();
    const Tensor e = unit(shape, Dtype::float64, place);
    std::string text = sentence("order ", order, ", input ", input, " of shape ", shape, ", index ",
                                index_of(place, shape), ": analytic ", number(analytic), ", numeric ",
                                number(numeric(order - 1, input, e, options_.eps)), "; by step:");
    for (double factor : {100.0, 10.0, 1.0, 0.1, 0.01}) {
      const double step = factor * options_.eps;
      text += sentence(factor == 100.0 ? " " : ", ", step, " -> ", number(numeric(order - 1, input, e, step)));
    }
    return text;
  }

  const Function& f_;
  const GradcheckOptions& options_;
  Rng rng_;
  List xs_;
  std::vector<List> cotangents_;   // [k] belongs to F_k
};

}  // namespace

GradcheckResult gradcheck(const Function& f, const List& inputs, const GradcheckOptions& options) {
  require(!inputs.empty(), "gradcheck: needs at least one input");
  require(options.order >= 1, "gradcheck: order must be at least 1, not ", options.order);
  require(options.eps > 0.0, "gradcheck: eps must be positive, not ", options.eps);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    require_value("gradcheck", inputs[i]);
    require(inputs[i].dtype() == Dtype::float64, "gradcheck: input ", i, " must be float64, not ",
            inputs[i].dtype(), ": finite differences need the digits");
  }
  const detail::Recording on;
  std::string fault;
  try {
    fault = Checker(f, inputs, options).run();
  } catch (const std::exception& error) {
    fault = sentence("an exception: ", error.what());
  } catch (...) {
    fault = "an exception that is not a std::exception";
  }
  if (fault.empty()) return {};
  return {.passed = false, .message = "gradcheck: " + fault};
}

}  // namespace surgeon
