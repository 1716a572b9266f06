// The C interface: borrows the caller's numbers, calls the library, writes results, and turns exceptions into
// sentences.
#include "experiments/surgeon.h"

#include <cmath>
#include <cstring>
#include <exception>
#include <string>

#include "framework/derivatives.hpp"
#include "framework/errors.hpp"
#include "framework/machine.hpp"
#include "layers/doctor.hpp"
#include "layers/masks.hpp"

namespace {

using namespace surgeon;

thread_local std::string last_error;

template <class Body> std::int64_t guarded(const Body& body) noexcept {
  try {
    return body();
  } catch (const std::exception& error) { last_error = error.what(); } catch (...) {
    last_error = "unknown error";
  }
  return -1;
}

Tensor borrow(const surgeon_problem& p, const void* numbers, const Shape& shape) {
  if (!numbers) return {};
  if (p.dtype == SURGEON_FLOAT64) return borrowed(static_cast<const double*>(numbers), shape);
  return borrowed(static_cast<const float*>(numbers), shape);
}

struct Shapes {
  Shape Q, K, V, output, map, rows;
  explicit Shapes(const surgeon_problem& p)
      : Q{p.batch, p.heads, p.Tq, p.d_k},
        K{p.batch, p.kv_heads, p.Tk, p.d_k},
        V{p.batch, p.kv_heads, p.Tk, p.d_v},
        output{p.batch, p.heads, p.Tq, p.d_v},
        map{p.batch, p.heads, p.Tq, p.Tk},
        rows{p.batch, p.heads, p.Tq} {}
};

Specimen specimen_of(const surgeon_problem* problem) {
  require(problem != nullptr, "surgeon: no problem is given");
  const surgeon_problem& p = *problem;
  require(p.dtype == SURGEON_FLOAT32 || p.dtype == SURGEON_FLOAT64, "surgeon: dtype ", int(p.dtype), " is unknown");
  const Shapes shapes(p);
  for (const Shape* shape : {&shapes.Q, &shapes.K, &shapes.V})
    for (std::int64_t n : *shape) require(n >= 1, "surgeon: sizes must be at least 1, not ", n);
  Specimen s{.Q = borrow(p, p.Q, shapes.Q), .K = borrow(p, p.K, shapes.K), .V = borrow(p, p.V, shapes.V)};
  if (p.mask) {
    const Shape shape{p.mask_batch, p.mask_heads, p.Tq, p.Tk};
    for (std::int64_t i = 0; i < count(shape); ++i) require(p.mask[i] <= 1, "surgeon: a mask must hold 0 and 1");
    s.mask = borrowed(reinterpret_cast<const bool*>(p.mask), shape);
  }
  s.bias = borrow(p, p.bias, {p.bias_batch, p.bias_heads, p.Tq, p.Tk});
  if (!std::isnan(p.scale)) s.scale = Scale(p.scale);
  s.causal = p.causal != 0, s.window = p.window, s.soft_cap = p.soft_cap;
  check(s);
  return s;
}

void write(const Tensor& x, void* to) {
  if (!to) return;
  if (x.dtype() == Dtype::float64) std::memcpy(to, x.values<double>().data(), std::size_t(x.size()) * sizeof(double));
  else std::memcpy(to, x.values<float>().data(), std::size_t(x.size()) * sizeof(float));
}

Tensor needed(const surgeon_problem& p, const char* name, const void* numbers, const Shape& shape) {
  require(numbers != nullptr, "surgeon: ", name, " is missing");
  return borrow(p, numbers, shape);
}

Function attention_of(const Specimen& s) {
  return [options = s.options()](const std::vector<Tensor>& x) { return attention(x[0], x[1], x[2], options).output; };
}

// ---- JSON ----------------------------------------------------------------------------------------------------------
std::string quoted(const std::string& text) {
  std::string safe = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') safe += '\\';
    safe += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return safe + "\"";
}
std::string as_json(double x) { return std::isfinite(x) ? sentence(x) : "null"; }
std::string as_json(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& one : all) text += (text.empty() ? "" : ", ") + quoted(one);
  return "[" + text + "]";
}
std::string as_json(const Finding& f) {
  const bool law = f.kind == Finding::Kind::broken_law, observed = f.kind == Finding::Kind::observation;
  return "{\"kind\": " + quoted(law ? "broken law" : observed ? "observation" : "diagnosis") + ", \"name\": " + quoted(f.name) +
         ", \"sentence\": " + quoted(f.sentence) + ", \"where\": " + quoted(f.where) +
         ", \"found\": " + as_json(f.found) + ", \"expected\": " + as_json(f.expected) +
         ", \"allowed\": " + as_json(f.allowed) + ", \"certainty\": " + as_json(f.certainty) +
         ", \"evidence\": " + quoted(f.evidence) + ", \"cure\": " + quoted(f.cure) + "}";
}
std::string as_json(const Examination& e) {
  const auto listed = [](const std::vector<Finding>& all) {
    std::string text;
    for (const Finding& f : all) text += (text.empty() ? "" : ", ") + as_json(f);
    return "[" + text + "]";
  };
  return "{\"findings\": " + listed(e.findings) + ", \"observations\": " + listed(e.observations) + ", \"held\": " + as_json(e.held) +
         ", \"unchecked\": " + as_json(e.unchecked) + "}";
}

}  // namespace

