// Numbers and words as text, the same in the terminal, the files and the figures.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace surgeon {

std::string number(double x, int digits = 3);                 // "0.0123", "4.1e-09", "nan"
std::string fixed(double x, int decimals);                    // "0.10", "-3.00"; never "-0.00"
std::string precise(double x);                           // all digits that tell it from its neighbours
std::string with_error(double mean, double standard_error);   // "0.912(3)": the error in units of the last digit

std::size_t letters_in(const std::string& text);              // characters of UTF-8, not bytes
std::vector<std::string> words_of(const std::string& text);   // what stands between white space
std::string csv_field(const std::string& text);               // in quotes where CSV needs them (RFC 4180)

}  // namespace surgeon
