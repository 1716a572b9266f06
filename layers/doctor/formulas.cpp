#include "layers/doctor/formulas.hpp"

#include <cmath>
#include <functional>
#include <limits>

#include "layers/masks.hpp"

namespace surgeon::detail {

namespace {

// What becomes of a score that the mask hides.
enum class Hidden { minus_infinity, filled, added, weight_zeroed };
enum class Weigh { softmax, off_by_one, sigmoid, twice, not_at_all };

// Attention by parts, each of which a mistake may replace.
struct Recipe {
  double factor = 1;
  Tensor visible = {}, bias = {};
  double soft_cap = 0;
  Hidden hidden = Hidden::minus_infinity;
  double fill = 0;
  Weigh weigh = Weigh::softmax;
  int axis = -1;
};

// K or V with a head for each of Q's; in_turn: head h reads h mod kv_heads instead of h / group.
enum class Groups { in_order, in_turn };
Tensor shared(const Tensor& x, std::int64_t heads, Groups groups = Groups::in_order) {
  const std::int64_t kv = x.shape(1), T = x.shape(2), d = x.shape(3), each = heads / kv;
  if (each == 1) return x;
  if (groups == Groups::in_turn)
    return reshape(broadcast_to(reshape(x, {1, 1, kv, T, d}), {1, each, kv, T, d}), {1, heads, T, d});
  return reshape(broadcast_to(reshape(x, {1, kv, 1, T, d}), {1, kv, each, T, d}), {1, heads, T, d});
}

Tensor products(const Tensor& Q, const Tensor& K) { return matmul(Q, shared(K, Q.shape(1)), {.transpose_b = true}); }

Tensor weighed(const Tensor& scores, const Recipe& r) {
  switch (r.weigh) {
    case Weigh::sigmoid:
      return sigmoid(scores);
    case Weigh::twice:
      return softmax(softmax(scores, r.axis), r.axis);
    case Weigh::not_at_all:
      return masked_fill(scores, scores == -std::numeric_limits<double>::infinity(), 0.0);
    case Weigh::off_by_one:
      return exp(scores - softplus(logsumexp(scores, Over{{r.axis}, true})));
    default:
      return softmax(scores, r.axis);
  }
}

Tensor weights_of(Tensor scores, const Recipe& r) {
  scores = scores * r.factor;
  if (r.soft_cap > 0) scores = tanh(scores / r.soft_cap) * r.soft_cap;
  if (r.bias.defined()) scores = scores + r.bias;
  if (r.visible.empty()) return weighed(scores, r);
  const double minus_infinity = -std::numeric_limits<double>::infinity();
  if (r.hidden == Hidden::added) return weighed(scores + r.visible.to(Dtype::float64), r);
  if (r.hidden == Hidden::weight_zeroed) return masked_fill(weighed(scores, r), !r.visible, 0.0);
  return weighed(masked_fill(scores, !r.visible, r.hidden == Hidden::filled ? r.fill : minus_infinity), r);
}

Attended applied(const Tensor& weights, const Tensor& V) {
  return {weights, matmul(weights, shared(V, weights.shape(1)))};
}

// [1, heads, T, d] -> the same numbers as they lie in [T, heads * d], read as [heads, T, d]; and back.
Tensor split_wrongly(const Tensor& x) { return reshape(permute(x, {0, 2, 1, 3}), x.shape()); }
Tensor joined_wrongly(const Tensor& x) {
  return permute(reshape(x, {1, x.shape(2), x.shape(1), x.shape(3)}), {0, 2, 1, 3});
}

// The mask one key to the right or left: queries see one key more, or one less.
Tensor one_more(const Tensor& visible) { return concat({slice(visible, -1, 0, 1), slice(visible, -1, 0, -1)}, -1); }
Tensor one_less(const Tensor& visible) {
  const Tensor last = slice(visible, -1, -1);
  return concat({slice(visible, -1, 1), last != last}, -1);
}

struct Book {
  const Specimen& s;
  Recipe told;
  std::vector<Formula> all = {};

  void add(const std::string& name, const std::string& sentence, const std::string& cure, const Recipe& r,
           bool lawful = true) {
    all.push_back({name, sentence, cure, r.factor, lawful, [r](const Tensor& Q, const Tensor& K, const Tensor& V) {
                     return applied(weights_of(products(Q, K), r), V);
                   }});
  }
  template <class Attend>
  void add_other(const std::string& name, const std::string& sentence, const std::string& cure, const Attend& attend) {
    all.push_back({name, sentence, cure, told.factor, false, attend});
  }

