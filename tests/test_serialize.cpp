// Files: what we write is read by others and back; what is hostile is refused; a killed writer leaves a whole file.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>

#include "framework/framework.hpp"
#include "framework/serialize.hpp"
#include "tests/golden.hpp"

namespace fs = std::filesystem;
using namespace surgeon;
using surgeon::tests::Json;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kills = 20;
#else
constexpr int kills = 200;
#endif

// A folder of its own for each case, gone afterwards.
struct Folder {
  Folder() {
    char name[] = "/tmp/surgeon_test_XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Folder() { fs::remove_all(path); }
  fs::path operator/(const std::string& name) const { return path / name; }
  std::size_t files() const {
    return std::size_t(std::distance(fs::directory_iterator(path), fs::directory_iterator()));
  }
  fs::path path;
};

std::string read_bytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void write_bytes(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

std::string raw(const Tensor& x) {
  const auto bytes = [](auto values) {
    return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0]));
  };
  switch (x.dtype()) {
    case Dtype::float32: return bytes(x.values<float>());
    case Dtype::float64: return bytes(x.values<double>());
    case Dtype::int64: return bytes(x.values<std::int64_t>());
    default: return bytes(x.values<bool>());
  }
}
// Equal names, order, shapes, dtypes and bits.
bool equal(const Parameters& a, const Parameters& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.first == y.first && x.second.shape() == y.second.shape() && x.second.dtype() == y.second.dtype() &&
           raw(x.second) == raw(y.second);
  });
}

Parameters samples() {
  return {{"mask", tensor({true, false, true}, {3})},
          {"blocks.0.weight", tensor({1.5f, -0.0f, std::nanf(""), INFINITY, 1e-45f, 3.0f}, {2, 3})},
          {"größe ∂ \"\\\n", tensor({0.1, -2.0}, {2, 1, 1})},
          {"index", tensor({std::int64_t{-1}, std::int64_t{1} << 62}, {2})},
          {"scalar", tensor({3.25}, {})},
          {"none", zeros({0, 4})}};
}
const Metadata notes{{"format", "pt"}, {"config", "{\"lr\": 1e-3, \"tiefe\": \"½\"}"}};

std::string hexadecimal(const std::string& bytes) {
  std::string text;
  for (unsigned char c : bytes) text += {"0123456789abcdef"[c >> 4], "0123456789abcdef"[c & 15]};
  return text;
}
std::string from_hexadecimal(const std::string& text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); i += 2) bytes += char(std::stoi(text.substr(i, 2), nullptr, 16));
  return bytes;
}

// Whether tensors hold what read_files.py says; each {"dtype", "shape", "bytes"}.
void check_described(const Parameters& tensors, const Json& expected) {
  REQUIRE(tensors.size() == expected.size());
  for (const auto& [name, description] : expected.items()) {
    CAPTURE(name);
    const Tensor& x = tensors[name];
    const char* dtypes[] = {"F32", "F64", "I64", "BOOL"};
    CHECK(description["dtype"] == dtypes[int(x.dtype())]);
    CHECK(description["shape"].get<Shape>() == x.shape());
    CHECK(description["bytes"] == hexadecimal(raw(x)));
  }
}

// What tests/read_files.py prints; "" when Python or NumPy is missing.
std::string read_by_python(const fs::path& path) {
  if (!fs::exists("/usr/bin/python3")) return "";
  const std::string script = SURGEON_SOURCE_DIR "/tests/read_files.py";
  const std::string needs = path.extension() == ".safetensors" ? "json" : "numpy";
  if (std::system(("/usr/bin/python3 -B -c 'import " + needs + "' 2>/dev/null").c_str()) != 0) return "";
  FILE* pipe = ::popen(("/usr/bin/python3 -B '" + script + "' '" + path.string() + "'").c_str(), "r");
  std::string text;
  for (char piece[4096]; const std::size_t n = std::fread(piece, 1, sizeof piece, pipe);) text.append(piece, n);
  CHECK(::pclose(pipe) == 0);
  return text;
}

std::string header_and(const std::string& header, const std::string& numbers) {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + numbers;
}

// The message of the IoError that reading these bytes must give.
template <class Load>
std::string refusal_of(const Load& load, const fs::path& path, const std::string& bytes) {
  write_bytes(path, bytes);
  try {
    (void)load(path);
  } catch (const IoError& error) {
    const std::string message = error.what();
    CHECK(message.starts_with(path.string() + ": "));
    return message.substr(path.string().size() + 2);
  }
  return "nothing was thrown";
}

