#!/usr/bin/env bash
# Installs the Debian packages that ptb_dist is built, run and tested with.
#
#   launch/packages.sh            what building, running and the download of the corpus need
#   launch/packages.sh --tests    and what the tests need
#
# Says nothing and touches nothing, the network included, when all of them are there. Otherwise it
# names the missing ones and installs them with apt-get (on a bare Debian 12 150 MB of downloads,
# 1 GB of disk), as root or through sudo; else it prints the line to run and ends with 69.
# Where there is no apt-get it does nothing: install the same libraries, CMake names what it lacks.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

packages=(
  g++ cmake ninja-build git               # git names the version that is being built
  openmpi-bin libopenmpi-dev              # message passing and mpirun
  libdnnl-dev ocl-icd-opencl-dev          # oneDNN: matrix products; its CMake files want OpenCL's
  libhdf5-dev libxxhash-dev               # checkpoints and their digests
  librandom123-dev                        # Philox, counter-based random numbers
  libcli11-dev libtomlplusplus-dev        # command line, configuration files
  libfmt-dev nlohmann-json3-dev           # text, metrics
  libboost-test-dev python3               # the tests, which are part of the build by default
  curl ca-certificates                    # get_ptb.sh
)
test_packages=(
  libboost-context-dev                    # the CUDA backend's kernels on the CPU
  python3-h5py python3-xxhash hdf5-tools  # checkpoints seen, and forged, from outside
  strace                                  # faults of the disk
  slurmctld slurmd slurm-client munge     # a cluster,
  iproute2                                # whose hosts have networks of their own
  patchelf                                # bundle.sh
  shellcheck                              # these scripts
)

case "${1:-}" in
  '') ;;
  --tests) packages+=("${test_packages[@]}") ;;
  --help | -h) usage && exit ;;
  *) fail 2 "$1: no such option; the only one is --tests" ;;
esac

if ! command -v apt-get >/dev/null; then
  say "no apt-get here: taking for granted the equivalents of ${packages[*]}"
  exit
fi

installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null ||
  true) # it fails when one is unknown, having named the others
missing=()
for package in "${packages[@]}"; do
  grep -qxF "installed $package" <<<"$installed" || missing+=("$package")
done
if ((${#missing[@]} == 0)); then exit; fi

install=(apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}")
if [[ $(id -u) == 0 ]]; then
  root=(env)
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
  root=(sudo env)
else
  fail 69 "packages are missing and this is not root;" \
    "run: sudo apt-get update && sudo ${install[*]}"
fi
say "installing ${missing[*]}"
# A package source that does not answer is no reason to stop yet: others may have what is missing.
"${root[@]}" apt-get -q -o DPkg::Lock::Timeout=300 update || say "apt-get update failed; going on"
"${root[@]}" DEBIAN_FRONTEND=noninteractive "${install[@]}" ||
  fail 69 "packages are missing (${missing[*]}): apt-get could not install them, see above;" \
    "mend its network or sources and start again"
