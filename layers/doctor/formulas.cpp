#include "layers/doctor/formulas.hpp"

#include <cmath>

#include "layers/doctor/recipe.hpp"
#include "layers/masks.hpp"
#include "layers/positions.hpp"

namespace surgeon::detail {

namespace {

struct Book {
  const Specimen& s;
  Recipe told;
  std::vector<Formula> all = {};

  void add(const std::string& name, const std::string& sentence, const std::string& cure, const Recipe& r,
           bool lawful = true) {
    all.push_back(
        {name, sentence, cure, r.factor, r.soft_cap, lawful,
         [r](const Tensor& Q, const Tensor& K, const Tensor& V) { return applied(weights_of(products(Q, K), r), V); }});
  }
  template <class Attend>
  void add_other(const std::string& name, const std::string& sentence, const std::string& cure, const Attend& attend) {
    all.push_back({name, sentence, cure, told.factor, told.soft_cap, false, attend});
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
    with("divisor sqrt(T)", "the scores are divided by the root of the number of keys", 1 / std::sqrt(double(s.Tk())));
    with("sign", "the scores have the wrong sign", -told.factor);
  }

  // A factor made for the weights: only where nothing else explains them.
  void fitted_scale() {
    if (s.weights.empty() || told.soft_cap > 0) return;
    Recipe r = told;
    r.factor = fitted_factor(s, told);
    if (!std::isfinite(r.factor)) return;
    add("another scale", "the scores are multiplied by " + std::to_string(r.factor),
        "say with --scale what is meant, or multiply by 1/sqrt(d_k)", r);
    all.back().last_resort = true;
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

  // Of a mask and the causal rule or window, only one, or either instead of both.
  void joined_masks() {
    if (s.window > 0)
      for (const std::int64_t by : {1, -1}) {
        Specimen other = s;
        other.window += by;
        if (other.window > 0)
          mask(by > 0 ? "window one wider" : "window one narrower",
               std::string("the window is one key ") + (by > 0 ? "wider" : "narrower") + " than was told",
               visible_in(other));
      }
    if (s.mask.empty() || (!s.causal && s.window == 0)) return;
    Specimen alone = s;
    alone.mask = Tensor();
    const Tensor places = visible_in(alone);
    mask("padding mask ignored", "the mask is not applied, the causal rule is", places);
    mask("padding mask inverted", "the mask hides what it should show; the causal rule is applied",
         both(places, !s.mask));
    mask("causal rule ignored", "the mask is applied, the causal rule is not", s.mask);
    mask("either mask", "keys are seen that the mask or the causal rule allows, not both", s.mask || places);
  }

  void masks() {
    const Tensor& v = told.visible;
    if (!s.causal && s.Tq() > 1) {
      const auto with = [&](const Tensor& places) { return v.empty() ? places : both(v, places); };
      mask("causal mask", "a causal mask is applied, although none was told (--causal)", with(lower(0)));
      if (s.Tq() != s.Tk())
        mask("causal mask", "a causal mask that starts at the first key is applied, although none was told",
             with(lower(s.Tk() - s.Tq())));
    }
    if (v.empty()) return;
    joined_masks();
    mask("mask ignored", "the mask is not applied", Tensor());
    mask("mask inverted", "the mask hides what it should show", !v);
    if (v.shape(-1) == s.Tk() && s.Tk() > 1) {
      mask("mask one ahead", "the mask is shifted: each query sees one key too many", one_more(v));
      const Tensor less = one_less(v), lone = v && !any(less, Over{{-1}, true});   // a row may keep its only key
      mask("mask one behind", "the mask is shifted: each query sees one key too few", less);
      mask("mask one behind", "the mask is shifted: each query sees one key too few, but for those with one",
           less || lone);
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

  void biases() {
    const auto with = [&](const char* name, const char* sentence, const Tensor& bias) {
      Recipe r = told;
      r.bias = bias;
      add(name, sentence, "score = c q . k + bias, once", r);
    };
    if (told.soft_cap > 0) {
      Recipe r = told;
      r.soft_cap = 0;
      add("cap ignored", "the scores are not capped", "cap the scores by soft_cap * tanh(s / soft_cap)", r);
    } else
      for (const double cap : {20.0, 30.0, 50.0}) {
        Recipe r = told;
        r.soft_cap = cap;
        add("soft cap", "the scores are capped at " + std::to_string(std::int64_t(cap)) + ", which was not told",
            "say it: --soft-cap " + std::to_string(std::int64_t(cap)), r);
      }
    if (s.bias.empty()) return;
    with("bias ignored", "the bias is not added", Tensor());
    with("bias added twice", "the bias is added twice", s.bias * 2.0);
    with("sign of the bias", "the bias has the wrong sign", -s.bias);
    with("bias scaled", "the bias is added before the scale, not after", s.bias * told.factor);
    if (s.bias.shape(-1) == s.bias.shape(-2))
      with("bias transposed", "queries and keys are exchanged in the bias", transpose(s.bias, -1, -2));
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
    if (s.Tq() == s.Tk())
      add_other("weights transposed", "the output is P^T V", "the output is P V",
                [r](const Tensor& Q, const Tensor& K, const Tensor& V) {
                  const Tensor P = weights_of(products(Q, K), r);
                  return Attended{P, applied(transpose(P, -1, -2), V).output};
                });
    if (s.K.shape(3) == s.V.shape(3))
      add_other(
          "K and V exchanged", "keys and values are exchanged", "scores are Q K^T, the output is P V",
          [r](const Tensor& Q, const Tensor& K, const Tensor& V) { return applied(weights_of(products(Q, V), r), K); });
  }

  // Attention of other queries, keys or values than those given.
  template <class Change>
  void of_changed(const char* name, const std::string& sentence, const std::string& cure, const Change& change) {
    const Recipe r = told;
    add_other(name, sentence, cure, [r, change](Tensor Q, Tensor K, Tensor V) {
      change(Q, K, V);
      return applied(weights_of(products(Q, K), r), V);
    });
  }

  void wrong_inputs() {
    if (s.Q.shape(3) % 2 == 0 && s.Tk() > 1)
      for (const RotaryPairs pairs : {RotaryPairs::halves, RotaryPairs::interleaved})
        of_changed("rotary positions",
                   "queries and keys are rotated by their positions (rotary) after Q and K were taken",
                   "take Q and K after the rotation", [pairs, first = s.Tk() - s.Tq()](Tensor& Q, Tensor& K, Tensor&) {
                     Q = rotary(Q, {.first = std::max<std::int64_t>(first, 0), .pairs = pairs});
                     K = rotary(K, {.pairs = pairs});
                   });
    for (const std::int64_t by : {1, -1}) {
      const std::string where = by > 0 ? "the one before" : "the one after";
      of_changed("keys shifted", "each key is " + where, "write keys into the cache at their own place",
                 [by](Tensor&, Tensor& K, Tensor&) { K = roll(K, by, 2); });
      of_changed("values shifted", "each value is " + where, "write values into the cache at their own place",
                 [by](Tensor&, Tensor&, Tensor& V) { V = roll(V, by, 2); });
    }
    if (s.Q.shape() != s.K.shape()) return;
    of_changed("Q twice", "the scores are Q Q^T", "scores are Q K^T", [](Tensor& Q, Tensor& K, Tensor&) { K = Q; });
    of_changed("K twice", "the scores are K K^T", "scores are Q K^T", [](Tensor& Q, Tensor& K, Tensor&) { Q = K; });
    if (s.heads() > 1)
      of_changed("heads interleaved", "heads are cut as [d, heads], not [heads, d], out of the last axis",
                 "reshape to [B, T, heads, d]",
                 [](Tensor& Q, Tensor& K, Tensor& V) { Q = interleaved(Q), K = interleaved(K), V = interleaved(V); });
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

}   // namespace

std::vector<Formula> formulas_for(const Specimen& s) {
  Recipe told{
      .factor = s.scale.factor(s.Q.shape(3), s.Tk()), .visible = visible_in(s), .bias = s.bias, .soft_cap = s.soft_cap};
  if (s.weighting == Weighting::off_by_one) told.weigh = Weigh::off_by_one;
  Book book{s, told};
  book.add("as told", "attention as it was told", "", told);
  book.scales();
  book.masks();
  book.weighings();
  book.biases();
  book.wrong_products();
  book.wrong_inputs();
  book.wrong_heads();
  book.fitted_scale();
  return std::move(book.all);
}

}   // namespace surgeon::detail
