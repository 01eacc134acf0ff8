#!/usr/bin/env bash
# Makes one tarball that trains on any Linux node of this machine's architecture: the program, its
# configurations, Open MPI, and every shared library that a node may lack. On the node nothing is
# installed, and nobody is root:
#
#   tar -xzf ptb_dist-0.1.0-x86_64.tar.gz && cd ptb_dist-0.1.0-x86_64   into any folder
#   bin/mpirun -np 4 --bind-to none bin/ptb_dist --data DIR             its ABOUT.txt says more
#
#   launch/bundle.sh                  of build/, which it builds, into build/
#   launch/bundle.sh --build DIR      of a build that is there, as it is, into DIR
#   launch/bundle.sh --output FILE    FILE is a .tar.gz
#   launch/bundle.sh --cuda           with CUDA's libraries and NCCL's (645 MB); otherwise the node
#                                     has them, where its loader looks or by pip
#   launch/bundle.sh --tests          with the GPU suite and gpu.sh, for nodes with python3
#   launch/bundle.sh --compress N     gzip's level: 1 (a third of the time, an eighth more bytes)
#                                     to 9; otherwise 6
#
# Left out, and expected on the node: the C library, as new as what was built against (ABOUT.txt has
# the number), /bin/sh, the kernel's GPU driver; ssh or Slurm where there are several nodes.
# Left out, and not used: Open MPI's plug-ins for fast networks (UCX, libfabric, verbs, PSM), whose
# libraries belong to a node's drivers; between nodes the bundle speaks TCP. To use a fast network,
# build against the site's own Open MPI (README.md beside this). OpenSHMEM's plug-ins, hwloc's for
# displays.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
umask 022 # whoever unpacks it, others may run it
shopt -s nullglob

# Names of libraries, for =~.
readonly c_library='^(ld-linux.*|lib(c|m|dl|rt|pthread|util|resolv|anl|nsl|mvec))\.so'
readonly gpu_driver='^lib(cuda|nvidia-.*)\.so'
readonly cuda_library='^lib(cudart|cublas|cublasLt|nccl|nvrtc.*|nvJitLink)\.so'
readonly left_out='lib(ucp|fabric|ibverbs|psm2|psm_infinipath|oshmem)\.so'
# Compiled in without a library of their own; for their licences.
readonly headers=(libcli11-dev libtomlplusplus-dev nlohmann-json3-dev librandom123-dev)

build=
output=
with_cuda=0
with_tests=0
level=6
while (($# > 0)); do
  case "$1" in
    --build=* | --output=* | --compress=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
  esac
  case "$1" in
    --build | --output | --compress) (($# > 1)) || fail 2 "$1: a value is missing" ;;&
    --build) build=$2 && shift ;;
    --output) output=$2 && shift ;;
    --compress) level=$2 && shift ;;
    --cuda) with_cuda=1 ;;
    --tests) with_tests=1 ;;
    --help | -h) usage && exit ;;
    *) fail 2 "$1: no such option; launch/bundle.sh --help lists them" ;;
  esac
  shift
done
[[ $level =~ ^[1-9]$ ]] || fail 2 "--compress $level: give a level from 1 to 9"
command -v patchelf >/dev/null ||
  fail 69 "patchelf: not found; launch/packages.sh --tests installs it"
if [[ -z $build ]]; then
  if ((with_tests)); then
    configure_and_build build gpu_suite -DCMAKE_BUILD_TYPE=Release -DPTB_DIST_TESTS=ON
  else
    configure_and_build build ptb_dist -DCMAKE_BUILD_TYPE=Release
  fi
  build=$project/build
fi
[[ -x $build/ptb_dist ]] || fail 69 "$build/ptb_dist: not there; build it, or name another folder"
versions=$("$build/ptb_dist" --version) ||
  fail 69 "$build/ptb_dist: does not start, see above; set LD_LIBRARY_PATH"
if ((with_cuda)) && [[ $versions == *'CUDA: built without'* ]]; then
  fail 69 "--cuda: the program in $build was built without CUDA; build it with CUDA first"
fi

cached() { sed -n "s|^$1:[A-Z]*=||p" "$build/CMakeCache.txt"; }
mpi_bin=$(dirname "$(cached MPIEXEC_EXECUTABLE)")
[[ -x $mpi_bin/orted ]] ||
  fail 69 "$mpi_bin/orted: not there; bundles are made with Open MPI 4: build against one"
