#!/usr/bin/env bash
# Succeeds if a command ends with the given exit status: expect_exit.sh STATUS COMMAND...
expected=$1
shift
"$@"
status=$?
echo "exit status $status, expected $expected"
[ "$status" -eq "$expected" ]
