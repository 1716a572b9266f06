// Random numbers: Philox against published vectors and Random123, the same bits everywhere, and distributions.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "framework/framework.hpp"
#include "framework/kernels/random.hpp"
#include "framework/machine.hpp"

#if __has_include(<Random123/philox.h>)
#include <Random123/philox.h>
#define HAS_RANDOM123
#endif

using namespace surgeon;
using kernels::Isa;
using kernels::Random;
using kernels::Stream;

namespace {

// The kernels of every instruction set that this machine has.
std::vector<const Random*> all_kernels() {
  std::vector<const Random*> all = {&kernels::baseline::random};
  if (kernels::isa() >= Isa::v3) all.push_back(&kernels::v3::random);
  if (kernels::isa() >= Isa::v4) all.push_back(&kernels::v4::random);
  return all;
}

template <class T>
std::vector<T> draw(void (*kernel)(Stream, std::int64_t, T*), Stream from, std::int64_t n) {
  std::vector<T> y(static_cast<std::size_t>(n));
  kernel(from, n, y.data());
  return y;
}

// FNV-1a over the bytes: one number that changes with any bit.
template <class T>
std::uint64_t fingerprint(std::span<const T> values) {
  std::uint64_t hash = 14695981039346656037u;
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  for (std::size_t i = 0; i < values.size_bytes(); ++i) hash = (hash ^ bytes[i]) * 1099511628211u;
  return hash;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.dtype() == Dtype::float32) return fingerprint(a.values<float>()) == fingerprint(b.values<float>());
  return fingerprint(a.values<double>()) == fingerprint(b.values<double>());
}

// How many standard errors the mean of n products of independent standard normals is from 0.
double correlation_z(std::span<const double> a, std::span<const double> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0) / std::sqrt(double(a.size()));
}

double chi_square(const std::vector<std::int64_t>& counts) {
  const auto drawn = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  const double expected = double(drawn) / double(counts.size());
  double sum = 0;
  for (const std::int64_t count : counts) sum += (double(count) - expected) * (double(count) - expected) / expected;
  return sum;
}
// Chi-square of k bins has mean k - 1 and variance 2 (k - 1).
bool is_flat(const std::vector<std::int64_t>& counts) {
  const double freedom = double(counts.size()) - 1;
  return std::abs(chi_square(counts) - freedom) < 5 * std::sqrt(2 * freedom);
}

}  // namespace