// Every truncation and every flip of one bit gives an IoError, or the same tensors.
template <class Load>
void damage_everywhere(const Load& load, const fs::path& path, const Parameters& whole) {
  const std::string bytes = read_bytes(path);
  const fs::path damaged = path.string() + ".damaged";
  std::size_t wrong = 0;
  const auto try_it = [&](const std::string& changed) {
    write_bytes(damaged, changed);
    try {
      wrong += !equal(load(damaged), whole);
    } catch (const IoError&) {}
  };
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    write_bytes(damaged, bytes.substr(0, n));
    CHECK_THROWS_AS(load(damaged), IoError);
  }
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string changed = bytes;
    changed[bit / 8] = char(changed[bit / 8] ^ (1 << bit % 8));
    try_it(changed);
  }
  CHECK(wrong == 0);
}

const auto tensors_of = [](const fs::path& path) { return load_safetensors(path).tensors; };

}  // namespace

TEST_SUITE("serialize") {
  // ---- safetensors --------------------------------------------------------------------------------------------------

  TEST_CASE("safetensors: what is saved comes back, bit for bit, in its order, with its metadata") {
    const Folder folder;
    save_safetensors(folder / "a.safetensors", samples(), notes);
    const TensorFile loaded = load_safetensors(folder / "a.safetensors");
    CHECK(equal(loaded.tensors, samples()));
    CHECK(loaded.metadata == notes);
    CHECK(load_metadata(folder / "a.safetensors") == notes);
    CHECK(folder.files() == 1);
    save_safetensors(folder / "none.safetensors", {});
    CHECK(load_safetensors(folder / "none.safetensors").tensors.size() == 0);
  }

  TEST_CASE("safetensors: an independent reader finds the same") {
    const Folder folder;
    save_safetensors(folder / "a.safetensors", samples(), notes);
    const std::string text = read_by_python(folder / "a.safetensors");
    if (text.empty()) {
      MESSAGE("skipped: no python3");
      return;
    }
    const Json read = Json::parse(text);
    check_described(samples(), read["tensors"]);
    for (const auto& [key, value] : notes) CHECK(read["metadata"][key] == value);
  }

  TEST_CASE("safetensors, .npy, .npz: files that Python wrote are read") {
    const Folder folder;
    const Json cases = tests::golden_cases("files.json");
    for (const Json& file : cases["files"]) {
      const std::string name = file["name"];
      CAPTURE(name);
      const fs::path path = folder / name;
      write_bytes(path, from_hexadecimal(file["bytes"]));
      const auto load = [&]() -> Parameters {
        if (path.extension() == ".npz") return load_npz(path);
        if (path.extension() == ".npy") return {{"", load_npy(path)}};
        const TensorFile loaded = load_safetensors(path);
        for (const auto& [key, value] : loaded.metadata) CHECK(file["metadata"][key] == value);
        return loaded.tensors;
      };
      if (file.contains("refused")) CHECK_THROWS_AS(load(), IoError);
      else check_described(load(), file["tensors"]);
    }
  }

  TEST_CASE("safetensors: every truncation and every flipped bit is an error or changes no tensor") {
    const Folder folder;
    save_safetensors(folder / "a", {{"W", tensor({1.0f, 2.0f}, {2})}, {"m", tensor({true, false, true}, {3})}},
                     {{"step", "7"}});
    damage_everywhere(tensors_of, folder / "a", tensors_of(folder / "a"));
  }

  TEST_CASE("safetensors: hostile files are refused with a sentence") {
    const Folder folder;
    const auto refused = [&](const std::string& bytes) { return refusal_of(tensors_of, folder / "x", bytes); };
    const auto header = [&](const std::string& text, std::size_t numbers = 8) {
      return refused(header_and(text, std::string(numbers, '\0')));
    };
    const auto entry = [&](const std::string& shape, const std::string& offsets, const std::string& dtype = "F32") {
      return header(R"({"a":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}");
    };
    CHECK(refused("") == "ends at byte 0, too early");
    CHECK(refused(std::string("\0\0\0\0\0\0\0\x80", 8)) ==
          "a header of 9223372036854775808 bytes; the format allows 100000000");
    CHECK(refused(std::string(8, '\xff')).starts_with("a header of 18446744073709551615 bytes"));
    CHECK(refused(std::string("\xff\0\0\0\0\0\0\0{}", 10)) == "ends at byte 10, too early");
    CHECK(header("") == "the header does not begin with {");
    CHECK(header("[]") == "the header does not begin with {");
    CHECK(header("{").starts_with("the header is no JSON"));
    CHECK(header("{\"\xff\":1}").starts_with("the header is no JSON in UTF-8"));
    CHECK(header("{\"\xed\xa0\x80\":1}").starts_with("the header is no JSON in UTF-8"));   // a surrogate
    CHECK(header("{}") == "the header describes 0 bytes of numbers, there are 8");
    CHECK(header("{\"a\":" + std::string(100000, '[')) == "the header is nested too deep");
    CHECK(header("{\"a\":1e999}") == "the header holds a number that cannot be");
    CHECK(header(R"({"a":[]})") == "tensor \"a\": not described by dtype, shape and data_offsets");
    CHECK(header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})") ==
          "tensor \"a\": not described by dtype, shape and data_offsets");
    CHECK(header(R"({"__metadata__":{"a":1}})") == "__metadata__ holds something that is no text");
    CHECK(header(R"({"__metadata__":[]})") == "__metadata__ is no object");
    CHECK(entry("[2]", "[0,8]", "F8_E4M3") == "tensor \"a\": dtype \"F8_E4M3\" is not among those that can be read");
    CHECK(entry("[2]", "[0,8]") == "nothing was thrown");
    CHECK(entry("[-2]", "[0,8]") == "tensor \"a\": its shape is no list of whole numbers");
    CHECK(entry("[2.0]", "[0,8]") == "tensor \"a\": its shape is no list of whole numbers");
    CHECK(entry("[[2]]", "[0,8]") == "the header is nested too deep");
    CHECK(entry("[2]", "[0,18446744073709551624]") == "tensor \"a\": its data_offsets is no list of whole numbers");
    CHECK(entry("[2]", "[8,0]") == "tensor \"a\": its data_offsets are no begin and end");
    CHECK(entry("[2]", "[0]") == "tensor \"a\": its data_offsets are no begin and end");
    CHECK(entry("[3]", "[0,8]") == "tensor \"a\": F32 [3] does not take the 8 bytes it is given");
    CHECK(entry("[4294967296,4294967296]", "[0,0]").ends_with("more than 2^59 elements"));
    CHECK(entry("[2]", "[4,12]").starts_with("tensor \"a\" begins at byte 4"));
    CHECK(entry("[250000000000]", "[0,1000000000000]") ==
          "the header describes 1000000000000 bytes of numbers, there are 8");
    CHECK(entry("[8]", "[0,8]", "BOOL") == "nothing was thrown");
    CHECK(refused(header_and(R"({"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}})", "\x02")) ==
          "holds a bool that is neither 0 nor 1");
  }

  TEST_CASE("safetensors: overlaps, gaps and names that occur twice are refused") {
    const Folder folder;
    const auto two = [&](const std::string& a, const std::string& b, const std::string& second = "b") {
      const auto one = [](const std::string& name, const std::string& offsets) {
        return "\"" + name + R"(":{"dtype":"F32","shape":[1],"data_offsets":)" + offsets + "}";
      };
      const std::string header = "{" + one("a", a) + "," + one(second, b) + "}";
      return refusal_of(tensors_of, folder / "x", header_and(header, "12345678"));
    };
    CHECK(two("[0,4]", "[4,8]") == "nothing was thrown");
    CHECK(two("[4,8]", "[0,4]") == "nothing was thrown");
    CHECK(two("[0,4]", "[0,4]") == "tensor \"b\" begins at byte 0 of the numbers, where the one before ends at 4");
    CHECK(two("[0,4]", "[3,7]") == "tensor \"b\" begins at byte 3 of the numbers, where the one before ends at 4");
    CHECK(two("[0,4]", "[5,9]") == "tensor \"b\" begins at byte 5 of the numbers, where the one before ends at 4");
    CHECK(two("[0,4]", "[4,8]", "a") == "the header has \"a\" twice");
    CHECK(two("[0,4]", "[4,8]", "\\u0061") == "the header has \"a\" twice");
    const std::string twice = R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
    CHECK(refusal_of(tensors_of, folder / "x", header_and(twice, "12345678")) == "the header has \"dtype\" twice");
  }

  TEST_CASE("safetensors: a checksum that is not ours to move is noticed") {
    const Folder folder;
    save_safetensors(folder / "a", {{"W", tensor({1.0f}, {1})}});
    std::string bytes = read_bytes(folder / "a");
    bytes.replace(bytes.find("surgeon.crc32\":"), 15, "surgeon.crc32\" ");   // no JSON any more
    CHECK(refusal_of(tensors_of, folder / "x", bytes).starts_with("the header is no JSON"));
    CHECK(refusal_of(tensors_of, folder / "x", header_and(R"({"__metadata__":{"surgeon.crc32": "00000000"}})", "")) ==
          "its checksum is not where it was written");
  }

  TEST_CASE("safetensors: bad names and metadata are refused before anything is written") {
    const Folder folder;
    const Parameters one{{"W", ones({1})}};
    CHECK_THROWS_AS(save_safetensors(folder / "a", {{"W\xff", ones({1})}}), std::invalid_argument);
    CHECK_THROWS_AS(save_safetensors(folder / "a", {{"__metadata__", ones({1})}}), std::invalid_argument);
    CHECK_THROWS_AS(save_safetensors(folder / "a", {{"W", Tensor()}}), std::invalid_argument);
    CHECK_THROWS_AS(save_safetensors(folder / "a", one, {{"k", "\x80"}}), std::invalid_argument);
    CHECK_THROWS_AS(save_safetensors(folder / "a", one, {{"surgeon.crc32", "x"}}), std::invalid_argument);
    CHECK(folder.files() == 0);
  }

  // ---- .npy and .npz ------------------------------------------------------------------------------------------------

  TEST_CASE(".npy and .npz: what is saved comes back, here and in NumPy") {
    const Folder folder;
    for (const auto& [name, x] : samples()) {
      save_npy(folder / "x.npy", x);
      CHECK(equal({{"", load_npy(folder / "x.npy")}}, {{"", x}}));
      const std::string text = read_by_python(folder / "x.npy");
      if (!text.empty()) check_described({{"", x}}, Json::parse(text)["tensors"]);
    }
    save_npz(folder / "x.npz", samples());
    CHECK(equal(load_npz(folder / "x.npz"), samples()));
    const std::string text = read_by_python(folder / "x.npz");
    if (!text.empty()) check_described(samples(), Json::parse(text)["tensors"]);
    save_npz(folder / "none.npz", {});
    CHECK(load_npz(folder / "none.npz").size() == 0);
  }

  TEST_CASE(".npz: every truncation and every flipped bit is an error or changes no tensor") {
    const Folder folder;
    save_npz(folder / "a", {{"W", tensor({1.0f, 2.0f}, {2})}, {"m", tensor({true}, {1})}});
    damage_everywhere([](const fs::path& path) { return load_npz(path); }, folder / "a", load_npz(folder / "a"));
  }

  TEST_CASE(".npy: damage is an error or a tensor, never a crash") {
    const Folder folder;
    save_npy(folder / "a", tensor({1.0f, 2.0f}, {2}));
    const std::string bytes = read_bytes(folder / "a");
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      std::string changed = bytes;
      changed[bit / 8] = char(changed[bit / 8] ^ (1 << bit % 8));
      write_bytes(folder / "b", changed);
      try {
        const Tensor x = load_npy(folder / "b");
        CHECK(x.size() * element_size(x.dtype()) <= 64);
      } catch (const IoError&) {}
    }
    for (std::size_t n = 0; n < bytes.size(); ++n) {
      write_bytes(folder / "b", bytes.substr(0, n));
      CHECK_THROWS_AS(load_npy(folder / "b"), IoError);
    }
  }

  TEST_CASE(".npy: hostile headers are refused with a sentence") {
    const Folder folder;
    const auto refused = [&](const std::string& dict, std::size_t numbers = 8) {
      std::string bytes("\x93NUMPY\x01\x00", 8);
      bytes += {char(dict.size() & 255), char(dict.size() >> 8)};
      return refusal_of(load_npy, folder / "x", bytes + dict + std::string(numbers, '\0'));
    };
    const auto shaped = [&](const std::string& shape) {
      return refused("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }");
    };
    const std::string unlike = "its header is not one that NumPy writes";
    CHECK(shaped("(2,)") == "nothing was thrown");
    CHECK(shaped("(1, 2)") == "nothing was thrown");
    CHECK(shaped("(2)") == "nothing was thrown");
    CHECK(shaped("(3,)") == "<f4 [3] does not take 8 bytes");
    CHECK(shaped("(-2,)") == unlike);
    CHECK(shaped("(,)") == unlike);
    CHECK(shaped("(2") == unlike);
    CHECK(shaped("(99999999999999999999,)") == unlike);
    CHECK(shaped("(4294967296, 4294967296)").ends_with("more than 2^59 elements"));
    CHECK(refused("") == unlike);
    CHECK(refused("{") == unlike);
    CHECK(refused("{}") == unlike);
    CHECK(refused("{'descr") == unlike);
    CHECK(refused("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}") == unlike);
    CHECK(refused("{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2,)}") == unlike);
    CHECK(refused("{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}") == unlike);
    CHECK(refused("{'descr': '>f4', 'fortran_order': False, 'shape': (2,)}") ==
          "dtype >f4 is not among those that can be read");
    CHECK(refused("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}") == "holds records, not numbers");
  }

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
    CHECK(message([&] { load_npy(folder.path); }) == folder.path.string() + ": is no regular file");
    CHECK(message([&] { save_npy(folder / "no/x.npy", ones({1})); }) ==
          inside + "no/x.npy: cannot be written: No such file or directory");
    CHECK(message([&] { save_npy(folder.path, ones({1})); }).ends_with("is there already and no regular file"));
    CHECK(message([&] { save_npy("/dev/null", ones({1})); }) == "/dev/null: is there already and no regular file");
    REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    CHECK(message([&] { load_npz(folder / "pipe"); }) == inside + "pipe: is no regular file");
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