  void scales() {
    const double d_k = double(s.Q.shape(3)), d_model = d_k * double(s.heads());
    const auto with = [&](const char* name, const std::string& sentence, double factor) {
      Recipe r = told;
      r.factor = factor;
      if (std::abs(factor - told.factor) > 1e-9 * told.factor)
        add(name, sentence,
            "multiply the scores by 1/sqrt(d_k) = " + std::to_string(1 / std::sqrt(d_k)) +
                ", or say with --scale what is meant",
            r);
    };
    with("no divisor", "the scores are not divided at all", 1);
    with("divisor sqrt(d_k)", "the scores are divided by sqrt(d_k)", 1 / std::sqrt(d_k));
    with("divisor d_model", "the scores are divided by sqrt(d_model) instead of sqrt(d_k)", 1 / std::sqrt(d_model));
    with("missing root", "the scores are divided by d_k instead of sqrt(d_k), or twice by sqrt(d_k)", 1 / d_k);
    with("missing root of d_model", "the scores are divided by d_model", 1 / d_model);
    with("multiplied", "the scores are multiplied by sqrt(d_k) instead of divided", std::sqrt(d_k));
    with("base 2", "weights are powers of 2, not of e", told.factor * std::log(2.0));
    with("sign", "the scores have the wrong sign", -told.factor);
  }

  void mask(const char* name, const std::string& sentence, const Tensor& visible) {
    Recipe r = told;
    r.visible = visible;
    add(name, sentence, "true must mean: may attend; query i sees keys 0 .. i under a causal mask", r);
  }

  void hidden(const std::string& name, const std::string& sentence, Hidden how, double fill = 0) {
    Recipe r = told;
    r.hidden = how;
    r.fill = fill;
    add(name, sentence, "set masked scores to -inf before softmax", r, how != Hidden::weight_zeroed);
  }

  void masks() {
    const Tensor& v = told.visible;
    if (v.empty()) {
      if (s.Tq() > 1) mask("causal mask", "a causal mask is applied, although none was told (--causal)", lower(0));
      return;
    }
    mask("mask ignored", "the mask is not applied", Tensor());
    mask("mask inverted", "the mask hides what it should show", !v);
    if (v.shape(-1) == s.Tk() && s.Tk() > 1) {
      mask("mask one ahead", "the mask is shifted: each query sees one key too many", one_more(v));
      mask("mask one behind", "the mask is shifted: each query sees one key too few", one_less(v));
    }
    if (v.shape(-2) == s.Tq() && v.shape(-1) == s.Tk())
      mask("mask reversed", "the mask runs backwards", flip(v, {-2, -1}));
    if (v.shape(-2) == v.shape(-1))
      mask("mask transposed", "queries and keys are exchanged in the mask", transpose(v, -1, -2));
    if (s.causal && s.Tq() != s.Tk())
      mask("mask aligned to the first key", "the causal mask starts at the first key, not so that it ends at the last",
           lower(s.Tk() - s.Tq()));
    hidden("mask after softmax", "the mask is applied after softmax, so that rows no longer sum to 1",
           Hidden::weight_zeroed);
    hidden("mask added", "the mask, as 0 and 1, is added to the scores", Hidden::added);
    hidden("masked scores 0", "masked scores are set to 0 instead of -inf", Hidden::filled, 0);
    for (double fill : {-1.0, -5.0, -10.0, -20.0, -50.0, -100.0, -1e4, -1e9})
      hidden("finite fill",
             "masked scores are set to " + std::to_string(std::int64_t(fill)) +
                 " instead of -inf, which leaks into rows whose scores are low or all masked",
             Hidden::filled, fill);
  }

  // [Tq, Tk]: query i sees keys 0 .. i + Tk - Tq - late.
  Tensor lower(std::int64_t late) const {
    return tril(ones({s.Tq(), s.Tk()}, Dtype::float64), s.Tk() - s.Tq() - late) == 1.0;
  }

