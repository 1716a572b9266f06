// Tensors in files: safetensors (weights and checkpoints, which PyTorch's ecosystem reads too), NumPy's .npy and .npz,
// and those that PyTorch saved; the weights of ONNX models.
// Every file is written whole or not at all: into ".NAME.tmp" in the same folder, fsync, rename, fsync of the folder.
// A process that is killed meanwhile leaves the old file as it was, and a temporary file that the next save takes over.
// Every reader checks what it reads before it allocates memory: a hostile file is an IoError, never a crash.
// What survives a power cut: whatever a call with Sync::now, save_... or sync_file has returned from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "framework/errors.hpp"
#include "framework/parameters.hpp"
#include "framework/tensor.hpp"

namespace surgeon {

// Writes text, or any bytes, whole or not at all, as all below does. Sync::later does not wait for the disk, which
// takes milliseconds: enough for a process that is killed, but a power cut may then lose the file.
enum class Sync { now, later };
void write_file(const std::filesystem::path& path, std::string_view bytes, Sync sync = Sync::now);
void sync_file(const std::filesystem::path& path);   // waits until the disk has the file, or a folder's names
// The bytes of a regular file, whole. IoError for pipes, devices and folders, which are not opened to wait for, and for
// more than `most` bytes.
std::string read_file(const std::filesystem::path& path, std::uint64_t most);

// ---- safetensors: https://github.com/huggingface/safetensors, "Format" ---------------------------------------------

using Metadata = std::map<std::string, std::string>;   // keys and values are UTF-8

struct TensorFile {
  Parameters tensors;    // in the order of the header
  Metadata metadata;
};

// Names and metadata must be UTF-8, and no tensor may be named "__metadata__", or std::invalid_argument is thrown. A
// CRC-32 over header and numbers goes into the metadata as "surgeon.crc32", so that damage is noticed: load checks it
// where there is one.
void save_safetensors(const std::filesystem::path& path, const Parameters& tensors, const Metadata& metadata = {});
// Reads F32, F64, I64 and BOOL as they are, widens F16 and BF16 to float32, and shorter integers to int64. Reading takes
// time in proportion to the file, and a few times its memory. Refused are headers above 100,000,000 bytes (the format's
// own limit), more than 1,000,000 tensors, names above 65,535 bytes, and more than 64 axes.
TensorFile load_safetensors(const std::filesystem::path& path);
Metadata load_metadata(const std::filesystem::path& path);   // reads the header, not the numbers

// ---- NumPy's .npy and .npz -----------------------------------------------------------------------------------------

// Little-endian files in C or Fortran order. Reads f4, f8, i8 and bool as they are, widens f2 to float32, and shorter
// integers to int64.
void save_npy(const std::filesystem::path& path, const Tensor& x);
Tensor load_npy(const std::filesystem::path& path);
// As numpy.savez writes them, or with deflate as numpy.savez_compressed does; both are read. Encrypted archives, and
// those of 4 GiB or more, are refused.
enum class Compression : bool { none, deflate };
void save_npz(const std::filesystem::path& path, const Parameters& tensors, Compression compression = Compression::none);
Parameters load_npz(const std::filesystem::path& path);

// ---- PyTorch's .pt and .pth ----------------------------------------------------------------------------------------

// The tensors of what torch.save wrote (PyTorch 1.6 and later), each named by the way to it: of {"model": state_dict},
// "model.layers.0.weight". Numbers become what they do for safetensors; whatever is not a tensor is passed over. The
// pickle in the file is read as a description and nothing in it is run: what asks for anything but tensors, dicts,
// lists, numbers and text is refused by name. Limits: 64 levels, 4,000,000 values, four times the file in tensors.
Parameters load_pt(const std::filesystem::path& path);

// ---- ONNX ----------------------------------------------------------------------------------------------------------

// The weights of a model: its initialisers and constants, by name; other numbers than for safetensors are passed over.
// Only in builds with -DSURGEON_ONNX=ON, which need libonnx and protobuf; IoError says so elsewhere.
Parameters load_onnx(const std::filesystem::path& path);

}  // namespace surgeon
