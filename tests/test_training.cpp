// Training: that the tasks ask what they say, that looking changes nothing, and that a run which stops goes on to the
// same bits, also when it was killed.
#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "experiments/list.hpp"
#include "experiments/training.hpp"
#include "framework/diagnostics.hpp"
#include "framework/machine.hpp"
#include "framework/probe.hpp"
#include "framework/serialize.hpp"
#include "tests/folder.hpp"

using namespace surgeon;
using surgeon::tests::equal;
using surgeon::tests::Folder;
using surgeon::tests::read_bytes;
using surgeon::tests::write_bytes;
namespace fs = std::filesystem;

namespace {

TrainKnobs tiny(const std::string& task = "copy") {
  TrainKnobs k;
  k.task = task;
  k.tokens = 8;
  k.symbols = 6;
  k.d_model = 8;
  k.heads = 2;
  k.batch = 4;
  k.warmup = 3;
  k.dropout = 0.1;
  k.outliers = 20.0;
  return k;
}

Trainer trainer_of(const TrainKnobs& k, std::uint64_t seed = 1) {
  const Task task = make_task(k.task, {.tokens = k.tokens, .symbols = k.symbols, .file = k.file});
  return Trainer(k, task, seed, Dtype::float32);
}

Parameters copy_of(const Parameters& parameters) {
  Parameters copy;
  for (const auto& [name, value] : parameters) copy.add(name, value.detach());
  return copy;
}

struct Said { int exit; std::string out, err; };
Said surgeon_says(const std::vector<std::string>& words) {
  std::ostringstream out, err;
  const int exit = surgeon_command(all_experiments(), words, out, err);
  return {exit, out.str(), err.str()};
}

std::vector<std::string> train_words(const Folder& folder, const std::string& out, std::vector<std::string> more) {
  std::vector<std::string> words{"train", "copy", "--tokens", "8", "--symbols", "6", "--d-model", "8", "--heads", "2",
                                 "--batch", "4", "--threads", "1", "--look-every", "5", "--dropout", "0.1", "--quiet",
                                 "--out", (folder / out).string()};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

}  // namespace

TEST_SUITE("training") {

TEST_CASE("each task asks what it says, of tokens that the model reads") {
  for (const std::string name : {"copy", "reverse", "sort", "induction", "majority"}) {
    CAPTURE(name);
    const std::int64_t T = 12, symbols = 7;
    const Task task = make_task(name, {.tokens = T, .symbols = symbols});
    Rng rng(3);
    const Batch batch = task.draw(rng, 20);
    REQUIRE(batch.tokens.shape() == Shape{20, T});
    for (std::int64_t b = 0; b < 20; ++b) {
      std::vector<std::int64_t> x, y;
      for (std::int64_t t = 0; t < T; ++t) {
        x.push_back(std::int64_t(batch.tokens.at({b, t})));
        y.push_back(std::int64_t(batch.targets.at({b, t})));
        CHECK(x.back() < task.vocabulary);
        if (t > 0 && y[std::size_t(t - 1)] >= 0) CHECK(y[std::size_t(t - 1)] == x.back());   // what comes next
      }
      std::vector<std::int64_t> asked;
      std::copy_if(y.begin(), y.end(), std::back_inserter(asked), [](std::int64_t token) { return token >= 0; });
      if (name == "majority") {
        CHECK(asked.size() == 1);
        CHECK(x.back() == symbols);
        for (std::int64_t s = 0; s < symbols; ++s)
          if (s != asked[0]) CHECK(std::count(x.begin(), x.end(), s) < std::count(x.begin(), x.end(), asked[0]));
      } else if (name == "induction") {
        for (std::int64_t t = 0; t < T; ++t) {   // asked exactly where the symbol was read before, then as it went on
          const auto before = std::find(x.begin(), x.begin() + t, x[std::size_t(t)]);
          CHECK((y[std::size_t(t)] >= 0) == (before != x.begin() + t));
          if (y[std::size_t(t)] >= 0) CHECK(y[std::size_t(t)] == *(before + 1));
        }
      } else {
        std::vector<std::int64_t> expected(x.begin(), x.begin() + T / 2);
        if (name == "reverse") std::reverse(expected.begin(), expected.end());
        if (name == "sort") std::sort(expected.begin(), expected.end());
        CHECK(asked == expected);
        CHECK(x[std::size_t(T / 2)] == symbols);
      }
    }
  }
}

TEST_CASE("majority: one symbol is more frequent than every other, of 2 symbols or of 1,000,000") {
  for (const std::int64_t symbols : {1, 2, 100000, 1000000}) {
    CAPTURE(symbols);
    const Task task = make_task("majority", {.tokens = 32, .symbols = symbols});
    Rng rng(4);
    const Batch batch = task.draw(rng, 64);
    for (std::int64_t b = 0; b < 64; ++b) {
      std::map<double, int> counts;
      for (std::int64_t t = 0; t < 31; ++t) ++counts[batch.tokens.at({b, t})];
      const double answer = batch.targets.at({b, 31});
      for (const auto& [token, count] : counts)
        if (token != answer) CHECK(count < counts[answer]);
    }
  }
}

TEST_CASE("text: characters, not bytes; the held-out tenth is not trained on; bytes where it is no UTF-8") {
  const Folder folder;
  std::string text;
  for (int i = 0; i < 90; ++i) text += "aé";
  for (int i = 0; i < 10; ++i) text += "z€";
  write_bytes(folder / "text", text);
  const Task task = make_task("text", {.tokens = 8, .file = (folder / "text").string()});
  CHECK(task.vocabulary == 4);
  CHECK(task.show(1) + task.show(2) + task.show(3) == "zé€");
  CHECK(task.note.empty());
  Rng rng(1);
  CHECK(max(task.draw(rng, 50).targets).item() == 2.0);             // neither z nor the euro sign
  CHECK(min(task.draw_held_out(rng, 50).targets).item() == 1.0);
  write_bytes(folder / "bytes", text + "\xff");
  const Task bytes = make_task("text", {.tokens = 8, .file = (folder / "bytes").string()});
  CHECK(bytes.vocabulary == 8);
  CHECK(bytes.note.find("is not UTF-8") != std::string::npos);
  for (const char* bad : {"\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"}) {   // overlong, ..., cut off
    write_bytes(folder / "bad", text + bad);
    CHECK(!make_task("text", {.tokens = 8, .file = (folder / "bad").string()}).note.empty());
  }
}

TEST_CASE("tasks refuse what cannot be") {
  const Folder folder;
  const auto refused = [](const std::string& name, const TaskOptions& options, const char* says) {
    CHECK_THROWS_WITH_AS(make_task(name, options), doctest::Contains(says), UsageError);
  };
  refused("copy", {.tokens = 7}, "7 is odd");
  refused("induction", {.tokens = 32, .symbols = 8}, "--symbols");
  refused("copy", {.file = "x"}, "the task text only");
  refused("text", {.file = (folder / "none").string()}, "cannot be read: No such file or directory");
  refused("text", {.file = folder.path.string()}, "is not a regular file");
  write_bytes(folder / "empty", "");
  refused("text", {.file = (folder / "empty").string()}, "is empty");
  write_bytes(folder / "short", "hello");
  refused("text", {.tokens = 8, .file = (folder / "short").string()}, "has 5 characters");
}

TEST_CASE("looking at heads and gradients changes no bit of what is learnt") {
  Trainer a = trainer_of(tiny()), b = trainer_of(tiny());
  for (int i = 0; i < 6; ++i) {
    b.look();
    b.held_out();
    CHECK(a.step().loss == b.step().loss);
  }
  CHECK(equal(a.model().parameters(), b.model().parameters()));
}

TEST_CASE("a look has finite numbers for each head and each parameter, and its rows carry them") {
  Trainer trainer = trainer_of(tiny());
  const Look look = trainer.look();
  REQUIRE(look.heads.size() == 4);   // 2 layers of 2 heads
  CHECK(look.heads[3].layer == 1);
  CHECK(look.heads[3].head == 1);
  REQUIRE(look.weights.size() == trainer.model().parameters().size());
  const std::vector<Row> rows = rows_of(look);
  CHECK(rows.size() == look.heads.size() + look.weights.size());
  for (const Row& row : rows)
    for (const auto& cell : row)
      if (const double* x = std::get_if<double>(&cell.second)) CHECK_MESSAGE(std::isfinite(*x), cell.first);
  trainer.step();
  const std::vector<WeightUpdate> updates = trainer.updates();
  REQUIRE(updates.size() == look.weights.size());
  CHECK(updates[0].name == look.weights[0].name);
  CHECK(updates[0].ratio > 0);
  CHECK(rows_of(updates, 1).size() == updates.size());
}

TEST_CASE("a look's numbers of a head, which come from the fused path, are those of its scores and weights") {
  TrainKnobs k = tiny();
  for (const auto& [positions, norm, scale] : {std::tuple{"learned", "none", "sqrt"}, {"alibi", "rms", "none"},
                                               {"rotary", "l2", "learned"}}) {
    k.positions = positions, k.qk_norm = norm, k.scale = scale, k.window = 5;
    Trainer trainer = trainer_of(k);
    for (int i = 0; i < 3; ++i) trainer.step();
    const Look look = trainer.look();
    const NoRecord pause;
    Rng rng(1, (1ull << 32) + 3);   // the stream of the training data, at this step
    Probe seen("blocks.1.attention.*");
    (void)trainer.model()(trainer.task().draw(rng, k.batch).tokens);
    const Tensor scores = seen["blocks.1.attention.scores"], weights = seen["blocks.1.attention.weights"];
    const std::int64_t T = scores.shape(1);   // [B * heads, T, T]; the first row of each has one key
    std::vector<double> norms = softmax_jacobian_norm(weights), entropies = entropy(weights), own;
    double sum_of_entropies = 0;
    for (std::int64_t b = 0; b < k.batch; ++b)
      for (std::int64_t i = 1; i < T; ++i) {
        const std::size_t row = std::size_t((b * k.heads + 1) * T + i);
        own.push_back(norms[row]);
        sum_of_entropies += entropies[row];
      }
    CHECK(look.heads[3].entropy == doctest::Approx(sum_of_entropies / double(own.size())).epsilon(1e-6));
    CHECK(look.heads[3].jacobian == doctest::Approx(median(own)).epsilon(1e-5));
    CHECK(look.heads[3].dead_rows == share_below(own, 1e-3));
  }
}

TEST_CASE("roles: each head's place is found, with the weight on it and what an even spread would put there") {
  const std::int64_t T = 8;
  const std::vector<std::int64_t> x = {0, 1, 2, 3, 0, 1, 2, 3};
  const std::vector<std::string> places = {"itself", "the previous token", "3 tokens back", "the same token before",
                                           "what followed the same token", "no one place"};
  std::vector<double> weights(places.size() * T * T, 0.0);
  const auto weight = [&](std::size_t head, std::int64_t i, std::int64_t j) -> double& {
    return weights[(head * T + std::size_t(i)) * T + std::size_t(std::max<std::int64_t>(j, 0))];
  };
  for (std::int64_t i = 0; i < T; ++i) {
    weight(0, i, i) = weight(1, i, i - 1) = weight(2, i, i - 3) = 1;
    weight(3, i, i < 4 ? 0 : i - 4) = 1;
    weight(4, i, i < 4 ? 0 : i - 3) = 1;
    for (std::int64_t j = 0; j <= i; ++j) weight(5, i, j) = 1 / double(i + 1);
  }
  const std::int64_t heads = std::ssize(places);
  Attended seen{.tokens = tensor(x, {1, T}), .weights = {tensor(weights, {heads, T, T})}};
  const std::vector<HeadRole> roles = roles_of(seen, heads);
  REQUIRE(roles.size() == places.size());
  CHECK(roles[0].place == "itself");
  CHECK(roles[1].place == "the previous token");
  CHECK(roles[1].weight == 1);
  CHECK(roles[1].uniform == doctest::Approx((1 / 2.0 + 1 / 3.0 + 1 / 4.0 + 1 / 5.0 + 1 / 6.0 + 1 / 7.0 + 1 / 8.0) / 7));
  CHECK(roles[5].place == "no one place");
  // In a sequence that repeats, 3 back is what followed the same token, once there is one: both put all weight there.
  CHECK((roles[2].place == "3 tokens back" || roles[2].place == "what followed the same token"));
  CHECK((roles[3].place == "4 tokens back" || roles[3].place == "the same token before"));
  CHECK((roles[4].place == "3 tokens back" || roles[4].place == "what followed the same token"));
}

TEST_CASE("surgeon train ends with what each head attends to: a row, and a map of up to 16 heads") {
  const Folder folder;
  const std::string out = (folder.path / "a").string();
  std::ostringstream said, errors;
  REQUIRE(surgeon_command(all_experiments(), {"train", "induction", "--tokens", "8", "--symbols", "8", "--d-model", "8",
                                              "--heads", "2", "--steps", "2", "--threads", "1", "--out", out},
                          said, errors) == 0);
  const std::string rows = read_bytes(out + "/metrics.jsonl");
  for (const char* row : {"\"kind\":\"role\",\"step\":2,\"layer\":0,\"head\":1,", "\"layer\":1,\"head\":0,\"place\":\""})
    CHECK_MESSAGE(rows.find(row) != rows.npos, std::string(row));
  CHECK(said.str().find("mostly at") != std::string::npos);
  CHECK(read_bytes(out + "/figures/attention.csv").find("Layer 1 head 1") != std::string::npos);
}

TEST_CASE("accumulated batches give the gradient of the mean over all their targets, however many each asks for") {
  TrainKnobs k = tiny();
  k.dropout = 0.0;
  k.optimizer = "sgd";
  const Task copy = make_task("copy", {.tokens = 8, .symbols = 6});
  Rng rng(5);
  const Batch many = copy.draw(rng, 4);
  Batch few = copy.draw(rng, 4);
  const auto all = few.targets.values<std::int64_t>();
  std::vector<std::int64_t> targets(all.begin(), all.end());
  std::fill(targets.begin() + 6, targets.end(), -100);
  few.targets = tensor(targets, few.targets.shape());
  const auto after_a_step = [&](std::vector<Batch> parts) {
    Task task = copy;
    k.accumulate = std::ssize(parts);
    std::size_t next = 0;
    task.draw = [&next, parts](Rng&, std::int64_t) { return parts[next++ % parts.size()]; };
    Trainer trainer(k, task, 1, Dtype::float64);
    const double loss = trainer.step().loss;
    return std::pair{loss, copy_of(trainer.model().parameters())};
  };
  const auto [loss, weights] = after_a_step({many, few});
  const auto [whole_loss, whole] =
      after_a_step({{concat({many.tokens, few.tokens}, 0), concat({many.targets, few.targets}, 0)}});
  CHECK(loss == doctest::Approx(whole_loss).epsilon(1e-12));
  for (const auto& weight : weights)
    CHECK_MESSAGE(max(abs(weight.second - whole[weight.first])).item() < 1e-12, weight.first);
}

TEST_CASE("N steps, saved, loaded and N more are 2 N steps, bit for bit, with every optimizer") {
  const Folder folder;
  for (const std::string optimizer : {"sgd", "adam", "adamw"}) {
    TrainKnobs k = tiny("reverse");
    k.optimizer = optimizer;
    k.accumulate = 2;
    Trainer through = trainer_of(k), first = trainer_of(k), second = trainer_of(k, 1);
    for (int i = 0; i < 10; ++i) through.step();
    for (int i = 0; i < 5; ++i) first.step();
    first.save(folder / "half.safetensors", "");
    second.load(folder / "half.safetensors");
    CHECK(second.done() == 5);
    for (int i = 0; i < 5; ++i) second.step();
    CHECK(equal(through.model().parameters(), second.model().parameters()));
  }
}

TEST_CASE("a small model learns, and one batch can be learnt by heart") {
  TrainKnobs k = tiny();
  k.dropout = 0.0;
  k.d_model = 32;
  k.lr = 3e-3;
  k.overfit_one_batch = true;
  Trainer trainer = trainer_of(k);
  const double before = trainer.step().loss;
  double after = before;
  for (int i = 0; i < 150; ++i) after = trainer.step().loss;
  CHECK(before > 1.5);
  CHECK(after < 0.1);
}

TEST_CASE("a loss that is no number stops with step, learning rate and the first bad tensor; weights stay") {
  TrainKnobs k = tiny();
  k.optimizer = "sgd";
  k.lr = 1e30;
  k.schedule = "constant";
  k.clip = 0.0;
  Trainer trainer = trainer_of(k);
  std::string says;
  Parameters before;
  for (int i = 0; i < 20 && says.empty(); ++i) {
    before = copy_of(trainer.model().parameters());
    try {
      trainer.step();
    } catch (const Diverged& error) {
      says = error.what();
    }
  }
  CHECK(says.find("step ") == 0);
  CHECK(says.find("learning rate 1e+30") != std::string::npos);
  CHECK(says.find("the first bad tensor is ") != std::string::npos);
  CHECK(equal(before, trainer.model().parameters()));
  const Folder folder;
  CHECK_THROWS_AS(trainer.save(folder / "bad.safetensors", ""), Diverged);
  CHECK(folder.files() == 0);
}

TEST_CASE("what cannot fit is refused before anything is allocated") {
  TransformerConfig config{.vocabulary = 100, .context = 1 << 16, .layers = 1000};
  config.block.d_model = 1 << 16;
  CHECK_THROWS_WITH_AS(check_memory(config, 1000), doctest::Contains("GiB"), UsageError);
  check_memory({.vocabulary = 100}, 64);
}

TEST_CASE("score rules by name") {
  TransformerConfig config;
  const auto factor = [&](const char* rule) {
    set_scale(rule, config);
    return config.attention.scale.factor(16, 8);
  };
  CHECK(factor("none") == 1.0);
  CHECK(factor("sqrt") == 0.25);
  CHECK(factor("inverse") == 0.0625);
  CHECK(factor("log-n") == doctest::Approx(std::log(8.0) / 4));
  CHECK(factor("-0.5") == -0.5);
  set_scale("learned", config);
  CHECK(config.block.projections.learned_scale == 0.25);   // d_model 64, 4 heads
  for (const char* bad : {"", "foo", "1x", "nan", "inf"}) CHECK_THROWS_AS(set_scale(bad, config), UsageError);
}

TEST_CASE("surgeon train: stopped and resumed, or killed and resumed, it ends with the same bits") {
  const Folder folder;
  const int threads_before = threads();
  const std::vector<std::string> often{"--steps", "24", "--checkpoint-every", "4"};
  REQUIRE(surgeon_says(train_words(folder, "through", often)).exit == 0);
  std::vector<std::string> stopped = often;
  stopped.insert(stopped.end(), {"--stop-after", "10"});
  CHECK(surgeon_says(train_words(folder, "stopped", stopped)).exit == 130);
  const Said resumed = surgeon_says({"train", "copy", "--quiet", "--resume", (folder / "stopped").string(), "--out",
                                     (folder / "resumed").string()});
  CHECK_MESSAGE(resumed.exit == 0, resumed.err);
  const auto last = [&](const char* run) { return read_bytes(folder / run / "checkpoints" / "last.safetensors"); };
  CHECK(last("through") == last("resumed"));
  CHECK(read_bytes(folder / "through" / "metrics.csv") == read_bytes(folder / "resumed" / "metrics.csv"));   // whole
  CHECK(read_bytes(folder / "through" / "figures" / "learning.csv") ==
        read_bytes(folder / "resumed" / "figures" / "learning.csv"));

  const pid_t child = fork();
  if (child == 0) {
    surgeon_says(train_words(folder, "killed", {"--steps", "100000", "--checkpoint-every", "4"}));
    _exit(0);
  }
  const fs::path eighth = folder / "killed" / "checkpoints" / "step-0000008.safetensors";
  while (!fs::exists(eighth) && waitpid(child, nullptr, WNOHANG) == 0) usleep(1000);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  // Where it was killed is chance: go on to a step that both reach.
  const Metadata metadata = load_metadata(folder / "killed" / "checkpoints" / "last.safetensors");
  CHECK(!metadata.empty());
  const Said again = surgeon_says({"train", "copy", "--quiet", "--resume", eighth.string(), "--steps", "24", "--out",
                                   (folder / "again").string()});
  CHECK_MESSAGE(again.exit == 0, again.err);
  const auto weights = [&](const char* run) {
    Parameters only;
    for (const auto& [name, value] : load_safetensors(folder / run / "checkpoints" / "last.safetensors").tensors)
      only.add(name, value);
    return only;
  };
  CHECK(equal(weights("through"), weights("again")));
  CHECK(threads() == threads_before);
}

TEST_CASE("surgeon train --json prints one object; metrics are the same for the same seed") {
  const Folder folder;
  std::vector<std::string> words = train_words(folder, "a", {"--steps", "12", "--validate-every", "6", "--keep", "1",
                                                             "--checkpoint-every", "3"});
  std::replace(words.begin(), words.end(), std::string("--quiet"), std::string("--json"));
  const Said said = surgeon_says(words);
  REQUIRE_MESSAGE(said.exit == 0, said.err);
  const auto object = nlohmann::json::parse(said.out);
  CHECK(object["experiment"] == "train");
  CHECK(object["config"]["d_model"] == 8);
  for (const char* key : {"task", "accuracy", "loss", "steps", "seconds", "tokens_per_second"})
    CHECK(object["result"].contains(key));
  CHECK(object["rows"].size() > 10);
  REQUIRE(surgeon_says(train_words(folder, "b", {"--steps", "12", "--validate-every", "6"})).exit == 0);
  CHECK(read_bytes(folder / "a" / "metrics.csv") == read_bytes(folder / "b" / "metrics.csv"));
  std::size_t checkpoints = 0;
  for (const auto& entry : fs::directory_iterator(folder / "a" / "checkpoints"))
    checkpoints += entry.path().filename().string().starts_with("step-");
  CHECK(checkpoints == 1);
}

TEST_CASE("surgeon train: what makes no sense is one line and exit 2, and no folder") {
  const Folder folder;
  const auto refused = [&](const std::vector<std::string>& more, const char* says) {
    const Said said = surgeon_says(train_words(folder, "refused", more));
    CHECK(said.exit == 2);
    CHECK_MESSAGE(said.err.find(says) != std::string::npos, said.err);
    CHECK(std::count(said.err.begin(), said.err.end(), '\n') == 1);
    CHECK(!fs::exists(folder / "refused"));
  };
  refused({"--scale", "foo"}, "foo");
  refused({"--heads", "3"}, "--heads must divide --d-model");
  refused({"--kv-heads", "3"}, "--kv-heads");
  refused({"--tokens", "7"}, "odd");
  refused({"--resume", (folder / "none").string()}, "does not exist");
  refused({"--file", "x"}, "the task text only");
  refused({"--outliers", "0.5"}, "--outliers must be 0 or at least 1");
  refused({"--d-model", "1000000", "--heads", "1", "--layers", "1000"}, "GiB");
}

TEST_CASE("surgeon train --resume runs/latest goes on from the run that it means, without naming the task") {
  const Folder folder;
  const fs::path before = fs::current_path();
  write_bytes(folder / "some.txt", std::string(200, 'a') + std::string(200, 'b'));
  fs::current_path(folder.path);
  const Said stopped = surgeon_says({"train", "text", "--file", "some.txt", "--tokens", "8", "--d-model", "8",
                                     "--heads", "2", "--batch", "4", "--steps", "6", "--stop-after", "3"});
  const fs::path first = fs::read_symlink("runs/latest");
  const Said wrong = surgeon_says({"train", "--resume", "runs/latest", "--heads", "3"});
  const fs::path still = fs::read_symlink("runs/latest");
  const Said resumed = surgeon_says({"train", "--resume", "runs/latest", "--sample-length", "0"});
  const fs::path second = fs::read_symlink("runs/latest");
  const std::string config = read_bytes("runs/latest/config.json");
  fs::current_path(before);
  CHECK(stopped.exit == 130);
  CHECK(stopped.out.find("surgeon train --resume runs/" + first.string()) != std::string::npos);
  CHECK(wrong.exit == 2);
  CHECK(still == first);
  CHECK_MESSAGE(resumed.exit == 0, resumed.err);
  CHECK(resumed.out.find("after step 3") != std::string::npos);
  CHECK(second != first);
  CHECK_MESSAGE(config.find((folder / "some.txt").string()) != std::string::npos, config);   // whole, not as typed
}

TEST_CASE("surgeon train: without a task and a run to resume it says what is missing") {
  const Said said = surgeon_says({"train"});
  CHECK(said.exit == 2);
  CHECK(said.err.find("task is missing") != std::string::npos);
}

TEST_CASE("surgeon train --resume: a checkpoint's numbers are checked, naming file, key and value") {
  const Folder folder;
  const Trainer trainer = trainer_of(tiny());
  const auto refused = [&](const std::string& config, const char* says) {
    trainer.save(folder / "odd.safetensors", config);
    const Said said = surgeon_says({"train", "--resume", (folder / "odd.safetensors").string(), "--out",
                                    (folder / "refused").string()});
    CHECK(said.exit == 2);
    CHECK_MESSAGE(said.err.find("odd.safetensors") != std::string::npos, said.err);
    CHECK_MESSAGE(said.err.find(says) != std::string::npos, said.err);
    CHECK(!fs::exists(folder / "refused"));
  };
  refused("task=copy\n", "is not a checkpoint of surgeon train");
  refused("task=copy\nseed=1\ndtype=float32\nthreads=2000000000\n", 
          ("threads must be at most " + std::to_string(most_threads()) + ", not 2000000000").c_str());
  refused("task=copy\nseed=one\ndtype=float32\nthreads=1\n", "seed: \"one\"");
  refused("task=copy\nseed=1\ndtype=int8\nthreads=1\n", "dtype must be one of float32, float64, not \"int8\"");
  refused("task=copy\nseed=1\ndtype=float32\nthreads=1\n--heads=many\n", "--heads: \"many\"");
  refused("task=copy\nseed=1\ndtype=float32\nthreads=1\n", "embedding.weight");   // other sizes than the defaults
}

TEST_CASE("surgeon train --resume: a checkpoint that lacks a part is named; one of other kernels is warned of") {
  const Folder folder;
  REQUIRE(surgeon_says(train_words(folder, "run", {"--steps", "2"})).exit == 0);
  const fs::path last = folder / "run" / "checkpoints" / "last.safetensors";
  const TensorFile whole = load_safetensors(last);
  const auto resumed = [&](const Parameters& tensors, const Metadata& metadata) {
    save_safetensors(last, tensors, metadata);
    return surgeon_says({"train", "--resume", last.string(), "--quiet", "--steps", "3", "--out",
                         (folder / "again").string(), "--force"});
  };
  Parameters without;
  for (const auto& [name, tensor] : whole.tensors)
    if (name != "extra/outliers") without.add(name, tensor);
  const Said refused = resumed(without, whole.metadata);
  CHECK(refused.exit == 2);
  CHECK_MESSAGE(refused.err.ends_with("not a checkpoint of surgeon train: it has no extra/outliers\n"), refused.err);

  CHECK(resumed(whole.tensors, whole.metadata).err == "");
  Metadata elsewhere = whole.metadata;
  std::string& config = elsewhere.at("config");
  config.replace(config.find("kernels=") + 8, simd_level().size(), "x86-64-v9");
  const Said warned = resumed(whole.tensors, elsewhere);
  CHECK(warned.exit == 0);
  CHECK_MESSAGE(warned.err.starts_with("warning: the checkpoint was made with x86-64-v9"), warned.err);
}

TEST_CASE("surgeon twins and compare run, and say where things part") {
  const Folder folder;
  const Said twins = surgeon_says({"twins", "--rules", "sqrt,none,qk-l2+10,off-by-one+cap=5,learned", "--steps", "4",
                                   "--look-every", "2", "--tokens", "8", "--symbols", "6", "--d-model", "8", "--batch",
                                   "4", "--seeds", "2", "--out", (folder / "twins").string(), "--json"});
  REQUIRE_MESSAGE(twins.exit == 0, twins.err);
  const auto object = nlohmann::json::parse(twins.out);
  CHECK(object["result"]["parts_at_none"] == "blocks.0.attention.scores");
  CHECK(object["result"]["parts_at_learned"] == "none");   // it starts where sqrt is

  const std::vector<std::string> some{"--steps", "6", "--checkpoint-every", "3", "--log-every", "1", "--lr"};
  for (const char* lr : {"0.001", "0.002"}) {
    std::vector<std::string> words = some;
    words.push_back(lr);
    REQUIRE(surgeon_says(train_words(folder, lr[4] == '1' ? "a" : "b", words)).exit == 0);
  }
  const auto compare = [&](const char* one, const char* two) {
    return surgeon_says({"compare", (folder / one).string(), (folder / two).string(), "--out",
                         (folder / (std::string(one) + two)).string()});
  };
  const Said same = compare("a", "a"), apart = compare("a", "b");
  CHECK(same.exit == 0);
  CHECK(same.out.find("bit for bit") != std::string::npos);
  CHECK(apart.out.find("lr") != std::string::npos);
  CHECK(apart.out.find("The runs first differ at kind update, step 1") != std::string::npos);
  CHECK(apart.out.find("embedding.weight") != std::string::npos);
  CHECK(apart.exit == 3);
  CHECK(apart.err == "");
  std::vector<std::string> kept = some;
  kept.insert(kept.end(), {"0.001", "--keep", "9"});
  REQUIRE(surgeon_says(train_words(folder, "c", kept)).exit == 0);
  CHECK(compare("a", "c").exit == 0);   // other options, the same numbers
  CHECK(surgeon_says({"compare", (folder / "a").string(), (folder / "none").string()}).exit == 2);
  write_bytes(folder / "b" / "config.json", std::string(400000, '[') + std::string(400000, ']'));
  CHECK(compare("b", "a").exit == 1);
}

TEST_CASE("a Trainer takes an attention layer of one's own, and looks at its weights without heads") {
  struct Average {   // of the tokens so far
    Tensor operator()(const Tensor& x, const AttentionOptions&) const {
      return W(cumsum(x, 1)) / reshape(arange(1.0, double(x.shape(1)) + 1.0, 1.0, x.dtype()), {x.shape(1), 1});
    }
    Parameters parameters() const { return W.parameters(); }
    Linear W;
  };
  TrainKnobs k = tiny();
  k.make_attention = [](const BlockConfig& c, Rng& rng) {
    return Average{Linear(c.d_model, c.d_model, rng, c.dtype)};
  };
  Trainer trainer = trainer_of(k);
  CHECK(trainer.model().parameters().contains("blocks.1.attention.weight"));
  const Look before = trainer.look();
  CHECK(before.heads.empty());
  CHECK(before.weights.size() == trainer.model().parameters().size());
  for (int i = 0; i < 3; ++i) CHECK(trainer.step().gradient_norm > 0.0);
  CHECK(trainer.updates().size() == before.weights.size());
}

}
