// Saving: a file is written whole or not at all, whoever kills whom; checkpoints bring a run back bit for bit.
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ctime>
#include <thread>

#include "framework/checkpoints.hpp"
#include "framework/framework.hpp"
#include "framework/serialize.hpp"
#include "tests/folder.hpp"

namespace fs = std::filesystem;
using namespace surgeon;
using namespace surgeon::tests;

namespace {

#if defined(__has_feature)   // clang's way of telling
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif
constexpr int kills = SANITIZED ? 20 : 200;   // a process takes long to start and die under a sanitizer

}  // namespace

TEST_SUITE("saving") {
  // ---- Whole or not at all ------------------------------------------------------------------------------------------

  TEST_CASE("files: what cannot be read or written is named with the reason") {
    const Folder folder;
    const auto message = [](const auto& action) -> std::string {
      try {
        action();
      } catch (const IoError& error) {
        return error.what();
      }
      return "nothing was thrown";
    };
    const std::string inside = folder.path.string() + "/";
    CHECK(message([&] { load_npy(folder / "no.npy"); }) ==
          inside + "no.npy: cannot be read: No such file or directory");
    CHECK(message([&] { load_npy(folder.path); }) == folder.path.string() + ": is not a regular file");
    CHECK(message([&] { save_npy(folder / "no/x.npy", ones({1})); }) ==
          inside + "no/x.npy: cannot be written: No such file or directory");
    CHECK(message([&] { save_npy(folder.path, ones({1})); }).ends_with("already exists and is not a regular file"));
    CHECK(message([&] { save_npy("/dev/null", ones({1})); }) == "/dev/null: already exists and is not a regular file");
    REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    CHECK(message([&] { load_npz(folder / "pipe"); }) == inside + "pipe: is not a regular file");
  }

  TEST_CASE("files: a failed save leaves the old file, and nothing else") {
    const Folder folder;
    save_npy(folder / "x.npy", ones({3}));
    const std::string before = read_bytes(folder / "x.npy");
    const pid_t child = ::fork();
    if (child == 0) {   // no file may pass 4 KiB here: the write fails half-way
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{4096, 4096};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      bool refused = false;
      try {
        save_npy(folder / "x.npy", zeros({4096}));
      } catch (const IoError& error) {
        refused = std::string(error.what()).ends_with("cannot be written: File too large");
      }
      ::_exit(refused ? 0 : 1);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
    CHECK(read_bytes(folder / "x.npy") == before);
    CHECK(folder.files() == 1);
  }

  TEST_CASE("files: a link is followed, its target replaced") {
    const Folder folder;
    write_file(folder / "target", "old");
    fs::create_symlink("target", folder / "link");
    write_file(folder / "link", "new");
    CHECK(fs::is_symlink(folder / "link"));
    CHECK(read_bytes(folder / "target") == "new");
  }

  TEST_CASE("files: reading whole ones stops at a limit, and believes no size that is said") {
    const Folder folder;
    const std::string bytes("a\0b\n", 4);
    write_file(folder / "x", bytes);
    sync_file(folder / "x");
    sync_file(folder.path);
    CHECK(read_file(folder / "x", 4) == bytes);
    CHECK(read_file(folder / "x", 1'000'000) == bytes);
    CHECK_THROWS_WITH_AS(read_file(folder / "x", 3), ((folder / "x").string() + ": has more than 3 bytes").c_str(),
                         IoError);
    write_file(folder / "empty", "");
    CHECK(read_file(folder / "empty", 0) == "");
    CHECK(read_file("/proc/self/status", 1'000'000).starts_with("Name:"));   // of 0 bytes, as it says
    CHECK_THROWS_AS(read_file("/proc/self/status", 10), IoError);
    fs::resize_file(folder / "empty", std::uintmax_t{1} << 40);   // no such disk: one hole
    const std::clock_t before = std::clock();
    CHECK_THROWS_AS(read_file(folder / "empty", std::uint64_t{1} << 30), IoError);
    CHECK(double(std::clock() - before) / CLOCKS_PER_SEC < 0.2);   // refused by its size, not after a gigabyte
    REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    for (const fs::path& odd : {folder / "pipe", folder.path, fs::path("/dev/zero"), folder / "none"})
      CHECK_THROWS_AS(read_file(odd, 10), IoError);
    CHECK_THROWS_AS(sync_file(folder / "none"), IoError);
  }

  TEST_CASE("files: several writers of one name take turns") {
    const Folder folder;
    std::vector<std::thread> writers;
    for (char letter : {'a', 'b', 'c', 'd'})
      writers.emplace_back([&, letter] {
        for (int i = 0; i < 10; ++i) write_file(folder / "x", std::string(100'000, letter));
      });
    for (std::thread& writer : writers) writer.join();
    const std::string bytes = read_bytes(folder / "x");
    CHECK(bytes == std::string(100'000, bytes[0]));
    CHECK(folder.files() == 1);
  }

  TEST_CASE("files: a writer killed at any moment leaves the whole old or the whole new file") {
    const Folder folder;
    const fs::path path = folder / "x.safetensors";
    const auto version = [](double v) {
      return Parameters{{"a", full({30'000}, v)}, {"b", full({10'000}, v, Dtype::float64)}};
    };
    save_safetensors(path, version(-1), {{"version", "-1"}});
    Rng rng(20);
    int old = 0;
    double latest = -1;
    for (int i = 0; i < kills; ++i) {
      const pid_t child = ::fork();
      if (child == 0) {
        for (;;) save_safetensors(path, version(i), {{"version", std::to_string(i)}});
      }
      ::usleep(useconds_t(rng.below(4000)));
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
      const TensorFile found = load_safetensors(path);
      const double v = std::stod(found.metadata.at("version"));
      REQUIRE((v == latest || v == i));
      REQUIRE(equal(found.tensors, version(v)));
      old += v == latest;
      latest = v;
    }
    save_safetensors(path, version(0));
    CHECK(folder.files() == 1);   // what the killed left behind was taken over
    MESSAGE(old << " of " << kills << " kills left the old file");
  }

  // ---- Checkpoints --------------------------------------------------------------------------------------------------

  TEST_CASE("checkpoint: a run that stops and goes on makes the numbers of one that did not") {
    const Folder folder;
    struct Run {
      Parameters weights{{"W", full({4, 5}, 0.5)}, {"b", zeros({5})}};
      AdamW optimizer{weights, {.lr = 0.1, .amsgrad = true}, {no_decay_on_vectors()}};
      Progress progress{.generators = {{"data", Rng(3)}}, .config = "{}"};
      void go(int steps) {
        Rng& rng = progress.generators.at("data");
        for (int i = 0; i < steps; ++i) {
          std::vector<Tensor> gradients;
          for (const auto& [name, weight] : weights) {
            std::vector<float> g;
            for (float w : weight.values<float>()) g.push_back(w + float(rng.below(1000)) / 500 - 1);
            gradients.push_back(tensor(g, weight.shape()));
          }
          optimizer.step(gradients);
          ++progress.step;
          progress.cursor += 64;
        }
      }
    };
    Run straight, first, second;
    straight.go(20);
    first.go(10);
    first.progress.extra.add("best", tensor({0.25}, {}));
    save_checkpoint(folder / "c", first.weights, first.optimizer, first.progress);
    second.progress = load_checkpoint(folder / "c", second.weights, second.optimizer);
    CHECK(second.progress.step == 10);
    CHECK(second.progress.cursor == 640);
    CHECK(second.progress.config == "{}");
    CHECK(second.progress.extra["best"].item() == 0.25);
    second.go(10);
    CHECK(equal(second.weights, straight.weights));
    CHECK(equal(second.optimizer.state(), straight.optimizer.state()));
    CHECK(checkpoint_config(folder / "c") == "{}");
  }

  TEST_CASE("checkpoint: generators come back where they stood, also past 2^63") {
    const Folder folder;
    const Parameters weights{{"W", ones({1})}};
    Sgd optimizer(weights);
    Progress progress;
    progress.generators.emplace("a b", Rng(~std::uint64_t{0}, 5));
    progress.generators.at("a b").seek(~std::uint64_t{0} - 3);
    save_checkpoint(folder / "c", weights, optimizer, progress);
    const Rng rng = load_checkpoint(folder / "c", weights, optimizer).generators.at("a b");
    CHECK(rng.seed() == ~std::uint64_t{0});
    CHECK(rng.stream() == 5);
    CHECK(rng.position() == ~std::uint64_t{0} - 3);
  }

  TEST_CASE("checkpoint: one that does not fit is refused and changes nothing") {
    const Folder folder;
    const Parameters weights{{"W", ones({2})}};
    Adam adam(weights);
    save_checkpoint(folder / "c", weights, adam, {});
    const Parameters wider{{"W", zeros({3})}}, other{{"W", zeros({2})}, {"b", zeros({2})}}, same{{"W", zeros({2})}};
    Adam for_wider(wider), for_other(other);
    Sgd sgd(same, {.momentum = 0.5});
    const auto message = [&](const Parameters& parameters, Optimizer& optimizer) -> std::string {
      try {
        load_checkpoint(folder / "c", parameters, optimizer);
      } catch (const IoError& error) {
        return std::string(error.what()).substr((folder / "c").string().size());
      }
      return "nothing was thrown";
    };
    CHECK(message(wider, for_wider) == ": checkpoint: W is float32 [2], not float32 [3]");
    CHECK(message(other, for_other) == ": checkpoint: b is missing");
    CHECK(message(same, sgd) == ": Sgd's state: momentum_buffer.W is missing");
    CHECK(same["W"].version() == 0);
    CHECK(same["W"].at({0}) == 0.0);
    CHECK(other["W"].version() == 0);
  }

  TEST_CASE("checkpoint: weights alone, from a checkpoint or any file") {
    const Folder folder;
    const Parameters weights{{"W", full({2}, 4.0)}}, mine{{"W", zeros({2})}};
    Adam adam(weights);
    save_checkpoint(folder / "c", weights, adam, {});
    load_weights(folder / "c", mine);
    CHECK(mine["W"].at({1}) == 4.0);
    save_safetensors(folder / "w", {{"W", ones({2})}});
    load_weights(folder / "w", mine);
    CHECK(mine["W"].at({1}) == 1.0);
    CHECK_THROWS_AS(load_checkpoint(folder / "w", mine, adam), IoError);
    CHECK_THROWS_AS(checkpoint_config(folder / "w"), IoError);
    save_safetensors(folder / "w", {{"V", ones({2})}});
    CHECK_THROWS_AS(load_weights(folder / "w", mine), IoError);
  }

  TEST_CASE("checkpoint: numbers that are none are refused") {
    const Folder folder;
    const Parameters weights{{"W", ones({2})}};
    Sgd sgd(weights);
    const auto refused = [&](const std::string& key, const std::string& value) {
      save_checkpoint(folder / "c", weights, sgd, {.generators = {{"data", Rng(1)}}});
      TensorFile file = load_safetensors(folder / "c");
      file.metadata[key] = value;
      save_safetensors(folder / "c", file.tensors, file.metadata);
      CHECK_THROWS_AS(load_checkpoint(folder / "c", weights, sgd), IoError);
    };
    refused("step", "");
    refused("step", "3x");
    refused("step", "99999999999999999999");
    refused("cursor", " 3");
    refused("generator/data", "1 2");
    refused("generator/data", "1 2 3 4");
    refused("generator/data", "1  2 3");
    refused("generator/data", "1 2 -3");
    refused("checkpoint", "2");
  }
}
