#!/bin/sh
# Measures ptb_dist on a GPU. One command, under ten minutes; nothing is installed, nobody is root:
#
#   tests/bench/gpu.sh                                    beside PyTorch + cuDNN, floors, phases
#   tests/bench/gpu.sh train large --precision bf16       a configuration in full; again: it goes on
#   tests/bench/gpu.sh scaling                            1, 2, 4, 8 GPUs, as far as there are
#   tests/bench/gpu.sh table gpu_compare.jsonl            the tables of rows that are there
#
#   --program FILE   ptb_dist (build/ptb_dist; in a bundle its own, bin/ptb_dist)
#   --mpirun WORDS   with its options (mpirun --bind-to none; in a bundle its own)
#   --data DIR       the Penn Treebank, or synthetic ($PTB_DATA, data/ptb)
#   --python FILE    an interpreter that has torch, for PyTorch's columns (that of this script)
#   --minutes N      the time it may take (9)
#
# Prints tables in Markdown; every row is also a line of JSON in --json FILE (gpu_<command>.jsonl)
# as soon as it is measured, so that what is stopped or killed keeps its rows. All options:
# tests/bench/gpu.sh COMMAND --help. Needs python3; PyTorch's columns need torch and numpy.

set -eu
exec python3 "$(dirname "$0")/gpu.py" "$@"
