// Formats of files: what we write is read by others and back, and what is hostile is refused.
#include <doctest/doctest.h>

#include <stdio.h>

#include <cmath>
#include <cstdlib>
#include <ctime>
#include <stdexcept>

#include "framework/framework.hpp"
#include "framework/serialize.hpp"
#include "tests/folder.hpp"
#include "tests/golden/golden.hpp"

namespace fs = std::filesystem;
using namespace surgeon;
using namespace surgeon::tests;

namespace {

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

// Whether tensors hold what read_files.py says; each {"dtype", "shape", "bytes"}.
void check_described(const Parameters& tensors, const Json& expected) {
  REQUIRE(tensors.size() == expected.size());
  for (const auto& item : expected.items()) {
    const std::string name = item.key();
    const Json& description = item.value();
    CAPTURE(name);
    const Tensor& x = tensors[name];
    const char* dtypes[] = {"F32", "F64", "I64", "BOOL"};
    CHECK(description["dtype"] == dtypes[int(x.dtype())]);
    CHECK(description["shape"].get<Shape>() == x.shape());
    CHECK(description["bytes"] == hexadecimal(raw(x)));
  }
}

// What tests/golden/read_files.py prints; "" when Python or NumPy is missing.
std::string read_by_python(const fs::path& path) {
  if (!fs::exists("/usr/bin/python3")) return "";
  const std::string script = (source_folder() / "tests/golden/read_files.py").string();
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

  TEST_CASE("safetensors, .npy, .npz, .pt: files that Python wrote are read") {
    const Folder folder;
    const Json cases = golden_cases("files.json");
    for (const Json& file : cases["files"]) {
      const std::string name = file["name"];
      CAPTURE(name);
      const fs::path path = folder / name;
      write_bytes(path, from_hexadecimal(file["bytes"]));
      const auto load = [&]() -> Parameters {
        if (path.extension() == ".npz") return load_npz(path);
        if (path.extension() == ".pt") return load_pt(path);
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
    CHECK(refused("") == "ends too early, at byte 0");
    CHECK(refused(std::string("\0\0\0\0\0\0\0\x80", 8)) ==
          "the header is 9223372036854775808 bytes long; the format allows 100000000");
    CHECK(refused(std::string(8, '\xff')).starts_with("the header is 18446744073709551615 bytes long"));
    CHECK(refused(std::string("\xff\0\0\0\0\0\0\0{}", 10)) == "ends too early, at byte 10");
    CHECK(header("") == "the header does not begin with {");
    std::string ones = "[1";
    for (int axis = 1; axis < 65; ++axis) ones += ",1";
    CHECK(entry(ones + "]", "[0,4]") == "tensor \"a\": its shape has more than 64 numbers");
    CHECK(header("{\"" + std::string(65536, 'n') + "\":{}}") ==
          "the header has a name of 65536 bytes; at most 65535 are read");
    CHECK(header("[]") == "the header does not begin with {");
    CHECK(header("{").starts_with("the header is not JSON"));
    CHECK(header("{\"\xff\":1}").starts_with("the header is not JSON in UTF-8"));
    CHECK(header("{\"\xed\xa0\x80\":1}").starts_with("the header is not JSON in UTF-8"));   // a surrogate
    CHECK(header("{}") == "the header describes 0 bytes of numbers, but the file has 8");
    CHECK(header("{\"a\":" + std::string(100000, '[')) == "tensor \"a\": must be described by dtype, shape and data_offsets alone");
    CHECK(header("{\"a\":1e999}") == "the header holds a number that is out of range");
    CHECK(header(R"({"a":[]})") == "tensor \"a\": must be described by dtype, shape and data_offsets alone");
    CHECK(header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})") ==
          "tensor \"a\": must be described by dtype, shape and data_offsets alone");
    CHECK(header(R"({"__metadata__":{"a":1}})") == "__metadata__ holds a value that is not a string");
    CHECK(header(R"({"__metadata__":[]})") == "__metadata__ must be an object");
    CHECK(entry("[2]", "[0,8]", "F8_E4M3") == "tensor \"a\": dtype \"F8_E4M3\" is not supported");
    CHECK(entry("[2]", "[0,8]") == "nothing was thrown");
    CHECK(entry("[-2]", "[0,8]") == "tensor \"a\": its shape must be a list of whole numbers");
    CHECK(entry("[2.0]", "[0,8]") == "tensor \"a\": its shape must be a list of whole numbers");
    CHECK(entry("[[2]]", "[0,8]") == "the header is nested too deeply");
    CHECK(entry("[2]", "[0,18446744073709551624]") == "tensor \"a\": its data_offsets must be a list of whole numbers");
    CHECK(entry("[2]", "[8,0]") == "tensor \"a\": its data_offsets must be a begin and an end");
    CHECK(entry("[2]", "[0]") == "tensor \"a\": its data_offsets must be a begin and an end");
    CHECK(entry("[3]", "[0,8]") == "tensor \"a\": F32 [3] does not fit the 8 bytes it is given");
    CHECK(entry("[4294967296,4294967296]", "[0,0]").ends_with("more than 2^59 elements"));
    CHECK(entry("[2]", "[4,12]").starts_with("tensor \"a\" begins at byte 4"));
    CHECK(entry("[250000000000]", "[0,1000000000000]") ==
          "the header describes 1000000000000 bytes of numbers, but the file has 8");
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
    CHECK(two("[0,4]", "[0,4]") == "tensor \"b\" begins at byte 0 of the numbers, but the one before it ends at 4");
    CHECK(two("[0,4]", "[3,7]") == "tensor \"b\" begins at byte 3 of the numbers, but the one before it ends at 4");
    CHECK(two("[0,4]", "[5,9]") == "tensor \"b\" begins at byte 5 of the numbers, but the one before it ends at 4");
    CHECK(two("[0,4]", "[4,8]", "a") == "the header has \"a\" twice");
    CHECK(two("[0,4]", "[4,8]", "\\u0061") == "the header has \"a\" twice");
    const std::string twice = R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
    CHECK(refusal_of(tensors_of, folder / "x", header_and(twice, "12345678")) == "the header has \"dtype\" twice");
  }

  TEST_CASE("safetensors: long headers take time in proportion, in whatever order their names are") {
    const Folder folder;
    // Seconds to read n tensors and as many texts, whose names come in the order that the factor makes.
    const auto seconds = [&](std::uint64_t n, std::uint64_t factor) {
      const auto name = [&](std::uint64_t i) { return std::to_string(1'000'000 + i * factor % n); };
      std::string header = "{\"__metadata__\":{";
      for (std::uint64_t i = 0; i < 8 * n; ++i)
        header += (i ? ",\"" : "\"") + std::to_string(10'000'000 + i * factor % (8 * n)) + "\":\"text\"";
      header += "}";
      for (std::uint64_t i = 0; i < n; ++i)
        header += ",\"" + name(i) + R"(":{"dtype":"BOOL","shape":[1],"data_offsets":[)" + std::to_string(i) + "," +
                  std::to_string(i + 1) + "]}";
      write_bytes(folder / "x", header_and(header + "}", std::string(n, '\0')));
      const std::clock_t before = std::clock();
      const TensorFile file = load_safetensors(folder / "x");
      const double taken = double(std::clock() - before) / CLOCKS_PER_SEC;
      CHECK(file.tensors.size() == n);
      CHECK(file.metadata.size() == 8 * n);
      return taken;
    };
    const double small = seconds(10'000, 1), large = seconds(80'000, 1), mixed = seconds(80'000, 77'777);
    CHECK(large < 24 * small);   // eight times as many; quadratic would be 64
    CHECK(mixed < 4 * large);
  }

  TEST_CASE("safetensors: a checksum that is not ours to move is noticed") {
    const Folder folder;
    save_safetensors(folder / "a", {{"W", tensor({1.0f}, {1})}});
    std::string bytes = read_bytes(folder / "a");
    bytes.replace(bytes.find("surgeon.crc32\":"), 15, "surgeon.crc32\" ");   // no JSON any more
    CHECK(refusal_of(tensors_of, folder / "x", bytes).starts_with("the header is not JSON"));
    CHECK(refusal_of(tensors_of, folder / "x", header_and(R"({"__metadata__":{"surgeon.crc32": "00000000"}})", "")) ==
          "the checksum is not where it should be");
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

  TEST_CASE(".npz, compressed: what is saved comes back, here and in NumPy, and large zeros become small") {
    const Folder folder;
    save_npz(folder / "x.npz", samples(), Compression::deflate);
    CHECK(equal(load_npz(folder / "x.npz"), samples()));
    const std::string text = read_by_python(folder / "x.npz");
    if (!text.empty()) check_described(samples(), Json::parse(text)["tensors"]);
    Rng rng(3);
    const Parameters mixed{{"zeros", zeros({1 << 20})}, {"noise", randn({300, 1000}, rng)}};
    save_npz(folder / "large.npz", mixed, Compression::deflate);
    CHECK(equal(load_npz(folder / "large.npz"), mixed));
    CHECK(fs::file_size(folder / "large.npz") < (std::size_t(300) << 12) + 10000);
  }

  TEST_CASE(".npz, compressed: every truncation and every flipped bit is an error or changes no tensor") {
    const Folder folder;
    save_npz(folder / "a", {{"W", tensor({1.0f, 2.0f}, {2})}, {"m", tensor({true}, {1})}}, Compression::deflate);
    damage_everywhere([](const fs::path& path) { return load_npz(path); }, folder / "a", load_npz(folder / "a"));
  }

  TEST_CASE(".npz, compressed: a member cannot claim more than its bytes can unpack to") {
    const Folder folder;
    save_npz(folder / "a", {{"W", zeros({4})}}, Compression::deflate);
    std::string bytes = read_bytes(folder / "a");
    const std::size_t central = bytes.find("PK\x01\x02");
    REQUIRE(central != std::string::npos);
    bytes[central + 27] = 0x40;   // the unpacked length: 1 GiB and a little
    const std::string refusal = refusal_of([](const fs::path& path) { return load_npz(path); }, folder / "b", bytes);
    CHECK(refusal.starts_with("W.npy cannot have 10737"));
  }

  TEST_CASE(".npz: every truncation and every flipped bit is an error or changes no tensor") {
    const Folder folder;
    save_npz(folder / "a", {{"W", tensor({1.0f, 2.0f}, {2})}, {"m", tensor({true}, {1})}});
    damage_everywhere([](const fs::path& path) { return load_npz(path); }, folder / "a", load_npz(folder / "a"));
  }

  TEST_CASE("ONNX: what is no model is refused, and a build that reads none says how to get one that does") {
    const Folder folder;
    const std::string refusal =
        refusal_of([](const fs::path& path) { return load_onnx(path); }, folder / "x.onnx", "not a model");
    CHECK((refusal == "is not an ONNX model" || refusal.find("-DSURGEON_ONNX=ON") != std::string::npos));
  }

  TEST_CASE(".pt: what would run code is refused by name, and damage is an error or changes no tensor") {
    const Folder folder;
    const auto load = [](const fs::path& path) { return load_pt(path); };
    const Json files = golden_cases("files.json")["files"];
    const auto bytes_of = [&](const std::string& name) {
      const auto found = std::find_if(files.begin(), files.end(), [&](const Json& file) { return file["name"] == name; });
      REQUIRE(found != files.end());
      return from_hexadecimal((*found)["bytes"]);
    };
    CHECK(refusal_of(load, folder / "x", bytes_of("code.pt")).starts_with("asks for posix.system; only tensors"));
    CHECK(refusal_of(load, folder / "x", bytes_of("module.pt")).starts_with("asks for torch.nn.modules.linear.Linear;"));
    CHECK(refusal_of(load, folder / "x", bytes_of("inst.pt")) == "its pickle has the opcode 105, which no tensor needs");
    CHECK(refusal_of(load, folder / "x", bytes_of("within_itself.pt")).ends_with("is nested more than 64 deep"));
    write_bytes(folder / "a", bytes_of("tensor.pt"));
    damage_everywhere(load, folder / "a", load_pt(folder / "a"));
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
    const std::string unlike = "the header is not in NumPy's format";
    CHECK(shaped("(2,)") == "nothing was thrown");
    CHECK(shaped("(1, 2)") == "nothing was thrown");
    CHECK(shaped("(1L, 2L)") == "nothing was thrown");   // as Python 2 wrote it
    CHECK(shaped("(2)") == "nothing was thrown");
    CHECK(shaped("(3,)") == "<f4 [3] does not fit the 8 bytes of numbers");
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
          "dtype >f4 is not supported");
    CHECK(refused("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}") == "holds records, not numbers");
  }
}
