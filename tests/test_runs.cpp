// Runs in the world: several at once, killed, asked to stop, on a full disk; what others left where files should be.
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <new>
#include <set>

#include <nlohmann/json.hpp>

#include "experiments/figures.hpp"
#include "experiments/run_folder.hpp"
#include "tests/command.hpp"

using namespace surgeon;
using namespace surgeon::tests;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

Experiment quiet_one() {
  return small([](Lab& lab) { lab.row({{"a", 1.0}}); });
}

std::vector<fs::path> runs_here() {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator("runs"))
    if (!entry.is_symlink()) folders.push_back(entry.path());
  return folders;
}

std::string status_in(const fs::path& folder) {
  return json::parse(contents(folder / "meta.json"))["status"].get<std::string>();
}

// A process of its own that does it; how it ended.
template <class Body>
int in_child(const Body& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = -1;
  ::waitpid(child, &status, 0);
  return status;
}

// What a shell makes of a command line.
std::vector<std::string> split_by_shell(const std::string& line) {
  write_bytes("line.sh", "set -- " + line + "\nprintf '%s\\0' \"$@\" > words\n");
  REQUIRE(std::system("bash line.sh") == 0);
  std::vector<std::string> words(1);
  for (char c : contents("words"))
    if (c == '\0') words.emplace_back();
    else words.back() += c;
  words.pop_back();
  return words;
}

}  // namespace

