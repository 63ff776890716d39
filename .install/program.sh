# The program: uv, the locked packages, releases side by side and the links to the present one.
# shellcheck shell=bash

# --- The Python environment -----------------------------------------------------------------------------------

locked() { # locked runtime|all|NAME: that part of the lock file
  case $1 in
    runtime) sed "/^$LOCK_DIVIDER/,\$d" "$LOCK" ;;
    all) cat "$LOCK" ;;
    *) awk -v name="$1==" '/^[a-z]/ { found = index($0, name) == 1 } found' "$LOCK" ;;
  esac
}

find_uv() { # prints a uv that is new enough; one of an earlier installation will do
  local path
  for path in "$(type -P uv || true)" "$PREFIX/venv/bin/uv" "$TEST_VENV/bin/uv"; do
    [[ -x $path ]] && at_least 0.9 "$("$path" --version 2>/dev/null | cut -d' ' -f2)" && echo "$path" && return
  done
  return 1
}

make_environment() { # make_environment PYTHON DIRECTORY: an empty one; sets UV
  rm -rf "$2"
  # The Python and the certificate authorities of this machine, as pip uses them too.
  export UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1
  use_indexes_of_pip "$1"
  if UV=$(find_uv); then
    run "$UV" venv --python "$1" "$2" || die "uv could not make $2" "read $LOG" "$LOG"
    return
  fi
  run "$1" -m venv "$2" || die "$1 -m venv $2 failed" "read $LOG" "$LOG"
  locked uv >"$2/requirements.lock"
  run "$2/bin/python" -m pip install --require-hashes -r "$2/requirements.lock" ||
    die 'pip could not install uv' "check this machine's pip configuration: pip config list" "$LOG"
  UV=$2/bin/uv
}

build_environment() { # build_environment PYTHON DIRECTORY runtime|all PACKAGE...
  # In a subshell: what is exported for uv must not reach the daemon.
  (make_environment "$1" "$2" && fill_environment "${@:2}") || exit 1
}

# uv does not read pip's configuration, and a machine is often configured for pip alone.
use_indexes_of_pip() {
  [[ -z ${UV_DEFAULT_INDEX:-}${UV_INDEX:-}${UV_INDEX_URL:-}${UV_EXTRA_INDEX_URL:-}${UV_FIND_LINKS:-} ]] || return 0
  local key value
  while IFS='=' read -r key value; do
    value=${value#\'} value=${value%\'} value=${value//\\n/ }
    case ${key##*.} in # the environment is listed before the files: the first one wins
      index-url) export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$value}" ;;
      extra-index-url) export UV_INDEX="${UV_INDEX:-$value}" UV_INDEX_STRATEGY=unsafe-best-match ;; # hashes are locked
      find-links) export UV_FIND_LINKS="${UV_FIND_LINKS:-${value// /,}}" ;;
      trusted-host) export UV_INSECURE_HOST="${UV_INSECURE_HOST:-$value}" ;;
      cert) export SSL_CERT_FILE="${SSL_CERT_FILE:-$value}" ;;
    esac
  done < <("$1" -m pip config list 2>/dev/null || true)
}

fill_environment() { # fill_environment DIRECTORY runtime|all PACKAGE...: locked packages, then the checkout itself
  local lines=$1/requirements.lock
  locked "$2" >"$lines"
  {
    run "$UV" pip sync --require-hashes --compile-bytecode --python "$1/bin/python" "$lines" &&
      run "$UV" pip install --no-deps --compile-bytecode --reinstall-package appliance \
        --python "$1/bin/python" --build-constraints "$LOCK" "${@:3}"
  } ||
    die 'the Python packages could not be installed' "check this machine's pip or uv configuration" "$LOG"
}

program_digest() { # program_digest PYTHON: of all that the installed program is made from
  {
    cd "$CHECKOUT"
    find appliance tui specs pyproject.toml requirements.lock README.md -type f ! -name '*.pyc' -print0 |
      LC_ALL=C sort -z | xargs -0 sha256sum
    "$1" -c 'import sys; print(sys.executable, sys.version)'
  } | sha256sum | cut -c1-12
}

step_program() {
  step 'Program' "a Python environment of its own in $PREFIX, so that no other program's packages matter"
  local python release
  if ! python=$(find_python); then
    ((DRY_RUN)) || die 'no Python 3.11 or newer' 'install python3.11 or newer (with venv), then run this again'
    would "make a Python environment with the packages of requirements.lock in $PREFIX, link $BIN_DIR/appliance to it"
    return
  fi
  DIGEST=$(program_digest "$python")
  release=$PREFIX/releases/$DIGEST
  if [[ -e $release/.complete ]]; then
    ok "$release is up to date"
  elif ((DRY_RUN)); then
    would "make $release with $python and the packages of requirements.lock"
  else
    mkdir -p "$PREFIX/releases"
    build_environment "$python" "$release" runtime "$CHECKOUT"
    touch "$release/.complete"
    ok "$release made with $python"
  fi
  act "point $PREFIX/venv at it" point_link "$release" "$PREFIX/venv"
  link_command
}

point_link() { # point_link TARGET LINK: in one rename, so that there is no moment without it
  [[ $(readlink "$2" || true) != "$1" ]] || return 0
  mkdir -p "$(dirname "$2")"
  ln -sfn "$1" "$2.next" && mv -T "$2.next" "$2"
}

link_command() {
  local link=$BIN_DIR/appliance program=$PREFIX/venv/bin/appliance
  if [[ -e $link || -L $link ]] && [[ $(readlink "$link" || true) != "$program" ]]; then
    degraded "$link is something else and was left alone" "call $program, or remove $link and run this again"
    return
  fi
  act "link $link to it" point_link "$program" "$link"
  [[ :$PATH: == *:$BIN_DIR:* ]] || note "$BIN_DIR is not on your PATH: call $link"
}

drop_old_releases() {
  local release
  for release in "$PREFIX"/releases/*; do
    [[ $release == "$PREFIX/releases/$DIGEST" ]] || rm -rf "$release"
  done
}