mpi_folder() { "$mpi_bin/ompi_info" --parsable --path "$1" | sed -n '1s|^path:[a-z]*:||p'; }

name=ptb_dist-$(cached CMAKE_PROJECT_VERSION)-$(uname -m)
[[ -n $output ]] || output=$build/$name.tar.gz
# The last step would put a file in the place of a device, and into a folder.
[[ ! -e $output || -f $output ]] || fail 2 "--output $output: is there, and no file"
(: >"$output.part") || fail 74 "$output.part: cannot be written, see above"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch" "$output.part"' EXIT
bundle=$scratch/$name
runtime=$bundle/runtime # all that the scripts in bin/ start

# --- programs, plug-ins, libraries ---

declare -A library=() # by the name that is asked for: the file that answers to it here

# need FILE: notes the libraries that FILE is loaded with; ldd's answer is the standard input.
need() {
  local name arrow path
  while read -r name arrow path _; do
    if [[ $arrow != '=>' || $name =~ $c_library || $name =~ $gpu_driver ]]; then continue; fi
    if [[ $name =~ $cuda_library ]] && ((!with_cuda)); then continue; fi
    [[ $path == /* ]] || fail 69 "$name: not found, $1 needs it; name its folder in LD_LIBRARY_PATH"
    library[$name]=$path
  done
}

# set_rpath FILE: it loads its libraries from runtime/lib, wherever the bundle lies. RPATH, unlike
# RUNPATH, comes before LD_LIBRARY_PATH: a site's modules do not change what is loaded.
set_rpath() {
  local to_lib
  to_lib=$(realpath -m --relative-to="${1%/*}" "$runtime/lib")
  patchelf --force-rpath --set-rpath "\$ORIGIN/$to_lib" "$1"
}

# put FILE PLACE: a copy in runtime/.
put() {
  install -D "$1" "$runtime/$2"
  set_rpath "$runtime/$2"
}

# put_plugins FOLDER PATTERN PLACE: those that do without what is left out.
put_plugins() {
  local plugin loaded
  for plugin in "$1"/$2; do
    loaded=$(ldd "$plugin")
    if [[ $loaded =~ $left_out ]]; then continue; fi
    need "$plugin" <<<"$loaded"
    put "$plugin" "$3/${plugin##*/}"
  done
}

# put_texts FOLDER PLACE: what Open MPI or PMIx say when something is wrong.
put_texts() { install -D -m 644 -t "$runtime/$2" "$1"/help-*.txt; }

cmake --install "$build" --prefix "$runtime" --strip >"$scratch/install.log" ||
  fail 70 "cmake --install $build: stopped, see above"
[[ -x $runtime/bin/ptb_dist ]] ||
  fail 69 "$build installs no bin/ptb_dist; configure it without CMAKE_INSTALL_BINDIR"
# Of the one in the build: the installed one no longer says where unusual folders are.
need ptb_dist < <(ldd "$build/ptb_dist")
set_rpath "$runtime/bin/ptb_dist"
for program in mpirun orted; do
  need "$program" < <(ldd "$mpi_bin/$program")
  put "$mpi_bin/$program" "openmpi/$program" # in a bin/ mpirun would take the folder above for all
done
put_plugins "$(mpi_folder pkglibdir)" 'mca_*.so' lib/openmpi
put_texts "$(mpi_folder pkgdatadir)" share/openmpi
pmix=${library[libpmix.so.2]:-} # Open MPI may also have it inside
if [[ -n $pmix ]]; then
  pmix=$(dirname "$(realpath "$pmix")")
  put_plugins "$pmix/pmix" 'pmix_mca_*.so' lib/pmix
  put_texts "$pmix/../share/pmix" share/pmix
fi

# --- the GPU suite, by option ---

# gpu_suite: the tests of the label gpu as ctest knows them, but with the places that their programs
# and scripts have in a bundle. JSON; a word of a command stands alone on its line.
gpu_suite() {
  local suite
  suite=$(ctest --test-dir "$build" -L '^gpu$' --show-only=json-v1 | python3 -c '
import json, sys
print(json.dumps({"tests": [{key: test[key] for key in ("name", "command", "properties")}
                            for test in json.load(sys.stdin)["tests"]]}, indent=1))')
  suite=${suite//"$source/tests/"/@BUNDLE@/tests/}
  suite=${suite//"$(cached CMAKE_CACHEFILE_DIR)/"/@BUNDLE@/bin/}
  suite=${suite//"$(cached MPIEXEC_EXECUTABLE) "/mpirun }
  sed -E 's|"/[^"]*/python[0-9.]*"|"python3"|' <<<"$suite"
}

suite_programs=() # in the build
suite_files=()    # in the sources
if ((with_tests)); then
  source=$(cached CMAKE_HOME_DIRECTORY)
  suite=$(gpu_suite)
  [[ $suite == *@BUNDLE@* ]] ||
    fail 69 "--tests: the build in $build has none; configure it with -DPTB_DIST_TESTS=ON"
  suite_programs=(ptb_dist_gpu_phases)
  [[ $versions == *'CUDA: built without'* ]] || suite_programs+=(ptb_dist_gpu_floors)
  suite_files=("$source"/tests/gpu/gpu_{suite,machine,process}.py
    "$source"/tests/bench/{gpu.sh,*.py})
  while read -r word; do
    case $word in
      @BUNDLE@/bin/ptb_dist) ;;
      @BUNDLE@/bin/*) suite_programs+=("${word#*/bin/}") ;;
      @BUNDLE@/tests/*.py) # imports others of its folder
        word=${word%/*}
        suite_files+=("$source/${word#*/}"/*.py)
        ;;
      @BUNDLE@/tests/*) suite_files+=("$source/${word#*/}") ;;
      *) fail 70 "$word: a test of the label gpu needs it; a bundle has no place for it" ;;
    esac
  done < <(sed -nE 's|^ *"((@BUNDLE@)?/[^"]*)",?$|\1|p' <<<"$suite" | sort -u)
