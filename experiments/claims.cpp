// What theory and papers say about attention's gradients, each claim measured beside its prediction.
#include "experiments/claims.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "experiments/figures.hpp"
#include "experiments/lab.hpp"

namespace surgeon::experiments {
namespace {

using claims::Claim;
using claims::Draws;
using claims::Reading;
using claims::Verdict;

struct Knobs {
  std::vector<std::int64_t> only{0};
  std::int64_t seeds = 20000;
};

std::vector<std::int64_t> numbers() {
  std::vector<std::int64_t> all;
  for (const Claim& c : claims::all()) all.push_back(c.number);
  return all;
}

void options(Options& o, Knobs& k) {
  o.add("--only", k.only, "claims to measure, by number; 0: all");
  o.add("--seeds", k.seeds, "random draws for each number", {.low = 2, .high = 1e8, .quick = "2000"});
  o.before_check([&k] {
    const std::vector<std::int64_t> all = numbers();
    if (k.only == std::vector<std::int64_t>{0}) k.only = all;
    for (const std::int64_t number : k.only)
      if (std::find(all.begin(), all.end(), number) == all.end())
        throw UsageError(fmt::format("--only {}: there are the claims {}", number, fmt::join(all, ", ")));
  });
}

const char* name_of(Verdict verdict) {
  return verdict == Verdict::agrees ? "agrees" : verdict == Verdict::differs ? "differs" : "out of range";
}

Verdict verdict_of(const std::vector<Reading>& readings) {
  Verdict worst = Verdict::agrees;
  for (const Reading& r : readings)
    if (r.verdict() != Verdict::agrees) worst = r.verdict();
  return worst;
}

void show(Lab& lab, const Claim& claim, const std::vector<Reading>& readings) {
  Table table{"", {"measured quantity", "predicted", "measured", "error", "z", "verdict"}, {}};
  for (const Reading& r : readings) {
    lab.row({{"claim", std::int64_t{claim.number}}, {"what", r.what}, {"bound", r.is_bound}, {"predicted", r.predicted},
             {"measured", r.measured}, {"error", r.error}, {"z", r.z()}, {"verdict", name_of(r.verdict())}});
    table.rows.push_back({r.what, (r.is_bound ? "<= " : "") + number(r.predicted, 4), number(r.measured, 4),
                          number(r.error, 2), fixed(r.z(), 1), name_of(r.verdict())});
  }
  lab.say(fmt::format("{}. {}. ({})", claim.number, claim.says, claim.source));
  lab.show(table);
  if (verdict_of(readings) != Verdict::agrees && !claim.note.empty()) lab.say(claim.note + "\n");
}

// The readings of a claim that lie on one curve: what is predicted as a line, what is measured as points with errors.
void add_panel(Figure& figure, const Claim& claim, const std::vector<Reading>& readings) {
  Series predicted{.name = "predicted", .colour = 6, .dashed = true, .points = false};
  Series measured{.name = "measured", .colour = 1};
  for (const Reading& r : readings) {
    if (std::isnan(r.x)) continue;
    for (Series* s : {&predicted, &measured}) s->x.push_back(r.x);
    predicted.y.push_back(r.predicted), measured.y.push_back(r.measured);
    measured.low.push_back(r.measured - r.error), measured.high.push_back(r.measured + r.error);
  }
  if (measured.x.size() < 2) return;
  figure.panels.push_back(LineChart{.title = fmt::format("Claim {}", claim.number), .x_label = claim.x_label,
                                    .y_label = claim.y_label, .series = {predicted, measured}, .log_x = true,
                                    .log_y = true, .x_ticks = measured.x});
}

void run(Lab& lab, const Knobs& k) {
  std::vector<Claim> asked;
  for (const Claim& c : claims::all())
    if (std::find(k.only.begin(), k.only.end(), c.number) != k.only.end()) asked.push_back(c);
  std::vector<std::vector<Reading>> readings(asked.size());
  lab.for_each(std::ssize(asked), "claims", [&](std::int64_t i) {
    const Claim& c = asked[std::size_t(i)];
    readings[std::size_t(i)] = c.measure(Draws{k.seeds, lab.seed(), std::uint64_t(c.number)});
  });
  std::vector<std::string> differ;
  std::int64_t agree = 0;
  Figure figure{.name = "claims", .title = "Predicted and measured, with standard errors", .columns = 4};
  for (std::size_t i = 0; i < asked.size(); ++i) {
    show(lab, asked[i], readings[i]);
    add_panel(figure, asked[i], readings[i]);
    if (verdict_of(readings[i]) == Verdict::agrees) ++agree;
    else differ.push_back(std::to_string(asked[i].number));
  }
  if (!figure.panels.empty()) lab.draw(figure);
  lab.result("claims", std::ssize(asked));
  lab.result("agree", agree);
  lab.verdict(fmt::format("{} of {} claims agree with what is measured{}.", agree, asked.size(),
                          differ.empty() ? std::string() : "; not " + fmt::format("{}", fmt::join(differ, ", "))));
}

}  // namespace

Experiment claims_beside_theory() {
  return {"claims",
          "What do theory and papers say about attention's gradients, and is it so?",
          "Varied: d_k, the number of keys, the score rule, the dtype, each where a claim says something about it. "
          "Measured: each number that a claim predicts, beside the prediction, which is computed and never typed in. "
          "Look at z, the difference in standard errors (for an identity: in quarters of what rounding allows): beyond 4 "
          "the claim differs. A claim that differs is a finding, not an error.",
          {"surgeon claims --preset quick", "surgeon claims --only 4,7,35 --seeds 5000"},
          knobs<Knobs>(options, run)};
}

}  // namespace surgeon::experiments
