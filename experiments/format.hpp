// Numbers and words as text, the same in the terminal, the files and the figures.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace surgeon {

std::string number(double x, int digits = 3);                 // "0.0123", "4.1e-09", "nan"
std::string percent(double share);                            // "12.3 %", three digits
std::string fixed(double x, int decimals);                    // "0.10", "-3.00"; never "-0.00"
std::string precise(double x);                           // all digits that tell it from its neighbours
std::string with_error(double mean, double standard_error);   // "0.912(3)": the error in units of the last digit

std::size_t letters_in(const std::string& text);              // characters of UTF-8, not bytes
std::vector<std::string> words_of(const std::string& text);   // what stands between white space
// Reads one character of UTF-8 and moves i behind it. Nothing, and i where it was, when there is none (RFC 3629).
std::optional<char32_t> next_character(const std::string& text, std::size_t& i);
// For a terminal: control characters, those that turn the direction of writing, and bytes that are not UTF-8 as \x1b or
// \u202e. The second keeps newlines and tabs.
std::string printable(const std::string& text);
std::string printable_lines(const std::string& text);
// At most so many characters: of longer ones the beginning and the end.
std::string shortened(const std::string& text, std::size_t most);
// One word for a shell: in quotes where it needs them, characters that a terminal would obey as \033.
std::string shell_word(const std::string& text);
std::string csv_field(const std::string& text);               // in quotes where CSV needs them (RFC 4180)

}  // namespace surgeon