fi
for program in "${suite_programs[@]}"; do
  [[ -x $build/$program ]] ||
    fail 69 "$build/$program: not there; cmake --build $build --target gpu_suite makes it"
  need "$program" < <(ldd "$build/$program")
  install -s -t "$runtime/bin" "$build/$program"
  set_rpath "$runtime/bin/$program"
done

for lib in "${!library[@]}"; do put "${library[$lib]}" "lib/$lib"; done

# --- scripts ---

install -D -t "$bundle/launch" "$project"/launch/{run.sh,get_ptb.sh,ptb_dist.sbatch}
install -m 644 -t "$bundle/launch" "$project/launch/common.sh"

cat >"$runtime/environment.sh" <<'END'
# shellcheck shell=sh disable=SC2154
# Where the Open MPI, PMIx and hwloc of this bundle find their own parts, and none of the node's.
# Read by the scripts in bin/, which set `bundle`.
# No LD_LIBRARY_PATH: every file in runtime/ knows where its libraries are (RPATH), so that ssh and
# srun, which mpirun starts, load the node's.

export OPAL_PREFIX="$bundle/runtime"
export OPAL_BINDIR="$bundle/bin" OPAL_LIBDIR="$OPAL_PREFIX/lib"
export OPAL_PKGLIBDIR="$OPAL_PREFIX/lib/openmpi" OPAL_PKGDATADIR="$OPAL_PREFIX/share/openmpi"
export PMIX_PREFIX="$OPAL_PREFIX"
export PMIX_PKGLIBDIR="$PMIX_PREFIX/lib/pmix" PMIX_PKGDATADIR="$PMIX_PREFIX/share/pmix"
# Folders that are not there: no configuration, and no plug-ins, of the node's.
export OPAL_SYSCONFDIR="$OPAL_PREFIX/etc" PMIX_SYSCONFDIR="$PMIX_PREFIX/etc"
export HWLOC_PLUGINS_PATH="$OPAL_PREFIX/lib/hwloc"

# Without ssh Open MPI would not start, not even a single rank here.
if [ -z "${OMPI_MCA_plm_rsh_agent-}" ] && ! command -v ssh >/dev/null; then
  PATH=$PATH:$bundle/runtime
  export PATH OMPI_MCA_plm_rsh_agent=no_ssh
fi
END

cat >"$runtime/cuda_libraries.sh" <<'END'
# shellcheck shell=sh disable=SC2154
# Lets the loader find CUDA's and NCCL's libraries: in the folders of PTB_DIST_CUDA_LIBRARIES, where
# it looks by itself, and else in what pip installed. Read by the starters in bin/, which set
# `program`. It needs nothing but /bin/sh; where python3 is, it is asked.

