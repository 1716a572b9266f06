// Somebody else's attention on the table: where its gradient goes, head by head, on one page.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include <fmt/format.h>

#include "experiments/inspect/measure.hpp"
#include "experiments/inspect/page.hpp"
#include "experiments/specimen_files.hpp"
#include "framework/serialize.hpp"

namespace surgeon::experiments {
namespace {

using surgeon::inspect::HeadMeasures;
using surgeon::inspect::HeadRow;
using surgeon::inspect::Look;
using surgeon::inspect::Story;

struct Knobs {
  SpecimenFiles files;
  std::int64_t sequence = 0;
  Look look;
  std::string tokens;
  std::vector<std::string> words;   // of tokens
};

void check(Knobs& k);

void options(Options& o, Knobs& k) {
  add_options(o, k.files);
  o.add("--sequence", k.sequence, "which of the batch", {.low = 0});
  o.add("--tokens", k.tokens, "labels for the keys: words, or a file with words; as many as there are keys");
  o.add("--cells", k.look.cells, "largest number of rows and columns of a drawn map", {.low = 2, .high = 256});
  o.add("--from", k.look.from, "draw the maps from this token on, each token as it is; -1: all, made coarser",
        {.low = -1});
  o.add("--draws", k.look.draws, "random upstream gradients where the file has no dO", {.low = 1, .high = 64});
  o.before_check([&k] { check(k); });
}

std::vector<std::string> labels(const std::string& given) {
  if (given.empty()) return {};
  constexpr std::uint64_t longest = 16 << 20;   // bytes of words
  std::error_code too_long;   // for a name; words then
  const std::string text = std::filesystem::is_regular_file(given, too_long) ? read_file(given, longest) : given;
  return words_of(text);
}

// Once the files have been read.
void check(Knobs& k) {
  if (k.files.sequences == 0) return;   // there are no files
  check_sequence(k.files, k.sequence);
  k.words = labels(k.tokens);
  if (!k.words.empty() && std::ssize(k.words) != k.files.keys)
    throw UsageError(fmt::format("--tokens has {} words but there are {} keys", k.words.size(), k.files.keys));
}

// Every head of one sequence of every layer.
std::vector<HeadMeasures> measured(Lab& lab, const Knobs& k, const std::vector<Specimen>& specimens) {
  struct Place {
    const Specimen* s;
    std::int64_t head;
    std::string name;
  };
  std::vector<Place> places;
  for (const Specimen& s : specimens)
    for (std::int64_t h = 0; h < s.heads(); ++h)
      places.push_back({&s, h, (s.name.empty() ? "" : s.name + ".") + std::to_string(h)});
  std::vector<HeadMeasures> all(places.size());
  lab.for_each(std::int64_t(places.size()), "heads", [&](std::int64_t i) {
    const Place& p = places[std::size_t(i)];
    all[std::size_t(i)] = measure(one_head(*p.s, k.sequence, p.head), p.name, k.look, lab.rng(std::uint64_t(i)));
  });
  return all;
}

void write_row(Lab& lab, const HeadMeasures& m, const HeadRow& r) {
  lab.row({{"head", r.name},
           {"dead_rows", r.dead},
           {"zero_gradient_queries", r.zero},
           {"jacobian_median", r.jacobian},
           {"entropy_share", r.entropy},
           {"largest_score", r.largest},
           {"top_share", r.top},
           {"gini", r.gini},
           {"value_share", r.sink},
           {"value_share_at", r.sink_at},
           {"value_share_by_weights", r.sink_expected},
           {"output_rank", r.output_rank},
           {"weights_off", m.weights_off},
           {"output_off", m.output_off},
           {"dQ_off", m.dQ_off},
           {"dK_off", m.dK_off},
           {"dV_off", m.dV_off}});
}

// Every number for each query and key, for whoever wants to draw or compare them.
void write_positions(Lab& lab, const std::vector<HeadMeasures>& heads) {
  std::string text = "head,position,entropy,largest_score,jacobian,dQ,dK,dV,value_share_by_weights\n";
  for (const HeadMeasures& m : heads) {
    const double all = std::accumulate(m.dV_expected.begin(), m.dV_expected.end(), 0.0);
    for (std::size_t i = 0; i < std::max(m.dQ.size(), m.dK.size()); ++i) {
      text += csv_field(m.name) + "," + std::to_string(i);
      for (const auto* x : {&m.entropy, &m.largest, &m.jacobian, &m.dQ, &m.dK, &m.dV})
        text += "," + (i < x->size() ? precise((*x)[i]) : "");
      text += "," + (i < m.dV_expected.size() ? precise(m.dV_expected[i] / all) : "") + "\n";
    }
  }
  lab.write("positions.csv", text);
}

std::vector<std::string> found(const std::vector<HeadRow>& rows, bool causal, std::int64_t Tk) {
  const HeadRow& worst = rows.front();
  const auto dead = std::count_if(rows.begin(), rows.end(), [](const HeadRow& r) { return r.dead > 0.5; });
  const std::string most = dead == 0 ? "No head has lost most of its queries"
                                     : std::to_string(dead) + " of " + std::to_string(rows.size()) +
                                           " heads have lost most of their queries to saturation";
  const HeadRow& sink = *std::max_element(rows.begin(), rows.end(), [](auto& a, auto& b) { return a.sink < b.sink; });
  std::string second = "The values' gradient is most concentrated in head " + sink.name + ": key " +
                       std::to_string(sink.sink_at) + " has " + percent(sink.sink) +
                       " of it, where the weights alone give " + percent(sink.sink_expected);
  if (causal)
    second += " and a causal mask with equal weights " + percent(inspect::causal_shares(Tk)[std::size_t(sink.sink_at)]);
  return {most + "; the worst is head " + worst.name + ", where " + percent(worst.dead) +
              " of the queries have a softmax Jacobian below 0.001 and the top tenth hold " + percent(worst.top) +
              " of the squared gradient.",
          second + "."};
}

std::vector<std::string> notes(const Knobs& k, const std::vector<Specimen>& specimens) {
  const bool given = specimens[0].dO.defined();
  return {given ? "The upstream gradient dL/dO is the one given: of the file, or of the model's loss."
                : "There is no upstream gradient dO: norms are root mean squares over " +
                      std::to_string(k.look.draws) + " random ones from N(0,1), and dL/dscores is that of the first.",
          "Dead rows: queries that see at least two keys and whose softmax Jacobian has a Frobenius norm below 0.001. "
          "Top 10 % and Gini are of the squared gradient norms of the queries.",
          k.look.from < 0
              ? "Maps with more than " + std::to_string(k.look.cells) +
                    " rows or columns are made coarser: a cell holds its entry of largest size. --from shows "
                    "tokens one by one."
              : "Maps show " + std::to_string(k.look.cells) + " tokens from " + std::to_string(k.look.from) +
                    " on. All other numbers are of the whole sequence.",
          "\"By weights alone\" is what upstream gradients that are random and independent give each value: "
          "sum_i A_ij^2 / sum_ij A_ij^2. Rank of output: the exponential of the entropy of its singular values.",
          "Maps are drawn for the eight worst heads; metrics.csv has a row for each head, positions.csv a row for each "
          "head and position."};
}

void say_differences(Lab& lab, const std::vector<HeadMeasures>& heads) {
  Table table{
      "Theirs against ours: largest difference over the largest number", {"tensor", "worst head", "difference"}, {}};
  for (const auto& [name, part] : {std::pair{"weights", &HeadMeasures::weights_off},
                                   {"output", &HeadMeasures::output_off},
                                   {"dQ", &HeadMeasures::dQ_off},
                                   {"dK", &HeadMeasures::dK_off},
                                   {"dV", &HeadMeasures::dV_off}}) {
    const HeadMeasures* worst = nullptr;
    for (const HeadMeasures& m : heads)
      if (!std::isnan(m.*part) && (!worst || m.*part > worst->*part)) worst = &m;
    if (!worst) continue;
    table.rows.push_back({name, worst->name, number(worst->*part)});
    lab.result(std::string(name) + "_off", worst->*part);
  }
  if (!table.rows.empty()) lab.show(table);
}

Story story_of(const Knobs& k, const Subject& subject) {
  const std::vector<Specimen>& specimens = subject.layers;
  const Specimen& first = specimens[0];
  return {.title = "Attention in " + (k.files.file.empty() ? std::string("the tensors given") : k.files.file),
          .facts = std::to_string(specimens.size()) + (specimens.size() == 1 ? " layer; Q " : " layers; Q ") +
                   to_string(first.Q.shape()) + ", K " + to_string(first.K.shape()) + ", V " +
                   to_string(first.V.shape()) + ", " + to_string(first.Q.dtype()) + "; sequence " +
                   std::to_string(k.sequence) + ". " + subject.about,
          .sentences = {},
          .notes = notes(k, specimens),
          .tokens = !k.words.empty() || subject.words.empty() ? k.words : subject.words[std::size_t(k.sequence)],
          .causal = first.causal && first.Tq() == first.Tk(),
          .look = k.look};
}

// The worst first: most dead rows, then most gradient in few queries.
void sort_by_badness(std::vector<HeadMeasures>& heads) {
  const auto badness = [](const HeadMeasures& m) {
    const HeadRow r = row_of(m);
    return std::pair{r.dead, std::isnan(r.top) ? 2.0 : r.top};
  };
  std::stable_sort(heads.begin(), heads.end(), [&](auto& a, auto& b) { return badness(a) > badness(b); });
}

std::vector<HeadRow> show_heads(Lab& lab, const std::vector<HeadMeasures>& heads) {
  constexpr std::size_t shown = 16;
  std::vector<HeadRow> rows;
  Table table{"Heads, the worst first", {}, {}};
  table.header = {"head", "dead", "median |J|", "entropy/ln n", "largest", "top 10 %", "dV sink"};
  for (const HeadMeasures& m : heads) {
    const HeadRow& r = rows.emplace_back(row_of(m));
    write_row(lab, m, r);
    if (rows.size() <= shown)
      table.rows.push_back({r.name, percent(r.dead), number(r.jacobian), fixed(r.entropy, 3), number(r.largest),
                            percent(r.top), percent(r.sink) + " @" + std::to_string(r.sink_at)});
  }
  lab.show(table);
  return rows;
}

void run(Lab& lab, const Knobs& k) {
  const Subject subject = opened(lab, k.files);
  const std::vector<Specimen>& specimens = subject.layers;
  Story story = story_of(k, subject);
  std::vector<HeadMeasures> heads = measured(lab, k, specimens);
  sort_by_badness(heads);
  const std::vector<HeadRow> rows = show_heads(lab, heads);
  write_positions(lab, heads);
  say_differences(lab, heads);
  story.sentences = found(rows, story.causal, specimens[0].Tk());
  for (const std::string& sentence : story.sentences) lab.verdict(sentence);
  write_page(lab, story, heads, rows);
  lab.say("The page: " + lab.file("report.html").string());
}

}  // namespace

Experiment inspect() {
  return {
      "inspect",
      "Where does the gradient of somebody else's attention go?",
      "Varied: nothing; give it Q, K, V from any framework, with the upstream gradient dO if there is one. Measured: "
      "for each head and query, the weights' entropy, the largest score, the norm of the softmax Jacobian and the "
      "gradient; the gradient of each key and value; how far given weights, output and gradients are from ours. It "
      "leaves report.html, a page with figures. Look at dead rows, and at the share that one key has of dL/dV.",
      {"surgeon inspect attention.npz --layout BHTd --causal", "surgeon inspect runs/one",
       "surgeon inspect model.pt --heads 4 --input tokens.npy"},
      knobs<Knobs>(options, run),
      false};
}

}  // namespace surgeon::experiments
