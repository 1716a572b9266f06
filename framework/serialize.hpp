// Tensors in files: safetensors (weights and checkpoints; readable by PyTorch's ecosystem), .npy and .npz (NumPy).
// Every file is written whole or not at all: into ".NAME.tmp" in the same folder, fsync, rename, fsync of the folder.
// A process that is killed meanwhile leaves the old file as it was, and a temporary that the next save takes over.
// Every reader checks what it reads before it allocates: a hostile file is an IoError, never a crash.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "framework/errors.hpp"
#include "framework/parameters.hpp"
#include "framework/tensor.hpp"

namespace surgeon {

// Writes a text or any bytes whole or not at all, as all of the below do. Sync::later does not wait for the disk, which
// takes milliseconds: enough for a process that is killed, but a power cut may then lose the file.
enum class Sync { now, later };
void write_file(const std::filesystem::path& path, std::string_view bytes, Sync sync = Sync::now);

// ---- safetensors: https://github.com/huggingface/safetensors, "Format" ---------------------------------------------

using Metadata = std::map<std::string, std::string>;   // both UTF-8

struct TensorFile {
  Parameters tensors;    // in the order of the header
  Metadata metadata;
};

// Names and metadata must be UTF-8 and no name "__metadata__": std::invalid_argument. A CRC-32 over header and numbers
// goes into the metadata as "surgeon.crc32", so that damage is noticed; load checks it where there is one.
void save_safetensors(const std::filesystem::path& path, const Parameters& tensors, const Metadata& metadata = {});
// F32, F64, I64 and BOOL as they are; F16 and BF16 widened to float32; shorter integers to int64.
TensorFile load_safetensors(const std::filesystem::path& path);
Metadata load_metadata(const std::filesystem::path& path);   // of the header alone; the numbers are not read

// ---- NumPy's .npy and .npz -----------------------------------------------------------------------------------------

// f4, f8, i8 and bool as they are; f2 widened to float32, shorter integers to int64. Little-endian, in C or Fortran
// order.
void save_npy(const std::filesystem::path& path, const Tensor& x);
Tensor load_npy(const std::filesystem::path& path);
// Stored, as numpy.savez writes them: compressed, encrypted and files of 4 GiB and more are refused.
void save_npz(const std::filesystem::path& path, const Parameters& tensors);
Parameters load_npz(const std::filesystem::path& path);

}  // namespace surgeon