# pip_folders: where pip may have NVIDIA's packages, with colons between them; patterns as well.
pip_folders() {
  for environment in "${VIRTUAL_ENV-}" "${CONDA_PREFIX-}"; do
    [ -z "$environment" ] || printf '%s:' "$environment/lib/python*/site-packages/nvidia"
  done
  # A name that many packages share, so it may have several folders.
  python3 -c 'import nvidia; print(*nvidia.__path__, sep=":", end=":")' 2>/dev/null
  printf '%s' "${HOME-}/.local/lib/python*/site-packages/nvidia"
}

# find_library NAME: adds the first folder that has it to `found`. Each package has its own lib/.
find_library() {
  IFS=:
  for folder in $pip; do
    for file in "$folder"/*/lib/"$1"; do
      [ -e "$file" ] || continue
      case :$found: in
        *:"${file%/*}":*) ;;
        *) found=${found:+$found:}${file%/*} ;;
      esac
      return 0
    done
  done
  return 1
}

if [ -n "${PTB_DIST_CUDA_LIBRARIES-}" ]; then
  export LD_LIBRARY_PATH="$PTB_DIST_CUDA_LIBRARIES${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
found='' pip=''
IFS='
'
for line in $(LD_TRACE_LOADED_OBJECTS=1 "$program"); do # what the loader tells ldd
  case $line in
    *libcudart.*'=> not found' | *libcublas*'=> not found' | *libnccl.*'=> not found') ;;
    *) continue ;;
  esac
  library=lib${line#*lib}
  library=${library%% *}
  [ -n "$pip" ] || pip=$(pip_folders)
  if ! find_library "$library"; then
    echo "${program##*/}: error: $library: neither the loader nor pip has it; install CUDA's" \
      "libraries, or name their folders in PTB_DIST_CUDA_LIBRARIES" >&2
    exit 69
  fi
done
unset IFS
if [ -n "$found" ]; then
  export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$found"
  if [ "${1-}" = --version ]; then echo "CUDA's libraries, of pip: $found" >&2; fi
fi
END