TEST_SUITE("runs") {

TEST_CASE("fifty starts at once: fifty whole folders, and runs/latest is one of them") {
  const Elsewhere e;
  std::vector<pid_t> children;
  for (int i = 0; i < 50; ++i) {
    children.push_back(::fork());
    if (children.back() == 0)
      ::_exit(surgeon_says({"small", "--quiet", "--seed", std::to_string(i)}, {quiet_one()}).exit);
  }
  for (const pid_t child : children) {
    int status = -1;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  std::set<std::int64_t> seeds;
  for (const fs::path& run : runs_here()) {
    CHECK(status_in(run) == "done");
    const std::int64_t seed = json::parse(contents(run / "meta.json"))["seed"];
    CHECK(json::parse(contents(run / "config.json"))["options"]["seed"] == seed);
    CHECK(json::parse(contents(run / "summary.json"))["config"]["seed"] == seed);
    CHECK(contents(run / "metrics.csv") == "a\n1\n");
    seeds.insert(seed);
  }
  CHECK(seeds.size() == 50);
  CHECK(fs::exists("runs/latest/summary.json"));
}

TEST_CASE("a folder has one run at a time, also with --force") {
  const Elsewhere e;
  Said second;
  const Said first = surgeon_says({"small", "--out", "a"}, {small([&](Lab& lab) {
    CHECK(run_is_going_on(lab.folder()));
    CHECK(read_run(lab.folder()).status == "running");
    second = surgeon_says({"small", "--out", "a", "--force"}, {quiet_one()});
  })});
  CHECK(first.exit == 0);
  CHECK(second.exit == 2);
  CHECK(second.err == "surgeon small: --out: another run is writing into a\n");
  CHECK(read_run("a").status == "done");
  CHECK_FALSE(run_is_going_on("a"));
  CHECK(surgeon_says({"small", "--out", "a", "--force"}, {quiet_one()}).exit == 0);
}

TEST_CASE("a run whose process was killed reads as aborted, and the next one sweeps what it left") {
  const Elsewhere e;
  const int status = in_child([] {
    return surgeon_says({"small", "--quiet"}, {small([](Lab& lab) {
      std::ofstream(lab.file("figures/.curve.svg.tmp")) << "half";
      std::ofstream(lab.file(".summary.json.tmp")) << "half";
      std::ofstream(lab.file("checkpoints/mine.safetensors")) << "kept";
      ::raise(SIGKILL);
    })}).exit;
  });
  CHECK(WTERMSIG(status) == SIGKILL);
  const fs::path killed = runs_here().at(0);
  CHECK(status_in(killed) == "running");
  CHECK(read_run(killed).status == "aborted");
  CHECK(surgeon_says({"small", "--quiet"}, {quiet_one()}).exit == 0);
  CHECK(status_in(killed) == "aborted");
  CHECK_FALSE(fs::exists(killed / ".summary.json.tmp"));
  CHECK_FALSE(fs::exists(killed / "figures/.curve.svg.tmp"));
  CHECK(fs::exists(killed / "checkpoints/mine.safetensors"));

  for (const char* name : {"runs/early", "runs/now"}) {   // without a meta.json yet
    fs::create_directory(name);
    for (const char* file : {"run.log", ".config.json.tmp"}) write_bytes(fs::path(name) / file, "");
  }
  fs::last_write_time("runs/early/run.log", fs::file_time_type::clock::now() - std::chrono::minutes(2));
  CHECK(surgeon_says({"small", "--quiet"}, {quiet_one()}).exit == 0);
  CHECK_FALSE(fs::exists("runs/early/.config.json.tmp"));
  CHECK(fs::exists("runs/now/.config.json.tmp"));
}

TEST_CASE("SIGINT, SIGTERM and SIGHUP stop a run alike: its rows are kept, the exit code names the signal") {
  const Elsewhere e;
  for (const auto& pair : {std::pair{SIGINT, 130}, std::pair{SIGTERM, 143}, std::pair{SIGHUP, 129}}) {
    const int number = pair.first, exit = pair.second;
    CAPTURE(number);
    const std::string out = std::to_string(exit);
    const Said said = surgeon_says({"small", "--out", out, "--threads", "2"}, {small([number = number](Lab& lab) {
      lab.row({{"a", 1.0}});
      lab.for_each(100, "work", [number](std::int64_t i) { if (i == 3) ::raise(number); });
    })});
    CHECK(said.exit == exit);
    CHECK(said.err == "surgeon small: interrupted\n");
    CHECK(status_in(out) == "aborted");
    CHECK(contents(fs::path(out) / "metrics.csv") == "a\n1\n");
    CHECK_FALSE(Lab::interrupted());
  }
  // One that comes when all but the figures is done.
  CHECK(surgeon_says({"small", "--out", "late"}, {small([](Lab&) { ::raise(SIGTERM); })}).exit == 143);
  CHECK(status_in("late") == "aborted");
}

TEST_CASE("a signal that was ignored before, as under nohup, stays ignored") {
  const Elsewhere e;
  const auto before = ::signal(SIGHUP, SIG_IGN);
  const Said said = surgeon_says({"small", "--out", "a"}, {small([](Lab&) {
    ::raise(SIGHUP);
    CHECK_FALSE(Lab::interrupted());
  })});
  ::signal(SIGHUP, before);
  CHECK(said.exit == 0);
}

TEST_CASE("what makes no sense after all: the folder goes again, and runs/latest is as before") {
  const Elsewhere e;
  const Experiment bad = small([](Lab&) { throw UsageError("that makes no sense"); });
  CHECK(surgeon_says({"small"}, {bad}).exit == 2);
  CHECK_FALSE(fs::exists("runs"));
  CHECK(surgeon_says({"small"}, {quiet_one()}).exit == 0);
  const fs::path first = fs::read_symlink("runs/latest");
  CHECK(surgeon_says({"small"}, {bad}).exit == 2);
  CHECK(fs::read_symlink("runs/latest") == first);
  CHECK(runs_here().size() == 1);
}

TEST_CASE("a disk without room leaves no folder") {
  const Elsewhere e;
  const auto fails = [](std::vector<std::string> words) {
    return in_child([&] {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit none{0, 0};
      ::setrlimit(RLIMIT_FSIZE, &none);
      words.insert(words.begin(), "small");
      const Said said = surgeon_says(words, {quiet_one()});
      return said.exit == 1 && has(said.err, "config.json: cannot be written") && lines(said.err) == 1 ? 0 : 1;
    }) == 0;
  };
  CHECK(fails({}));
  CHECK(fails({"--out", "one/two"}));
  CHECK(fs::is_empty(e.folder.path));
  CHECK(surgeon_says({"small", "--out", "a"}, {quiet_one()}).exit == 0);
  CHECK(fails({"--out", "a", "--force"}));
  CHECK(fs::exists("a/summary.json"));   // what lay there before is not ours to remove
}

TEST_CASE("a disk that fills up in the middle: one line, the folder says failed, and no half of a file stays") {
  const Elsewhere e;
  // What is too long for the disk: a figure's script, the rows, the summary.
  const std::vector<std::function<void(Lab&)>> bodies = {
      [](Lab& lab) { lab.draw({.name = "f", .panels = {LineChart{}}}); },
      [](Lab& lab) { for (int i = 0; i < 1000; ++i) lab.row({{"a", 1.0}}); },
      [](Lab& lab) { lab.result("text", std::string(3000, 'x')); }};
  for (const auto& body : bodies) {
    const int ended = in_child([&] {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit little{2000, 2000};
      ::setrlimit(RLIMIT_FSIZE, &little);
      const Said said = surgeon_says({"small", "--out", "a", "--force"}, {small(body)});
      return said.exit == 1 && lines(said.err) == 1 ? 0 : 1;
    });
    CHECK(ended == 0);
    CHECK(status_in("a") == "failed");
    for (const auto& entry : fs::recursive_directory_iterator("a")) CHECK(entry.path().extension() != ".tmp");
  }
}

TEST_CASE("Findings: the run is done, the exit code is 3, nothing is said on stderr") {
  const Elsewhere e;
  const Said said = surgeon_says({"small", "--out", "a"}, {small([](Lab&) { throw Findings(); })});
  CHECK(said.exit == 3);
  CHECK(said.err == "");
  CHECK(said.out.ends_with("Results in a\n"));
  CHECK(status_in("a") == "done");
}

TEST_CASE("errors come without the words of libraries, in one line of bounded length") {
  const Elsewhere e;
  const auto says = [](std::function<void(Lab&)> body) {
    const Said said = surgeon_says({"small", "--out", "a", "--force"}, {small(std::move(body))});
    CHECK(said.exit == 1);
    CHECK(lines(said.err) == 1);
    return said.err;
  };
  CHECK(says([](Lab&) { throw std::bad_alloc(); }) == "surgeon small: out of memory\n");
  CHECK(says([](Lab&) { (void)fs::file_size("nothing"); }) == "surgeon small: nothing: No such file or directory\n");
  const std::string long_one = says([](Lab&) { throw std::runtime_error(std::string(100'000, 'x') + " is bad"); });
  CHECK(long_one.size() < 1100);
  CHECK(long_one.ends_with("xxx is bad\n"));
  fs::create_symlink("nowhere", "link");
  for (const char* out : {"link", "link/below"}) {
    const Said said = surgeon_says({"small", "--out", out}, {quiet_one()});
    CHECK(said.exit == 1);
    CHECK_MESSAGE(has(said.err, "is a link to nothing"), said.err);
  }
}

TEST_CASE("warnings: a flood of them ends on the terminal, not in run.log") {
  const Elsewhere e;
  const Said said = surgeon_says({"small", "--out", "a"}, {small([](Lab& lab) {
    for (int i = 0; i < 1000; ++i) lab.warn(std::to_string(i % 500) + " is odd");
  })});
  CHECK(said.exit == 0);
  CHECK(lines(said.err) == 21);
  CHECK(has(said.err, "warning: 19 is odd\nwarning: more warnings are in a/run.log\n"));
  CHECK(has(contents("a/run.log"), "warning: 499 is odd\n"));
  CHECK(lines(contents("a/run.log")) < 510);
}

TEST_CASE("words: control characters, turned writing and bytes that are no UTF-8 are shown, not obeyed") {
  CHECK(printable("a\x1b[31m\n\t\x7f") == "a\\x1b[31m\\x0a\\x09\\x7f");
  CHECK(printable_lines("a\n\tb\r") == "a\n\tb\\x0d");
  CHECK(printable("\xc2\x9b \xe2\x80\xae \xff\xc3") == "\\u009b \\u202e \\xff\\xc3");
  const std::string plain = "s\xc3\xbc\xc3\x9f \xe2\x88\x9a\xf0\x9f\x90\x8b";
  CHECK(printable(plain) == plain);
  CHECK(shortened("short", 100) == "short");
  const std::string cut = shortened(std::string(500, 'a') + "\xc3\xbc" + std::string(50, 'b'), 99);
  CHECK(letters_in(cut) <= 99);
  CHECK(cut == std::string(63, 'a') + "..." + std::string(33, 'b'));

  const Elsewhere e;
  const Said said = surgeon_says({"small", "--out", "a\x1b[1m"}, {small([](Lab& lab) {
    lab.say("said \x1b[2J");
    lab.verdict("judged \x1b[2J");
    lab.print("sampled \x1b[2J\n");
    lab.warn("warned \x1b[2J");
    lab.show({"title \x1b[2J", {"head \x1b[2J"}, {{"cell \x1b[2J\nline"}}});
  })});
  CHECK(said.exit == 0);
  CHECK_FALSE(has(said.out + said.err + contents("a\x1b[1m/run.log").substr(100), "\x1b[2J"));
  CHECK(has(said.out, "cell \\x1b[2J\\x0aline"));
  CHECK(has(said.out, "Results in a\\x1b[1m\n"));
}

TEST_CASE("a command that is printed, or kept in config.json, may be copied, whatever the folder is called") {
  const Elsewhere e;
  for (const std::string name : {"plain", "two words", "it's", "-x", "$(touch harm)", "a\nb;c", "\x1b[31m'\\", "\xff z",
                                 "s\xc3\xbc\xc3\x9f", "~", "*", "a=b#c!d"}) {
    CAPTURE(shell_word(name));
    const Experiment one = small([](Lab& lab) { lab.print("  " + lab.command("go --on", lab.folder()) + "\n"); });
    const Said said = surgeon_says({"small", "--out=" + name}, {one});
    REQUIRE_MESSAGE(said.exit == 0, said.err);
    const std::string path = (name == "-x" ? "./" : "") + name;
    const std::string line = said.out.substr(0, said.out.find('\n'));   // control characters are not in it
    CHECK(split_by_shell(line) == std::vector<std::string>{"surgeon", "go", "--on", path});
    const std::string typed = json::parse(contents(fs::path(name) / "config.json"))["typed"].get<std::string>();
    CHECK(split_by_shell(typed) == std::vector<std::string>{"surgeon", "small", "--out=" + name});
  }
  CHECK_FALSE(fs::exists("harm"));
}

TEST_CASE("SURGEON_SIMD: a level that there is not is refused with those that there are") {
  const Elsewhere e;
  const char* before = std::getenv("SURGEON_SIMD");
  const std::string kept = before ? before : "";
  ::setenv("SURGEON_SIMD", "x86-64-v9", 1);
  const Said said = surgeon_says({"small"}, {quiet_one()});
  before ? ::setenv("SURGEON_SIMD", kept.c_str(), 1) : ::unsetenv("SURGEON_SIMD");
  CHECK(said.exit == 2);
  CHECK(has(said.err, "SURGEON_SIMD must be one of baseline, x86-64-v3, x86-64-v4, not \"x86-64-v9\""));
}

TEST_CASE("files of others: pipes, devices and folders are refused by name, at once") {
  const Elsewhere e;
  REQUIRE(::mkfifo("pipe", 0600) == 0);
  fs::create_directory("folder");
  for (const char* odd : {"pipe", "/dev/zero", "folder"}) {
    const Said config = surgeon_says({"small", "--config", odd}, {quiet_one()});
    CHECK(config.exit == 2);
    CHECK(config.err == std::string("surgeon small: --config: ") + odd + ": is not a regular file\n");
    const Said text = surgeon_says({"train", "text", "--file", odd});
    CHECK(text.exit == 2);
    CHECK(text.err == std::string("surgeon train: --file: ") + odd + ": is not a regular file\n");
  }
  for (const char* name : {"config.json", "meta.json", "metrics.jsonl"}) {
    CAPTURE(name);
    REQUIRE(surgeon_says({"small", "--out", "a", "--force", "--quiet"}, {quiet_one()}).exit == 0);
    fs::remove(fs::path("a") / name);
    REQUIRE(::mkfifo((fs::path("a") / name).c_str(), 0600) == 0);
    const Said said = surgeon_says({"compare", "a", "a"});
    CHECK(said.exit == 1);
    CHECK_MESSAGE(has(said.err, std::string(name) + ": is not a regular file"), said.err);
    fs::remove(fs::path("a") / name);
  }
}

TEST_CASE("--config: TOML as TOML is; what is not, is refused with its line") {
  const Elsewhere e;
  std::vector<std::int64_t> list{1};
  double real = 1;
  std::string text;
  bool on = false;
  const Experiment one{"one", "A question?", "Nothing is varied.", {"surgeon one"}, [&](Options& o) {
    o.add("--list", list, "numbers");
    o.add("--real-one", real, "a number");
    o.add("--text", text, "a text");
    o.add("--on", on, "a switch");
    return std::function<void(Lab&)>([](Lab&) {});
  }};
  const Experiment other{"other", "A question?", "Nothing is varied.", {"surgeon other"}, [&](Options& o) {
    o.add("--texts", text, "of the other one");
    return std::function<void(Lab&)>([](Lab&) {});
  }};
  const auto says = [&](const std::string& file) {
    write_bytes("c.toml", file);
    return surgeon_says({"one", "--quiet", "--config", "c.toml", "--out", "a", "--force"}, {one, other});
  };
  CHECK(says("\xef\xbb\xbf# as Windows writes\r\ntexts = 'not ours'\r\nlist = [1_0, 0x10]\r\n[one]\r\n"
             "real-one = 1e-3\r\ntext = \"\"\"a\nb\"\"\"\non = true\n[other]\nanything = 1\n").err == "");
  CHECK(list == std::vector<std::int64_t>{10, 16});
  CHECK(real == 1e-3);
  CHECK(text == "a\nb");
  CHECK(on);
  struct Bad { std::string file, says; };
  for (const Bad& bad : std::vector<Bad>{
           {"\nlist", "line 2: "}, {"[one", "line 1: "}, {"=3", "line 1: "}, {"a\\", "line 1: "},
           {"list = ", "line 1: "},
           {std::string("list = 1\n\0\x01\xfe", 12), "line 2: "}, {"list = 1\nlist = 2", "line 2: "},
           {"real-one = 1\nreal_one = 2", "line 2: real_one has a value already, in line 1"},
           {"list = [[1]]", "line 1: list is neither"}, {"text = 1979-05-27", "line 1: text is neither"},
           {"[one.two]\nlist = 1", "line 1: a section inside [one]"}, {"[[one]]\nlist = 1", "line 1: one is neither"},
           {"\n\nlist = 'x'", "line 3: --list: \"x\" is not a whole number"},
           {"lst = 1", "line 1: unknown option lst; did you mean --list?"},
           {"\nconfig = 'other.toml'", "line 2: config belongs on the command line"},
           {"[one]\nhelp = true", "line 2: help belongs on the command line"},
           {"text = \"a\\u0000b\"", "line 1: text holds the character U+0000"},
           {"\"te\\u0000xt\" = 1", "line 1: a name holds the character U+0000"},
           {"quite_unknown = 1", "unknown option quite_unknown"},
           {"[ome]\nlist = 1", "line 2: unknown section [ome]; did you mean one?"},
           {std::string(2'000'000, '#'), "has more than 1048576 bytes"}}) {
    CAPTURE(bad.says);
    const Said said = says(bad.file);
    CHECK(said.exit == 2);
    CHECK(lines(said.err) == 1);
    CHECK(has(said.err, "--config: c.toml"));
    CHECK_MESSAGE(has(said.err, bad.says), said.err);
  }
}

}
