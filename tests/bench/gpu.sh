#!/bin/sh
# Measures ptb_dist on a GPU. Each call ends by itself within nine minutes, whatever hangs; nothing
# is installed, nobody is root. The first three, in this order, on a GPU that is new:
#
#   tests/bench/gpu.sh first --out DIR      does it run, how fast beside PyTorch, and why
#   tests/bench/gpu.sh train --out DIR      small, large and medium in full
#   tests/bench/gpu.sh tools --out DIR      ranks on one GPU, compute-sanitizer, lanes, variants
#
#   tests/bench/gpu.sh                                    beside PyTorch + cuDNN, floors, phases
#   tests/bench/gpu.sh train large --precision bf16       a configuration in full; again: it goes on
#   tests/bench/gpu.sh scaling                            1, 2, 4, 8 GPUs, as far as there are
#   tests/bench/gpu.sh table DIR/rows.jsonl               the tables of rows that are there
#
#   --program FILE   ptb_dist (build/ptb_dist; in a bundle its own, bin/ptb_dist)
#   --mpirun WORDS   with its options (mpirun --bind-to none; in a bundle its own)
#   --data DIR       the Penn Treebank, or synthetic ($PTB_DATA, data/ptb)
#   --python FILE    an interpreter that has torch, for PyTorch's columns (that of this script)
#   --minutes N      the time it may take (8.5)
#
# DIR gets six files, of 16 MB at most: rows.jsonl, tables.md (with the card, its clocks and power),
# log.txt, suite.txt, metrics.zip and kernels.zip. Calls without --out print the tables, and add
# their rows to --json FILE (gpu_<command>.jsonl). Rows are written as soon as they are measured, so
# that what is stopped or killed keeps them. Exit status of a call with --out: 0, or 1 where a note
# says what is missing.
# All options: tests/bench/gpu.sh COMMAND --help. Needs python3; PyTorch's columns need torch and
# numpy, the list of kernels ncu, the checks compute-sanitizer.

set -eu
exec python3 "$(dirname "$0")/gpu.py" "$@"
