// Where did the gradient go? Each factor of the chain rule through attention, in decades.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "experiments/figures.hpp"
#include "experiments/specimen_files.hpp"
#include "layers/anatomy.hpp"

namespace surgeon::experiments {
namespace {

struct Knobs {
  SpecimenFiles files{.may_be_missing = true};
  RandomHeads random{.d_k = 256};
};

void options(Options& o, Knobs& k) {
  add_options(o, k.files);
  add_random_options(o, k.random, k.files);
}

// ---- What lies on the table ----------------------------------------------------------------------------------------
struct Head {
  std::size_t layer;
  std::int64_t head;
  Anatomy anatomy;
};

std::vector<Head> dissected(Lab& lab, const Knobs& k, const std::vector<Specimen>& layers) {
  std::vector<Head> heads;
  for (std::size_t i = 0; i < layers.size(); ++i)
    for (std::int64_t h = 0; h < layers[i].heads(); ++h) heads.push_back({i, h, {}});
  lab.for_each(std::ssize(heads), "heads", [&](std::int64_t i) {
    Head& head = heads[std::size_t(i)];
    head.anatomy = anatomy(one_head(layers[head.layer], k.random.sequence, head.head));
  });
  return heads;
}

// ---- One layer -----------------------------------------------------------------------------------------------------
constexpr std::array<std::pair<const char*, Ledger Anatomy::*>, 3> ledgers{
    {{"dQ", &Anatomy::queries}, {"dK", &Anatomy::keys}, {"dV", &Anatomy::values}}};

// A ledger of many heads. Typical: the mean over rows whose gradient is not 0, so that the factors still sum to the
// total. Whole: of the norm over all heads, each of whose factors is a ratio of sums of squares.
struct Entry { std::string name; double typical = 0, whole = 0; };
struct Sum {
  std::vector<Entry> factors;
  double typical = 0, whole = 0;   // totals
  std::int64_t rows = 0, zero = 0;
};

Sum sum_of(const std::vector<const Ledger*>& all) {
  Sum sum;
  for (const Factor& f : all[0]->factors) sum.factors.push_back({f.name});
  std::vector<double> squares(all[0]->factors.size(), 0.0);   // of the norm after each factor
  for (const Ledger* ledger : all) {
    double so_far = 0;
    for (std::size_t f = 0; f < squares.size(); ++f) {
      so_far += ledger->factors[f].whole;
      squares[f] += std::pow(10, 2 * so_far);
    }
    for (std::size_t i = 0; i < ledger->total.size(); ++i) {
      ++sum.rows;
      if (!std::isfinite(ledger->total[i])) {
        ++sum.zero;
        continue;
      }
      sum.typical += ledger->total[i];
      for (std::size_t f = 0; f < squares.size(); ++f) sum.factors[f].typical += ledger->factors[f].rows[i];
    }
  }
  const double counted = double(sum.rows - sum.zero);
  sum.typical /= counted;
  double before = 1;
  for (std::size_t f = 0; f < squares.size(); ++f) {
    sum.factors[f].typical /= counted;
    sum.factors[f].whole = before == 0 ? 0 : 0.5 * std::log10(squares[f] / before);
    before = squares[f];
  }
  sum.whole = 0.5 * std::log10(before);
  return sum;
}

struct Layer {
  std::string name;
  std::array<Sum, 3> sums;               // of dQ, dK, dV
  std::map<Death, std::int64_t> deaths;
};

std::vector<Layer> layers_of(const std::vector<Specimen>& specimens, const std::vector<Head>& heads) {
  std::vector<Layer> layers;
  for (std::size_t i = 0; i < specimens.size(); ++i) {
    Layer layer{shown_name(specimens[i]), {}, {}};
    for (std::size_t l = 0; l < ledgers.size(); ++l) {
      std::vector<const Ledger*> own;
      for (const Head& h : heads)
        if (h.layer == i) own.push_back(&(h.anatomy.*ledgers[l].second));
      layer.sums[l] = sum_of(own);
    }
    for (const Head& h : heads)
      if (h.layer == i)
        for (const Death d : h.anatomy.deaths) ++layer.deaths[d];
    layers.push_back(std::move(layer));
  }
  return layers;
}

// ---- Rows, tables, figures -----------------------------------------------------------------------------------------
void write_rows(Lab& lab, const std::vector<Specimen>& specimens, const std::vector<Head>& heads) {
  for (const Head& h : heads)
    for (const auto& [of, part] : ledgers) {
      const Ledger& ledger = h.anatomy.*part;
      for (const Factor& f : ledger.factors)
        lab.row({{"layer", specimens[h.layer].name}, {"head", h.head}, {"of", of}, {"factor", f.name},
                 {"decades", f.whole}});
      lab.row({{"layer", specimens[h.layer].name}, {"head", h.head}, {"of", of}, {"factor", "total"},
               {"decades", ledger.whole}});
    }
}

void write_ledger(Lab& lab, const std::vector<Specimen>& specimens, const std::vector<Head>& heads) {
  std::string text = "layer,head,of,row,factor,decades\n";
  for (const Head& h : heads)
    for (const auto& [of, part] : ledgers) {
      const Ledger& ledger = h.anatomy.*part;
      const std::string where = fmt::format("{},{},{}", csv_field(specimens[h.layer].name), h.head, of);
      const auto add = [&](std::size_t i, const std::string& factor, double value) {
        text += fmt::format("{},{},{},{}\n", where, i, factor, precise(value));
      };
      for (std::size_t i = 0; i < ledger.total.size(); ++i) {
        for (const Factor& f : ledger.factors) add(i, f.name, f.rows[i]);
        add(i, "total", ledger.total[i]);
      }
    }
  lab.write("ledger.csv", text);
}

std::string signed_decades(double x) { return std::isfinite(x) ? fmt::format("{:+.2f}", x) : "-"; }

void show_ledger(Lab& lab, const std::vector<Layer>& layers, std::size_t l) {
  constexpr std::size_t shown = 12;
  Table table{fmt::format("{}: log10 of its norm and where it comes from", ledgers[l].first), {"layer", "of"}, {}};
  for (const Entry& e : layers[0].sums[l].factors) table.header.push_back(e.name);
  table.header.push_back("total");
  for (std::size_t i = 0; i < std::min(layers.size(), shown); ++i)
    for (const bool typical : {true, false}) {
      const Sum& sum = layers[i].sums[l];
      std::vector<std::string> row{layers[i].name, typical ? "mean" : "norm"};
      for (const Entry& e : sum.factors) row.push_back(signed_decades(typical ? e.typical : e.whole));
      row.push_back(signed_decades(typical ? sum.typical : sum.whole));
      table.rows.push_back(row);
    }
  lab.show(table);
}

void show_deaths(Lab& lab, const std::vector<Layer>& layers) {
  Table table{"Queries by what became of them", {"layer"}, {}};
  constexpr Death all[] = {Death::alive, Death::no_choice, Death::saturation, Death::cancellation, Death::underflow};
  for (const Death d : all) table.header.push_back(name_of(d));
  for (const Layer& layer : layers) {
    std::vector<std::string> row{layer.name};
    for (const Death d : all) {
      const auto found = layer.deaths.find(d);
      row.push_back(std::to_string(found == layer.deaths.end() ? 0 : found->second));
    }
    table.rows.push_back(row);
  }
  lab.show(table);
}

Bars bars_of(const std::vector<Layer>& layers, std::size_t l, bool typical) {
  Bars bars{.title = fmt::format("{}{}", ledgers[l].first, typical ? ", mean over rows" : ", norm"), .y_label = "decades"};
  for (const Entry& e : layers[0].sums[l].factors) bars.names.push_back(e.name);
  bars.names.push_back("total");
  for (std::size_t i = 0; i < std::min<std::size_t>(layers.size(), 8); ++i) {
    Series series{.name = layers[i].name};
    for (const Entry& e : layers[i].sums[l].factors) series.y.push_back(typical ? e.typical : e.whole);
    series.y.push_back(typical ? layers[i].sums[l].typical : layers[i].sums[l].whole);
    bars.series.push_back(series);
  }
  return bars;
}

// Rows: heads, one colour for each thing that may become of a query.
Heatmap death_map(const std::vector<Specimen>& specimens, const std::vector<Head>& heads) {
  Heatmap map{.title = "0 alive, 1 no choice, 2 saturation,\n3 cancellation, 4 underflow", .x_label = "Query",
              .y_label = "Head", .low = 0, .high = 4, .decimals = -1};
  for (std::size_t i = 0; i < std::min<std::size_t>(heads.size(), 64); ++i) {
    const std::vector<Death>& own = heads[i].anatomy.deaths;
    std::vector<double> row;
    for (std::size_t q = 0; q < std::min<std::size_t>(own.size(), 256); ++q) row.push_back(double(own[q]));
    map.values.push_back(row);
    map.y_ticks.push_back(fmt::format("{} {}", specimens[heads[i].layer].name, heads[i].head));
  }
  return map;
}

void draw(Lab& lab, const std::vector<Specimen>& specimens, const std::vector<Layer>& layers,
          const std::vector<Head>& heads) {
  for (const bool typical : {true, false}) {
    Figure figure{.name = typical ? "ledger" : "ledger_of_norms",
                  .title = typical ? "Where the typical row's gradient goes" : "Where the gradient's norm comes from",
                  .columns = 1};
    for (const std::size_t l : {0, 1, 2}) figure.panels.push_back(bars_of(layers, l, typical));
    lab.draw(figure);
  }
  const auto same = [&](const Specimen& s) { return s.Tq() == specimens[0].Tq(); };
  if (std::all_of(specimens.begin(), specimens.end(), same))
    lab.draw({.name = "deaths", .title = "What became of each query", .panels = {death_map(specimens, heads)}});
}

// The factor in which a layer's typical query loses most, and how its norm fares.
std::string sentence_of(const Layer& layer) {
  const Sum& q = layer.sums[0];
  const auto worst = std::min_element(q.factors.begin() + 1, q.factors.end(),
                                      [](const Entry& a, const Entry& b) { return a.typical < b.typical; });
  std::int64_t dead = 0;
  for (const auto& [death, count] : layer.deaths)
    if (death >= Death::saturation) dead += count;
  return fmt::format("In {} the typical query loses most in the factor \"{}\", {} decades; its gradient is 10^{:.1f}, the "
                     "root mean square 10^{:.1f}, and {} of {} queries are dead.", layer.name, worst->name,
                     signed_decades(worst->typical), q.typical, q.whole - 0.5 * std::log10(double(q.rows)), dead, q.rows);
}

void run(Lab& lab, const Knobs& k) {
  for (const std::string& sentence : k.files.ignored) lab.warn(sentence);
  const Subject subject = with_upstream(lab, k.files, k.random);
  const std::vector<Head> heads = dissected(lab, k, subject.layers);
  const std::vector<Layer> layers = layers_of(subject.layers, heads);
  write_rows(lab, subject.layers, heads);
  write_ledger(lab, subject.layers, heads);
  for (std::size_t l = 0; l < ledgers.size(); ++l) show_ledger(lab, layers, l);
  show_deaths(lab, layers);
  draw(lab, subject.layers, layers, heads);
  for (std::size_t i = 0; i < std::min<std::size_t>(layers.size(), 4); ++i) lab.verdict(sentence_of(layers[i]));
}

}  // namespace

Experiment anatomy_of_the_gradient() {
  return {"anatomy",
          "Where did the gradient go, factor by factor of the chain rule?",
          "Varied: without a file, the scale; with one, nothing: tensors, weights or a run, as for inspect. Measured: "
          "log10 of the norm of dL/dQ, dL/dK and dL/dV, as the sum of its factors: upstream, value contrast, softmax "
          "Jacobian, scale, keys, and the layer's input where it is known; the mean over rows (the typical one), and the "
          "norm of all. Look at the Jacobian in the mean, then at the scale in the norm. Queries die by saturation, by "
          "cancellation in float32, or by underflow.",
          {"surgeon anatomy", "surgeon anatomy runs/one", "surgeon anatomy attention.npz --layout BHTd --causal"},
          knobs<Knobs>(options, run)};
}

}  // namespace surgeon::experiments
