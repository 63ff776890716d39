# The verb lock: requirements.lock anew from pyproject.toml.
# shellcheck shell=bash

do_lock() { # all packages in one resolution, then cut in two: what the program needs comes first
  local work python pins=(--universal --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet)
  python=$(find_python) || die 'no Python 3.11 or newer' 'install it, then run this again'
  work=$(mktemp -d)
  LOG=$work/lock.log
  use_indexes_of_pip "$python"
  if ! UV=$(find_uv); then
    { run "$python" -m venv "$work/venv" && run "$work/venv/bin/pip" install uv; } ||
      die 'pip could not install uv' "check this machine's pip configuration: pip config list" "$LOG"
    UV=$work/venv/bin/uv
  fi
  cd "$CHECKOUT"
  sed -n 's/^requires = \[\(.*\)\]/\1/p' pyproject.toml | tr -d '" ' | tr ',' '\n' >"$work/build.in"
  echo editables >>"$work/build.in" # hatchling wants it for the editable install of the test environment
  # The present lock is read as preference: only what pyproject.toml moves, moves. Remove it for newer packages.
  [[ ! -e $LOCK ]] || cp "$LOCK" "$work/all.txt"
  "$UV" pip compile "${pins[@]}" pyproject.toml "$work/build.in" --group dev -o "$work/all.txt"
  "$UV" pip compile "${pins[@]}" pyproject.toml --constraints "$work/all.txt" -o "$work/runtime.txt"
  {
    echo '# Exact Python packages with hashes, for every platform. Made from pyproject.toml by ./install.sh lock.'
    echo '# What the program needs:'
    cat "$work/runtime.txt"
    echo "$LOCK_DIVIDER"
    awk -F '==' 'NR == FNR { if (/^[a-z]/) known[$1] = 1; next } /^[a-z]/ { keep = !($1 in known) } keep' \
      "$work/runtime.txt" "$work/all.txt"
  } >"$work/requirements.lock"
  cp "$work/requirements.lock" "$LOCK"
  rm -rf "$work"
  ok "$LOCK: $(grep -c '==' "$LOCK") packages"
}
