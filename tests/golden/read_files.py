#!/usr/bin/python3
"""Reads a .safetensors, .npy or .npz file without any of our own code and prints it as JSON:
{"metadata": {..}, "tensors": {name: {"dtype": "F32", "shape": [2, 3], "bytes": hexadecimal}}}.

Used by test_serialize.cpp on the files we write, and by make_optim_golden.py on those it writes itself.
safetensors is read by hand from its specification; .npy and .npz by NumPy.
"""
import json
import struct
import sys

WIDTHS = {"BOOL": 1, "F16": 2, "BF16": 2, "F32": 4, "F64": 8, "I64": 8}


def unique(pairs):
    assert len({key for key, _ in pairs}) == len(pairs), "a name occurs twice"
    return dict(pairs)


def read_safetensors(path):
    with open(path, "rb") as file:
        content = file.read()
    (length,) = struct.unpack("<Q", content[:8])
    assert 8 + length <= len(content), "the header is longer than the file"
    assert content[8:9] == b"{", "the header does not begin with {"
    header = json.loads(content[8:8 + length].decode("utf-8"), object_pairs_hook=unique)
    numbers = content[8 + length:]
    metadata = header.pop("__metadata__", {})
    assert all(isinstance(value, str) for value in metadata.values())
    tensors, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, stop = entry["data_offsets"]
        size = WIDTHS[entry["dtype"]]
        for extent in entry["shape"]:
            size *= extent
        assert begin == end and stop - begin == size, name
        assert begin % WIDTHS[entry["dtype"]] == 0, f"{name} is not aligned"
        tensors[name] = {"dtype": entry["dtype"], "shape": entry["shape"], "bytes": numbers[begin:stop].hex()}
        end = stop
    assert end == len(numbers), "there are more bytes than tensors"
    assert (8 + length) % 8 == 0, "the numbers are not aligned"
    return {"metadata": metadata, "tensors": {name: tensors[name] for name in header}}


def read_numpy(path):
    import numpy as np
    names = {"f4": "F32", "f8": "F64", "i8": "I64", "b1": "BOOL"}
    loaded = np.load(path)
    arrays = {"": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    return {"metadata": {}, "tensors": {name: {"dtype": names[array.dtype.str[1:]], "shape": list(array.shape),
                                               "bytes": array.tobytes().hex()} for name, array in arrays.items()}}


def read(path):
    return read_safetensors(path) if path.endswith(".safetensors") else read_numpy(path)


if __name__ == "__main__":
    json.dump(read(sys.argv[1]), sys.stdout)