int surgeon_rows(const surgeon_problem* p, void* largest, void* logsumexp, void* entropy, void* jacobian) {
  return int(guarded([&] {
    const Specimen s = specimen_of(p);
    const NoRecord pause;
    AttentionOptions options = s.options();
    options.return_stats = true;
    const AttentionStats stats = attention(s.Q, s.K, s.V, options).stats;
    write(stats.largest, largest);
    write(stats.logsumexp, logsumexp);
    write(stats.entropy, entropy);
    write(stats.jacobian, jacobian);
    return 0;
  }));
}

int surgeon_attention(const surgeon_problem* p, void* output) {
  return int(guarded([&] {
    const Specimen s = specimen_of(p);
    const NoRecord pause;
    write(attention(s.Q, s.K, s.V, s.options()).output, output);
    return 0;
  }));
}

int surgeon_vjp(const surgeon_problem* p, const void* dO, void* dQ, void* dK, void* dV) {
  return int(guarded([&] {
    const Specimen s = specimen_of(p);
    const Tensor g = needed(*p, "dO", dO, Shapes(*p).output);
    const auto gradients = grad(attention_of(s)({s.Q, s.K, s.V}), {s.Q, s.K, s.V}, {.cotangent = g});
    write(gradients[0], dQ);
    write(gradients[1], dK);
    write(gradients[2], dV);
    return 0;
  }));
}

int surgeon_jvp(const surgeon_problem* p, const void* Q_dot, const void* K_dot, const void* V_dot, void* output_dot) {
  return int(guarded([&] {
    const Specimen s = specimen_of(p);
    const Shapes shapes(*p);
    write(jvp(attention_of(s), {s.Q, s.K, s.V},
              {needed(*p, "Q_dot", Q_dot, shapes.Q), needed(*p, "K_dot", K_dot, shapes.K),
               needed(*p, "V_dot", V_dot, shapes.V)}),
          output_dot);
    return 0;
  }));
}

int surgeon_hvp(const surgeon_problem* p, const void* dO, const void* vQ, const void* vK, const void* vV, void* hQ,
                void* hK, void* hV) {
  return int(guarded([&] {
    const Specimen s = specimen_of(p);
    const Shapes shapes(*p);
    const Tensor g = needed(*p, "dO", dO, shapes.output);
    const Function attend = attention_of(s);
    const auto loss = [&](const std::vector<Tensor>& x) { return sum(attend(x) * g); };
    const auto products =
        hvp(loss, {s.Q, s.K, s.V},
            {needed(*p, "vQ", vQ, shapes.Q), needed(*p, "vK", vK, shapes.K), needed(*p, "vV", vV, shapes.V)});
    write(products[0], hQ);
    write(products[1], hK);
    write(products[2], hV);
    return 0;
  }));
}

std::int64_t surgeon_doctor(const surgeon_problem* p, const surgeon_kept* kept, char* json, std::size_t size) {
  return guarded([&]() -> std::int64_t {
    Specimen s = specimen_of(p);
    if (kept) {
      const Shapes shapes(*p);
      s.output = borrow(*p, kept->output, shapes.output), s.dO = borrow(*p, kept->dO, shapes.output);
      s.weights = borrow(*p, kept->weights, shapes.map);
      s.dP = borrow(*p, kept->dP, shapes.map), s.dS = borrow(*p, kept->dS, shapes.map);
      s.dQ = borrow(*p, kept->dQ, shapes.Q);
      s.dK = borrow(*p, kept->dK, shapes.K), s.dV = borrow(*p, kept->dV, shapes.V);
    }
    const std::string text = as_json(examine(s));
    if (!json || size < text.size() + 1) return std::int64_t(text.size() + 1);
    std::memcpy(json, text.c_str(), text.size() + 1);
    return 0;
  });
}

const char* surgeon_error(void) { return last_error.c_str(); }
int surgeon_set_threads(int n) {
  return int(guarded([&] {
    set_threads(n);
    return 0;
  }));
}
int surgeon_threads(void) { return threads(); }