TEST_SUITE("random") {

TEST_CASE("Philox4x32-10 gives the published known answers") {
  struct Known {
    Stream from;
    std::vector<std::uint32_t> answer;
  };
  const std::uint64_t ones = ~std::uint64_t{0};
  const std::vector<Known> table = {   // Random123's kat_vectors
      {{0, 0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{ones, ones, ones}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88}, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Random* kernel : all_kernels())
    for (const auto& [from, answer] : table) CHECK(draw(kernel->bits, from, 4) == answer);
}

#ifdef HAS_RANDOM123
TEST_CASE("blocks equal Random123's, also where the position's low half overflows") {
  const Stream from{0x123456789abcdef0, 0xfedcba9876543210, 0xfffffff0};
  const auto low = [](std::uint64_t x) { return std::uint32_t(x); };
  const auto high = [](std::uint64_t x) { return std::uint32_t(x >> 32); };
  for (const Random* kernel : all_kernels()) {
    const std::vector<std::uint32_t> words = draw(kernel->bits, from, 4 * 1000);
    std::vector<std::uint32_t> expected;
    for (std::uint64_t position = from.position; expected.size() < words.size(); ++position) {
      const auto block = r123::Philox4x32()({{low(position), high(position), low(from.stream), high(from.stream)}},
                                            {{low(from.seed), high(from.seed)}});
      expected.insert(expected.end(), block.begin(), block.end());
    }
    CHECK(words == expected);
  }
}
#endif

TEST_CASE("every instruction set and every length gives the same bits") {
  const Stream from{7, 3, 1000};
  const Random& first = kernels::baseline::random;
  const auto whole = draw(first.normal_double, from, 300);
  const auto whole_float = draw(first.normal_float, from, 300);
  const auto uniforms = draw(first.uniform_double, from, 300);
  const auto uniforms_float = draw(first.uniform_float, from, 300);
  for (const Random* kernel : all_kernels())
    for (const std::int64_t n : {1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 100, 129, 299, 300}) {
      const auto starts = [n](const auto& part, const auto& all) {
        return std::memcmp(part.data(), all.data(), std::size_t(n) * sizeof(all[0])) == 0;
      };
      CHECK(starts(draw(kernel->normal_double, from, n), whole));
      CHECK(starts(draw(kernel->normal_float, from, n), whole_float));
      CHECK(starts(draw(kernel->uniform_double, from, n), uniforms));
      CHECK(starts(draw(kernel->uniform_float, from, n), uniforms_float));
    }
}

TEST_CASE("normals are Box and Muller's of the block's words, to 2e-15; float32 ones are those, rounded") {
  const Stream from{11, 0, 0};
  const std::int64_t n = 100000;
  const Random& kernel = kernels::random();
  const auto words = draw(kernel.bits, from, n);
  const auto normals = draw(kernel.normal_double, from, n);
  const auto floats = draw(kernel.normal_float, from, n);
  double worst = 0;
  std::int64_t unlike = 0;
  for (std::size_t i = 0; i < normals.size(); i += 2) {
    const long double radius = sqrtl(-2 * logl((words[i] + 0.5L) / 4294967296.0L));
    const long double angle = 6.283185307179586476925286766559L * words[i + 1] / 4294967296.0L;
    worst = std::max({worst, double(fabsl(radius * cosl(angle) - normals[i]) / radius),
                      double(fabsl(radius * sinl(angle) - normals[i + 1]) / radius)});
    unlike += floats[i] != float(normals[i]) || floats[i + 1] != float(normals[i + 1]);
  }
  CHECK(worst < 2e-15);
  CHECK(unlike == 0);
}

TEST_CASE("uniforms are the upper 53 of 64 bits; float32 ones never exceed them, and never reach 1") {
  const Stream from{5, 9, 0};
  const std::int64_t n = 100000;
  const Random& kernel = kernels::random();
  const auto words = draw(kernel.bits, from, 2 * n);
  const auto uniforms = draw(kernel.uniform_double, from, n);
  const auto floats = draw(kernel.uniform_float, from, n);
  std::int64_t unlike = 0, above = 0;
  for (std::size_t i = 0; i < uniforms.size(); ++i) {
    const std::uint64_t bits = words[2 * i] | std::uint64_t{words[2 * i + 1]} << 32;
    unlike += uniforms[i] != double(bits >> 11) * 0x1p-53;
    above += double(floats[i]) > uniforms[i] || double(std::nextafter(floats[i], 2.f)) <= uniforms[i];
  }
  CHECK(unlike == 0);
  CHECK(above == 0);
  CHECK(*std::max_element(floats.begin(), floats.end()) < 1.f);
}

TEST_CASE("golden values: what seed 42 gives never changes") {
  Rng rng(42);
  CHECK(rng.next() == 0x77f5493b9ceaf053);
  CHECK(rng.uniform() == 0x1.4ee9b3f7f36c8p-2);
  CHECK(rng.normal() == -0x1.590c87495b7a7p-2);
  CHECK(rng.below(1000) == 541);
  CHECK(rng.position() == 4);
  CHECK(fingerprint(randn({10007}, rng).values<float>()) == 0xf34c31f407b88d53);
  CHECK(fingerprint(randn({10007}, rng, Dtype::float64).values<double>()) == 0x864e5a45315a941e);
  CHECK(fingerprint(rand({10007}, rng).values<float>()) == 0xde8a56e5321c759d);
  CHECK(fingerprint(randint(-5, 1000, {1001}, rng).values<std::int64_t>()) == 0xb6ab9e875b8ab642);
  CHECK(permutation(8, rng) == std::vector<std::int64_t>{4, 3, 6, 1, 2, 5, 7, 0});
  CHECK(rng.position() == 11020);
}

TEST_CASE("any number of threads gives the same bits") {
  for (const Dtype dtype : {Dtype::float32, Dtype::float64}) {
    const auto numbers = [&](int threads) {
      const ThreadsGuard guard(threads);
      Rng rng(3, 1);
      return std::array{randn({100003}, rng, dtype), rand({77, 1000}, rng, dtype)};
    };
    const auto one = numbers(1);
    for (const int threads : {2, 3, 5}) {
      const auto several = numbers(threads);
      CHECK(same_bits(one[0], several[0]));
      CHECK(same_bits(one[1], several[1]));
    }
  }
}

TEST_CASE("each call takes whole blocks: four normals, two uniforms or one other number to a block") {
  Rng rng(1);
  const auto taken = [&](const auto& call) {
    const std::uint64_t before = rng.position();
    call();
    return rng.position() - before;
  };
  CHECK(taken([&] { randn({5}, rng); }) == 2);
  CHECK(taken([&] { randn({2, 4}, rng); }) == 2);
  CHECK(taken([&] { randn({0}, rng); }) == 0);
  CHECK(taken([&] { rand({5}, rng); }) == 3);
  CHECK(taken([&] { rng.normal(); }) == 1);
  CHECK(taken([&] { rng.uniform(); }) == 1);
  CHECK(taken([&] { rng.next(); }) == 1);
  CHECK(taken([&] { randint(0, 8, {100}, rng); }) == 100);   // 8 divides 2^64: none is thrown back
  CHECK(taken([&] { randint(0, 8, {0}, rng); }) == 0);
  CHECK(taken([&] { rng.below(8); }) == 1);
}

TEST_CASE("a position is all there is to remember") {
  Rng rng(9, 4);
  randn({10}, rng);
  Rng again(rng.seed(), rng.stream());
  again.seek(rng.position());
  CHECK(same_bits(randn({33}, rng), randn({33}, again)));
  again.seek(0);
  Rng fresh(9, 4);
  CHECK(again.normal() == randn({1}, fresh, Dtype::float64).item());
}

TEST_CASE("normals have a normal's moments") {
  Rng rng(2024);
  const std::int64_t n = 4000000;
  const Tensor x = randn({n}, rng, Dtype::float64);
  std::array<double, 5> power{};   // sums of x^k
  for (const double v : x.values<double>())
    for (double k = 1, p = v; k <= 4; ++k, p *= v) power[std::size_t(k)] += p;
  const double root = std::sqrt(double(n));
  CHECK(std::abs(power[1] / double(n)) * root < 5 * 1);
  CHECK(std::abs(power[2] / double(n) - 1) * root < 5 * std::sqrt(2.0));
  CHECK(std::abs(power[3] / double(n)) * root < 5 * std::sqrt(15.0));
  CHECK(std::abs(power[4] / double(n) - 3) * root < 5 * std::sqrt(96.0));
}

TEST_CASE("normals have a normal's shape, and its tails out to 5 sigma") {
  Rng rng(77);
  const std::int64_t n = 1 << 24;
  const Tensor x = randn({n}, rng);
  std::vector<std::int64_t> bins(200, 0);
  std::array<std::int64_t, 6> beyond{};
  for (const float v : x.values<float>()) {
    const double p = 0.5 * std::erfc(-double(v) * std::sqrt(0.5));   // uniform if v is normal
    ++bins[std::min<std::size_t>(199, std::size_t(p * 200))];
    for (std::size_t k = 1; k <= 5 && std::abs(v) > float(k); ++k) ++beyond[k];
  }
  CHECK(is_flat(bins));
  for (std::size_t k = 1; k <= 5; ++k) {
    const double expected = double(n) * std::erfc(double(k) * std::sqrt(0.5));
    CHECK_MESSAGE(std::abs(double(beyond[k]) - expected) < 5 * std::sqrt(expected), k, " sigma: ", beyond[k], " of ",
                  expected);
  }
}

TEST_CASE("streams, seeds and neighbours are independent") {
  const std::int64_t n = 1000000;
  const auto numbers = [](std::uint64_t seed, std::uint64_t stream) {
    Rng rng(seed, stream);
    return randn({n}, rng, Dtype::float64);
  };
  const Tensor base = numbers(1, 0);
  const std::span<const double> x = base.values<double>();
  for (const auto& [seed, stream] : std::vector<std::array<std::uint64_t, 2>>{
           {1, 1}, {2, 0}, {1, 2}, {0, 1}, {1, std::uint64_t{1} << 32}, {std::uint64_t{1} << 32, 0}}) {
    const Tensor other = numbers(seed, stream);
    CHECK(std::abs(correlation_z(x, other.values<double>())) < 5);
  }
  // Within a block, across blocks, and in magnitude (the two of a pair share their radius).
  std::vector<double> size(x.size());
  std::transform(x.begin(), x.end(), size.begin(), [](double v) { return (v * v - 1) / std::sqrt(2.0); });
  for (const std::size_t lag : {1, 2, 3, 4, 5, 8, 16, 32, 64, 4096}) {
    CHECK(std::abs(correlation_z(x.subspan(lag), x.first(x.size() - lag))) < 5);
    CHECK(std::abs(correlation_z(std::span<const double>(size).subspan(lag),
                                 std::span<const double>(size).first(size.size() - lag))) < 5);
  }
}

TEST_CASE("below is uniform, also when the range does not divide 2^64") {
  Rng rng(4);
  std::vector<std::int64_t> tens(10, 0), thirds(3, 0);
  for (int i = 0; i < 100000; ++i) ++tens[std::size_t(rng.below(10))];
  const std::int64_t third = std::int64_t{1} << 61;   // of 3 * 2^61, where a plain remainder would favour the low end
  for (int i = 0; i < 30000; ++i) ++thirds[std::size_t(rng.below(3 * third) / third)];
  CHECK(is_flat(tens));
  CHECK(is_flat(thirds));
  CHECK(rng.below(1) == 0);
}

TEST_CASE("randint covers its range and nothing else, up to all of int64") {
  Rng rng(6);
  std::vector<std::int64_t> counts(7, 0);
  const Tensor small = randint(-3, 4, {70000}, rng);
  for (const std::int64_t v : small.values<std::int64_t>()) ++counts.at(std::size_t(v + 3));   // throws outside
  CHECK(is_flat(counts));
  using Limits = std::numeric_limits<std::int64_t>;
  const Tensor wide = randint(Limits::min(), Limits::max(), {1000}, rng);
  const auto negative = std::count_if(wide.values<std::int64_t>().begin(), wide.values<std::int64_t>().end(),
                                      [](std::int64_t v) { return v < 0; });
  CHECK(std::abs(double(negative) - 500) < 5 * std::sqrt(250.0));
}

TEST_CASE("randint gives what below would, one by one") {
  Rng many(3), single(3);
  const std::int64_t range = 3 * (std::int64_t{1} << 61);   // a quarter of the draws is thrown back
  const Tensor x = randint(0, range, {1000}, many);
  bool same = true;
  for (const std::int64_t v : x.values<std::int64_t>()) same &= v == single.below(range);
  CHECK(same);
  CHECK(many.position() == single.position());
}

TEST_CASE("permutation: every order is as likely as any other") {
  Rng rng(8);
  std::vector<std::int64_t> counts(120, 0), order;
  for (int i = 0; i < 24000; ++i) {
    order = permutation(5, rng);
    std::int64_t rank = 0;   // in the factorial number system
    for (std::size_t k = 0; k < 5; ++k)
      rank = rank * std::int64_t(5 - k) + std::count_if(order.begin() + std::ptrdiff_t(k), order.end(),
                                                        [&](std::int64_t v) { return v < order[k]; });
    ++counts[std::size_t(rank)];
  }
  CHECK(is_flat(counts));
  CHECK(permutation(0, rng).empty());
}

TEST_CASE("what cannot be drawn is refused by name") {
  Rng rng(1);
  CHECK_THROWS_WITH_AS(rng.below(0), "Rng::below: n must be at least 1, not 0", std::invalid_argument);
  CHECK_THROWS_WITH_AS(randint(3, 3, {2}, rng),
                       "randint: low is 3 and high is 3; low must be below high", std::invalid_argument);
  CHECK_THROWS_WITH_AS(permutation(-1, rng), "permutation: n must not be negative, but is -1", std::invalid_argument);
  CHECK_THROWS_WITH_AS(randn({2}, rng, Dtype::int64),
                       "randn: dtype must be float32 or float64, not int64", std::invalid_argument);
  CHECK_THROWS_WITH_AS(rand({2}, rng, Dtype::boolean),
                       "rand: dtype must be float32 or float64, not boolean", std::invalid_argument);
  CHECK_THROWS_AS(randn({-2}, rng), std::invalid_argument);
  CHECK(rng.position() == 0);
}

}  // TEST_SUITE