# put_script NAME: bin/NAME, from its comment (up to an empty line) and its commands on the standard
# input. It needs /bin/sh and, unless it is reached through a link, nothing else.
put_script() {
  {
    echo '#!/bin/sh'
    sed -u '/^$/q' # -u: the rest is for cat
    cat <<'END'
self=$0
while [ -h "$self" ]; do
  link=$(readlink "$self")
  case $link in /*) self=$link ;; *) self=${self%/*}/$link ;; esac
done
bundle=$(CDPATH='' cd -P "${self%/*}/.." && pwd) || exit
. "$bundle/runtime/environment.sh"

END
    cat
  } | install -D /dev/stdin "$bundle/bin/$1"
}

# put_starter NAME: bin/NAME, which starts runtime/bin/NAME; its comment is the standard input.
put_starter() {
  {
    cat
    echo
    echo "program=\$bundle/runtime/bin/$1"
    if [[ $versions != *'CUDA: built without'* ]]; then
      echo ". \"\$bundle/runtime/cuda_libraries.sh\""
    fi
    echo "exec \"\$program\" \"\$@\""
  } | put_script "$1"
}

put_starter ptb_dist <<'END'
# Trains a language model, alone or as a rank of a job: bin/ptb_dist --help
# PTB_DIST_CUDA_LIBRARIES: for a build with CUDA, the folders, with colons between them, of cudart,
# cublas and nccl, where neither the loader nor pip has them.
END
put_script mpirun <<'END'
# Starts the ranks of a job with the Open MPI of this bundle: bin/mpirun --help
# On several nodes the bundle lies in the same folder on each of them.

# The prefix is where mpirun expects bin/orted on the other nodes; -x is for ptb_dist there.
exec "$bundle/runtime/openmpi/mpirun" --prefix "$bundle" \
  ${PTB_DIST_CUDA_LIBRARIES:+-x PTB_DIST_CUDA_LIBRARIES} "$@"
END
put_script orted <<'END'
# What mpirun starts on each of the other nodes; not for the hand.

exec "$bundle/runtime/openmpi/orted" "$@"
END
put_script run.sh <<'END'
# launch/run.sh with the ptb_dist and the mpirun of this bundle: trains on this node to the end of
# the run, and starts again after a failure that may pass. bin/run.sh --help

PATH=$bundle/bin:$PATH
exec "$bundle/launch/run.sh" --program "$bundle/bin/ptb_dist" "$@"
END
for program in "${suite_programs[@]}"; do
  put_starter "$program" <<<'# For bin/gpu_suite.sh or tests/bench/gpu.sh.'
done
if ((with_tests)); then
  put_script gpu_suite.sh <<'END'
# Runs the tests that need a GPU; needs python3. bin/gpu_suite.sh --help

export PYTHONDONTWRITEBYTECODE=1
exec python3 "$bundle/tests/gpu/gpu_suite.py" "$@"
END
  for file in "${suite_files[@]}"; do
    place=$bundle/${file#"$source/"}
    mkdir -p "${place%/*}"
    cp "$file" "$place"
  done
  echo "$suite" >"$bundle/tests/gpu/gpu_suite.json"
fi
install /dev/stdin "$runtime/no_ssh" <<'END'
#!/bin/sh
# Stands for ssh where there is none (environment.sh).
echo "mpirun: error: $1: cannot be reached: there is no ssh here; install it, or use srun" >&2
exit 69
END

# --- what it is made of ---

# The Debian packages of all that is copied or compiled in, with their versions; nothing elsewhere.
packages() {
  local files names
  mapfile -t files < <(realpath "${library[@]}" "$mpi_bin/mpirun")
  # dpkg knows a file by the name that it had before /lib moved into /usr, or after.
  mapfile -t names < <(dpkg-query -S "${files[@]}" "${files[@]#/usr}" | sed 's/: .*//')
  dpkg-query -W -f '${binary:Package} ${Version}\n' "${names[@]}" "${headers[@]}" | sort -u
}

mkdir "$bundle/licences"
packages=$(packages 2>/dev/null || true)
if [[ -n $packages ]]; then
  while read -r package _; do
    cp "/usr/share/doc/${package%:*}/copyright" "$bundle/licences/${package%:*}"
  done <<<"$packages"
  cp -R /usr/share/common-licenses "$bundle/licences"
fi
glibc=$(find "$runtime" -type f -exec grep -aohE 'GLIBC_2\.[0-9]+' {} + | sort -Vu | tail -n 1)
glibc=${glibc#GLIBC_}

about_tests=
if ((with_tests)); then
  about_tests=$(printf '  %-60s %s\n' bin/gpu_suite.sh 'tests on a GPU; needs python3' \
    'tests/bench/gpu.sh --data DIR' 'measures on a GPU; needs python3')$'\n'
fi
cat >"$bundle/ABOUT.txt" <<END
ptb_dist with all that it needs. It runs from any folder, without installed packages, without root.

  bin/mpirun -np 4 --bind-to none bin/ptb_dist --data DIR      ranks on this node
  bin/run.sh --run-dir DIR --config large                      restarts after failures
  bin/mpirun --host node1:4,node2:4 bin/ptb_dist --data DIR    on several, by ssh or within Slurm
  srun -n 8 --mpi=pmix bin/ptb_dist --data DIR                 in a Slurm job
  sbatch -n 8 launch/ptb_dist.sbatch --data DIR                a job that is requeued by itself
  launch/get_ptb.sh                                            fetches the Penn Treebank
$about_tests
Several nodes have the bundle in the same folder, without blanks in its name; they speak TCP. Ranks
are started by this mpirun or by srun: another Open MPI may not understand them.
A node has Linux ($(uname -m)), the GNU C library $glibc or newer, /bin/sh; run.sh and get_ptb.sh
also want bash and the usual tools. If the program was built with CUDA, bin/ptb_dist says where its
libraries are looked for. Configurations: runtime/share/ptb_dist/configs.

Built:
$versions

Made of, with licences in licences/ (unknown where it was not made on Debian):
$packages
END

# --- the tarball ---

tar -C "$scratch" --sort=name --owner=0 --group=0 --numeric-owner -c "$name" |
  gzip -n "-$level" >"$output.part" || fail 74 "$output: cannot be written, see above"
mv -f "$output.part" "$output"
say "$output: $(($(stat -c %s "$output") / 1000000)) MB, for the GNU C library $glibc or newer"