  void weighings() {
    const auto with = [&](const char* name, const char* sentence, Weigh weigh, int axis) {
      Recipe r = told;
      r.weigh = weigh;
      r.axis = axis;
      add(name, sentence, "weights are softmax over the keys, the last axis of the scores, once", r, false);
    };
    with("softmax over queries", "softmax runs over the queries instead of the keys", Weigh::softmax, -2);
    if (s.heads() > 1)
      with("softmax over heads", "softmax runs over the heads instead of the keys", Weigh::softmax, -3);
    with("sigmoid", "weights are sigmoids of the scores", Weigh::sigmoid, -1);
    with("off by one", "1 is added to the sum of exponentials", Weigh::off_by_one, -1);
    with("softmax twice", "softmax is applied twice", Weigh::twice, -1);
    with("no softmax", "the scores themselves are the weights", Weigh::not_at_all, -1);
  }

  void wrong_products() {
    const Recipe r = told;
    const auto through = [&](const char* name, const char* sentence, const char* cure, auto scores) {
      add_other(name, sentence, cure, [r, scores](const Tensor& Q, const Tensor& K, const Tensor& V) {
        return applied(weights_of(scores(Q, K), r), V);
      });
    };
    const char* transposing = "multiply Q by K with its last two axes exchanged";
    if (s.Tk() != s.Q.shape(3))   // else it is the same as no transposing at all
      through("K viewed", "K is reshaped to [d_k, T] instead of transposed", transposing,
              [](const Tensor& Q, const Tensor& K) {
                return matmul(Q, shared(reshape(K, {1, K.shape(1), K.shape(3), K.shape(2)}), Q.shape(1)));
              });
    else
      through("K not transposed", "Q is multiplied by K itself", transposing,
              [](const Tensor& Q, const Tensor& K) { return matmul(Q, shared(K, Q.shape(1))); });
    if (s.Tq() == s.Tk())
      through("Q and K exchanged", "the scores are those of keys against queries", "scores are Q K^T",
              [](const Tensor& Q, const Tensor& K) { return transpose(products(Q, K), -1, -2); });
    if (s.K.shape(3) == s.V.shape(3))
      add_other(
          "K and V exchanged", "keys and values are exchanged", "scores are Q K^T, the output is P V",
          [r](const Tensor& Q, const Tensor& K, const Tensor& V) { return applied(weights_of(products(Q, V), r), K); });
  }

  void wrong_heads() {
    const Recipe r = told;
    if (s.heads() > 1 && s.heads() == s.kv_heads()) {
      const char* cure = "after reshape to [B, T, heads, d] exchange axes 1 and 2, and back before joining the heads";
      add_other("heads split without transpose", "heads are split by a reshape alone, so that each mixes tokens", cure,
                [r](const Tensor& Q, const Tensor& K, const Tensor& V) {
                  const Attended a =
                      applied(weights_of(products(split_wrongly(Q), split_wrongly(K)), r), split_wrongly(V));
                  return Attended{a.weights, joined_wrongly(a.output)};
                });
    }
    if (s.heads() > 1)
      add_other("heads joined without transpose", "heads are joined by a reshape alone, so that tokens mix",
                "exchange axes 1 and 2 before joining the heads",
                [r](const Tensor& Q, const Tensor& K, const Tensor& V) {
                  const Attended a = applied(weights_of(products(Q, K), r), V);
                  return Attended{a.weights, joined_wrongly(a.output)};
                });
    if (s.kv_heads() < s.heads() && s.kv_heads() > 1)
      add_other("groups in turn", "query head h reads key head h mod kv_heads, not h / group",
                "repeat each key head for its group (repeat_interleave), not all of them in turn (tile)",
                [r](const Tensor& Q, const Tensor& K, const Tensor& V) {
                  const auto heads = Q.shape(1);
                  const Tensor scores = matmul(Q, shared(K, heads, Groups::in_turn), {.transpose_b = true});
                  return applied(weights_of(scores, r), shared(V, heads, Groups::in_turn));
                });
  }
};

}  // namespace

std::vector<Formula> formulas_for(const Specimen& s) {
  Recipe told{
      .factor = s.scale.factor(s.Q.shape(3), s.Tk()), .visible = visible_in(s), .bias = s.bias, .soft_cap = s.soft_cap};
  Book book{s, told};
  book.add("as told", "attention as it was told", "", told);
  book.scales();
  book.masks();
  book.weighings();
  book.wrong_products();
  book.wrong_heads();
  return std::move(book.all);
}

}  // namespace surgeon::detail
