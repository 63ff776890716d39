#!/usr/bin/env bash
# Installs, tests and removes the appliance on this machine; `./install.sh --help` says what it can do.
#
# Each step looks before it acts, says what it does and why, and may be run again at any time.
# apt, dnf, pacman, pip and uv are used as this machine has them configured: no package host is named here.

set -Eeuo pipefail

CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
readonly CHECKOUT
readonly LOCK=$CHECKOUT/requirements.lock
readonly LOCK_DIVIDER='# What only the build and the tests need:'
readonly TEST_VENV=$CHECKOUT/.venv

OS_RELEASE=/etc/os-release
FAMILY=''       # apt, dnf or pacman; empty: none that is known
SIMULATED=0     # 1: a plan for a fresh machine of that family, whatever this machine has
DRY_RUN=0
LOG=/dev/null
BOOKED=()       # packages that are missing and in the repositories
STARTED_ENGINE=0
STARTED_PIDS=() # of what a test run started itself and must end
DEGRADED=()

usage() {
  cat <<'TEXT'
usage: ./install.sh [VERB] [OPTION...]

verbs
  install      (default) install what is missing, then start the daemon
  demo         the same, then `appliance demo`
  test         install what the tests need, then all checks and tests; further arguments go to pytest,
               which then runs alone
  uninstall    remove the program; data stays where it is unless --purge
  lock         write requirements.lock anew from pyproject.toml (for developers)

options
  --dry-run            print the plan and change nothing
  --distro FAMILY      with --dry-run: the plan for a fresh machine with apt, dnf or pacman
  --pool NAME          keep volumes in this zpool or ZFS dataset
  --file-pool SIZE     keep volumes in a ZFS pool inside one sparse file of that size, such as 50G
                       (named `appliance`, or as --pool says)
  --plain-store        keep volumes in plain directories and do not ask
  --prefix DIR         where the program goes        (APPLIANCE_PREFIX)
  --home DIR           where the data goes           (APPLIANCE_HOME)
  --bin-dir DIR        where `appliance` is linked   (APPLIANCE_BIN_DIR)
  --port N             TCP port of the front door, kept in config.toml
  --no-service         a background process even where systemd runs
  --quick              test: no Docker; checks and unit tests only
  --purge              uninstall: destroy the data too, after a typed confirmation
  --yes                uninstall --purge: do not ask
  -h, --help           this text

As root the program goes to /opt/appliance and data to /var/lib/appliance; otherwise both go below
~/.local/share. Exit codes: 0 done, 1 failed, 2 wrong usage.
TEXT
}

# --- Speaking -------------------------------------------------------------------------------------------------

choose_colours() {
  BOLD='' GREEN='' YELLOW='' RED='' RESET=''
  [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]] || return 0
  BOLD=$'\e[1m' GREEN=$'\e[32m' YELLOW=$'\e[33m' RED=$'\e[31m' RESET=$'\e[0m'
}
choose_colours

step() { printf '%s==> %s%s: %s\n' "$BOLD" "$1" "$RESET" "$2"; } # step WHAT WHY
ok() { printf '    %sok%s  %s\n' "$GREEN" "$RESET" "$*"; }
note() { printf '    %s\n' "$*"; }
would() { printf '    would %s\n' "$*"; }

degraded() { # degraded WHAT NEXT: said here and again at the end, never silent
  printf '    %sdegraded%s  %s\n              next: %s\n' "$YELLOW" "$RESET" "$1" "$2"
  DEGRADED+=("$1")
}

die() { # die WHAT NEXT [FILE]: the end of FILE is shown
  {
    printf '\n%sinstall.sh: %s%s\n' "$RED" "$1" "$RESET"
    [[ -z ${3:-} || ! -s ${3:-} ]] || { printf '  last lines of %s:\n' "$3" && last_lines "$3" | sed 's/^/    /'; }
    printf '  next: %s\n' "$2"
  } >&2
  exit 1
}

last_lines() { # without DuckDB's tale of leaks, which follows every error and hides it
  grep -avE '^( - (leaked|\.\.\. skipped)|nanobind:|See .*nanobind)' "$1" | tail -n 20
}

misuse() {
  printf 'install.sh: %s\n  next: ./install.sh --help lists verbs and options\n' "$1" >&2
  exit 2
}

unexpected() { # unexpected LINE COMMAND: the ERR trap, for what no step foresaw
  ((BASH_SUBSHELL == 0)) || return 0
  die "line $1 failed: $2" "read $LOG; a run of the same command goes on where this one stopped" "$LOG"
}

# --- Doing ----------------------------------------------------------------------------------------------------

run() { # a command whose output only matters when it fails
  printf '\n$ %s\n' "$*" >>"$LOG"
  "$@" >>"$LOG" 2>&1 </dev/null 9>&-
}

act() { # act WHAT COMMAND...: or, in a dry run, only say so
  if ((DRY_RUN)); then would "$1"; else "${@:2}"; fi
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

need_root_for() { # need_root_for WHAT
  ((EUID == 0 || DRY_RUN)) && return
  have sudo || die "$1 needs root and there is no sudo" "ask an administrator for it, then run this again"
  note "sudo: $1"
  sudo -v || die "$1 needs root and sudo refused" "ask an administrator for it, then run this again"
}

wait_for() { # wait_for SECONDS COMMAND...
  local deadline=$((SECONDS + $1))
  until "${@:2}" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || return 1
    sleep 0.2
  done
}

in_background() { # in_background LOGFILE COMMAND...: a session of its own, so that no terminal ends it; sets CHILD
  setsid "${@:2}" >>"$1" 2>&1 </dev/null 9>&- &
  CHILD=$!
  disown "$CHILD"
}

end_process() { # end_process PID SECONDS: politely, then not
  kill "$1" 2>/dev/null || return 0
  wait_for "$2" process_gone "$1" || kill -KILL "$1" 2>/dev/null || true
}

process_gone() {
  [[ ! -e /proc/$1 ]] || grep -qs '^State:.Z' "/proc/$1/status"
}

# --- What this machine is -------------------------------------------------------------------------------------

have() { ((!SIMULATED)) && type -P "$1" >/dev/null; }

systemd_runs() { ((!SIMULATED)) && [[ -d /run/systemd/system ]] && have systemctl; }

detect_family() {
  local id='' like=''
  if [[ -r $OS_RELEASE ]]; then
    id=$(sed -n 's/^ID=//p' "$OS_RELEASE" | tr -d '"')
    like=$(sed -n 's/^ID_LIKE=//p' "$OS_RELEASE" | tr -d '"')
  fi
  local word
  for word in $id $like; do
    case $word in
      debian | ubuntu) FAMILY=apt && return ;;
      fedora | rhel | centos) FAMILY=dnf && return ;;
      arch) FAMILY=pacman && return ;;
    esac
  done
  FAMILY=''
}

# zfs-fuse serves the same commands from user space. It is right for tests, too slow for daily work.
kernel_has_zfs() { [[ -d /sys/module/zfs ]] || modinfo zfs >/dev/null 2>&1; }

zfs_works() { have zpool && timeout 10 zpool list -H >/dev/null 2>&1; }

gpu_present() {
  [[ -e /proc/driver/nvidia/version ]] && return
  local device
  for device in /sys/bus/pci/devices/*; do
    grep -qs 0x10de "$device/vendor" && grep -qs '^0x03' "$device/class" && return
  done
  return 1
}

engine_version() { have docker && timeout 10 docker version --format '{{.Server.Version}}' 2>/dev/null; }

engine_forbidden() { have docker && [[ $(timeout 10 docker version 2>&1 >/dev/null) == *[Pp]'ermission denied'* ]]; }

haproxy_version() { haproxy -v 2>/dev/null | sed -n 's/.*version \([0-9.]*\).*/\1/p' | head -n 1; }

at_least() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; } # at_least MINIMUM VERSION

find_python() { # prints a Python >= 3.11 that can make environments; one outside any environment
  ((!SIMULATED)) || return 1
  local path
  while read -r path; do
    "$path" - 2>/dev/null <<'PYTHON' && return
import ensurepip, sqlite3, ssl, sys, venv
if sys.version_info < (3, 11):
    raise SystemExit(1)
print(getattr(sys, "_base_executable", sys.executable))
PYTHON
  done < <(type -aP python3 python3.14 python3.13 python3.12 python3.11)
  return 1
}

# --- Packages -------------------------------------------------------------------------------------------------

packages_for() { # packages_for NEED: all words are needed; a|b: the first that the repositories have
  case $1:$FAMILY in
    engine:apt) echo docker.io ;;
    engine:dnf) echo 'moby-engine|docker-ce|docker' ;;
    engine:pacman) echo docker ;;
    python:apt) echo 'python3 python3-venv' ;;
    python:dnf) echo python3 ;;
    python:pacman) echo python ;;
    zfs:apt) echo zfsutils-linux ;;
    zfs:dnf) echo zfs ;;
    zfs:pacman) echo zfs-utils ;;
    gpu:*) echo nvidia-container-toolkit ;;
    *) echo "$1" ;;
  esac
}

in_repositories() {
  case $FAMILY in
    apt) [[ -n $(apt-cache show --no-all-versions "$1" 2>/dev/null) ]] ;;
    dnf) dnf -q info "$1" >/dev/null 2>&1 ;;
    pacman) pacman -Si "$1" >/dev/null 2>&1 ;;
    *) return 1 ;;
  esac
}

refresh_packages() { # the list of what the repositories have: once, and only where it turns out too old
  [[ $FAMILY == apt && -z ${REFRESHED:-} ]] || return 1
  REFRESHED=1
  if ((DRY_RUN)); then would 'run apt-get update' && return 1; fi
  need_root_for 'apt-get update'
  run as_root apt-get -q update || run as_root apt-get -q update ||
    die 'apt-get update failed' 'correct the package sources of this machine, then run this again' "$LOG"
}

first_available() { # first_available 'a|b': sets PACKAGE
  local names name
  IFS='|' read -ra names <<<"$1"
  PACKAGE=${names[0]}
  ((!SIMULATED)) || return 0
  for name in "${names[@]}"; do
    PACKAGE=$name
    ! in_repositories "$name" || return 0
  done
  refresh_packages && first_available "$1"
}

want() { # want NEED WHY: a package without which nothing goes
  local names
  for names in $(packages_for "$1"); do
    first_available "$names" || ((DRY_RUN)) ||
      die "$1 is missing and no repository of this machine has $names" "install it by hand, then run this again"
    BOOKED+=("$PACKAGE")
    note "missing: $PACKAGE ($2)"
  done
}

wish() { # wish NEED WHY NEXT: a package without which the appliance goes on, degraded
  local names
  names=$(packages_for "$1")
  if first_available "$names"; then
    BOOKED+=("$PACKAGE")
    note "missing: $PACKAGE ($2)"
  else
    degraded "$names is in no repository of this machine ($2)" "$3"
  fi
}

install_booked() {
  ((${#BOOKED[@]})) || { ok 'nothing is missing' && return; }
  if ((DRY_RUN)); then would "run $(install_command) ${BOOKED[*]}" && return; fi
  need_root_for "install ${BOOKED[*]}"
  note "installing ${BOOKED[*]}"
  local command
  read -ra command <<<"$(install_command)"
  if ! run as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l "${command[@]}" "${BOOKED[@]}"; then
    refresh_packages || true
    run as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l "${command[@]}" "${BOOKED[@]}" ||
      die "the package manager could not install ${BOOKED[*]}" 'correct what it says, then run this again' "$LOG"
  fi
  hash -r
  ok "installed ${BOOKED[*]}"
}

install_command() {
  case $FAMILY in
    apt) echo apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 install ;;
    dnf) echo dnf -y --setopt=install_weak_deps=False install ;;
    pacman) echo pacman -S --needed --noconfirm ;;
  esac
}

step_packages() { # step_packages run|test
  step 'Packages' 'what the appliance stands on, from the repositories this machine has'
  check_family
  have dockerd || engine_version >/dev/null ||
    want engine 'Docker Engine: notebooks, jobs and deployments are containers'
  # Without it the engine cannot start a container where the kernel enforces AppArmor.
  if [[ $FAMILY == apt ]] && grep -qs Y /sys/module/apparmor/parameters/enabled; then
    have apparmor_parser || want apparmor 'the kernel enforces AppArmor and the engine loads its profile'
  fi
  have haproxy || want haproxy 'the front door'
  have git || want git 'workflows check out repositories'
  find_python >/dev/null || want python 'the program itself: Python 3.11 or newer'
  if [[ $FAMILY != apt ]]; then
    note 'no mmdebstrap here: the base image must come from a registry'
  elif ! have mmdebstrap; then
    want mmdebstrap 'builds the base image where no registry answers'
  fi
  if [[ $1 == test ]]; then wish_zfs_for_tests; else wish_hardware; fi
  install_booked
  note_new_haproxy
  ! have haproxy || at_least 2.6 "$(haproxy_version)" ||
    degraded "HAProxy $(haproxy_version) is too old for the front door" 'install HAProxy 2.6 or newer'
}

check_family() {
  [[ -n $FAMILY ]] && return
  have apt-get && FAMILY=apt && return
  have dnf && FAMILY=dnf && return
  have pacman && FAMILY=pacman && return
  note 'no apt, dnf or pacman: what is missing must be installed by hand'
}

wish_hardware() {
  local zfs gpu
  zfs=$(packages_for zfs) gpu=$(packages_for gpu)
  if ((SIMULATED)); then
    would "add $zfs where the kernel has ZFS (volumes with snapshots)"
    would "add $gpu where there is an NVIDIA GPU (containers see it)"
    return
  fi
  if ! kernel_has_zfs; then
    note 'no ZFS in this kernel: its tools are left out'
  elif ! have zpool; then
    wish zfs 'volumes with snapshots' "enable the repository that has $zfs, then run this again"
  fi
  if ! gpu_present; then
    note 'no NVIDIA GPU: its container toolkit is left out'
  elif ! have nvidia-container-runtime-hook && ! have nvidia-ctk; then
    wish gpu 'containers see the GPU' "add NVIDIA's repository for $gpu as its manual says, then run this again"
    [[ -e /proc/driver/nvidia/version ]] ||
      degraded 'a GPU is there but its driver is not loaded' "install this distribution's NVIDIA driver"
  fi
}

wish_zfs_for_tests() {
  ((SIMULATED)) && [[ $FAMILY == apt ]] && would 'add zfs-fuse where ZFS does not work (tests of the ZFS store)'
  ((SIMULATED)) && return
  if zfs_works || kernel_has_zfs || have zfs-fuse; then return; fi
  if [[ $FAMILY == apt ]] && ((EUID == 0)); then
    wish zfs-fuse 'tests of the ZFS store' 'none: those tests are skipped'
  else
    note 'ZFS does not work here: its tests are skipped'
  fi
}

note_new_haproxy() { # the package starts an HAProxy of its own, which the appliance does not need
  [[ " ${BOOKED[*]-} " == *' haproxy '* ]] && systemd_runs || return 0
  act "stop the package's own haproxy.service" run as_root systemctl disable --now haproxy || true
}

# --- The engine -----------------------------------------------------------------------------------------------

step_engine() { # step_engine STATE_DIRECTORY
  step 'Docker Engine' 'it must answer before anything can run'
  local version
  if version=$(engine_version); then
    ok "version $version answers"
    return
  fi
  if ((DRY_RUN)); then
    would 'run systemctl enable --now docker, or dockerd in the background where no systemd runs'
    return
  fi
  ! engine_forbidden ||
    die 'this user may not use the Docker engine' "sudo usermod -aG docker $(id -un), log in again, run this again"
  [[ -z ${DOCKER_HOST:-} ]] ||
    die "no engine answers at DOCKER_HOST=$DOCKER_HOST" 'start it or unset DOCKER_HOST, then run this again'
  if systemd_runs; then start_engine_service; else start_engine_process "$1"; fi
  STARTED_ENGINE=1
  ok "version $(engine_version) started"
}

start_engine_service() {
  need_root_for 'systemctl enable --now docker'
  if ! run as_root systemctl enable --now docker || ! wait_for 60 engine_version; then
    run as_root journalctl -u docker -n 20 --no-pager || true
    die 'the Docker engine does not start' 'journalctl -u docker says why' "$LOG"
  fi
}

start_engine_process() {
  local log=$1/dockerd.log pid_file=$1/dockerd.pid stale=/run/docker.pid
  ((EUID == 0)) || die 'no Docker engine answers and only root may start one' 'start it, then run this again'
  # After a reboot without a cleared /run the number may belong to another process, and dockerd would give up.
  if [[ -s $stale ]] && ! grep -qs dockerd "/proc/$(<"$stale")/comm"; then rm -f "$stale"; fi
  in_background "$log" dockerd
  echo "$CHILD" >"$pid_file"
  STARTED_PIDS+=("$CHILD")
  if ! wait_for 60 engine_or_death "$CHILD" || ! engine_version >/dev/null; then
    die 'the Docker engine does not start' "read $log" "$log"
  fi
  note "no systemd: dockerd runs in the background, log $log, pid in $pid_file"
}

engine_or_death() { engine_version || process_gone "$1"; }

step_gpu() {
  gpu_present && ((!SIMULATED)) || return 0
  step 'GPU' 'the engine finds the NVIDIA toolkit when it starts'
  if ! have nvidia-container-runtime-hook && ! have nvidia-ctk; then
    note 'containers get no GPU until the toolkit is installed'
  elif [[ " ${BOOKED[*]-} " != *' nvidia-container-toolkit '* ]] || ((STARTED_ENGINE)); then
    ok 'the toolkit is there'
  elif systemd_runs && [[ -z $(docker ps -q) ]]; then
    act 'restart the engine, in which nothing runs' run as_root systemctl restart docker
    ok 'the toolkit is there, the engine was restarted'
  else
    degraded 'the engine does not know the NVIDIA toolkit yet' 'restart the engine when its containers may stop'
  fi
}

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

# --- Storage --------------------------------------------------------------------------------------------------

config_get() { # config_get KEY: the value in config.toml, without quotes; empty where there is none
  [[ -e $DATA/config.toml ]] || return 0
  sed -n "s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*\"\{0,1\}\([^\"#]*[^\"#[:space:]]\).*/\1/p" "$DATA/config.toml" |
    head -n 1
}

config_set() { # config_set KEY LITERAL: one line; the rest of the file stays as it is
  local file=$DATA/config.toml
  mkdir -p "$DATA"
  [[ -e $file ]] || echo '# Settings of the appliance. "appliance config" lists them all.' >"$file"
  awk -v key="$1" -v line="$1 = $2" '
    !done && $0 ~ "^[ \t]*" key "[ \t]*=" { print line; done = 1; next }
    !done && /^[ \t]*\[/ { print line; done = 1 }
    { print }
    END { if (!done) print line }' "$file" >"$file.next"
  if cmp -s "$file" "$file.next"; then rm "$file.next"; else cat "$file.next" >"$file" && rm "$file.next"; fi
}

step_storage() {
  step 'Storage' 'where volumes live: workspaces, datasets, models'
  local stored='' pool=''
  if ((SIMULATED)); then
    would 'use the pool of --pool, else offer a file-backed one where ZFS works, else use plain directories'
    return
  fi
  stored=$(config_get storage) pool=$(config_get zpool)
  [[ $stored != auto ]] || stored=''
  [[ -n $stored || -z $pool ]] || stored=zfs
  if [[ -n $POOL$FILE_POOL ]]; then
    keep_store "$stored $pool" "zfs ${POOL:-appliance}"
    use_pool "${POOL:-appliance}"
  elif ((PLAIN)); then
    keep_store "$stored" directory
    use_plain_store
  elif [[ -n $stored ]]; then
    ok "$stored${pool:+ on $pool}, as $DATA/config.toml says"
  elif kernel_has_zfs && zfs_works && [[ -t 0 ]] && ((!DRY_RUN)) && [[ ! -e $DATA/state.db ]]; then
    offer_file_pool
  else
    use_plain_store
  fi
}

keep_store() { # keep_store STORED WANTED: volumes do not move by themselves
  [[ ! -e $DATA/state.db || ${1:-directory} == "$2" ]] ||
    die "the volumes of $DATA are in this store already: ${1:-directory}" \
      'keep it, or give the new installation another --home'
}

check_wishes() { # before anything is touched
  [[ -z $PORT ]] || { [[ $PORT =~ ^[1-9][0-9]{0,4}$ ]] && ((PORT < 65536)); } || misuse "--port $PORT is no TCP port"
  [[ -z $POOL || $POOL =~ ^[A-Za-z][A-Za-z0-9_.:-]*(/[A-Za-z0-9][A-Za-z0-9_.:-]*)*$ ]] ||
    misuse "--pool $POOL is no name of a zpool or dataset"
  [[ -z $FILE_POOL || $FILE_POOL =~ ^[1-9][0-9]*[MGT]$ ]] || misuse "--file-pool $FILE_POOL is no size such as 50G"
  [[ -z $FILE_POOL || $POOL != */* ]] || misuse "--pool $POOL cannot name a file-backed pool"
  ((!PLAIN)) || [[ -z $POOL$FILE_POOL ]] || misuse '--plain-store excludes --pool and --file-pool'
}

use_pool() { # use_pool NAME
  local pool=$1
  if ((DRY_RUN)); then
    [[ -z $FILE_POOL ]] || would "make zpool $pool in the sparse file $DATA/pool.img of $FILE_POOL"
    would "set storage = \"zfs\" and zpool = \"$pool\" in $DATA/config.toml"
    return
  fi
  zfs_works || die 'ZFS does not work here: zpool list fails' 'load the ZFS module, or run without --pool and --file-pool'
  [[ -z $FILE_POOL ]] || make_file_pool "$pool" "$FILE_POOL"
  run zfs list -H -o name "$pool" || die "there is no zpool or dataset $pool" 'zfs list shows what there is' "$LOG"
  config_set storage '"zfs"'
  config_set zpool "\"$pool\""
  ok "ZFS store on $pool: snapshots, clones and versions cost nothing"
}

make_file_pool() { # make_file_pool NAME SIZE
  local file=$DATA/pool.img
  if zpool list -H -o name "$1" >/dev/null 2>&1; then
    zpool status -P "$1" 2>/dev/null | grep -F "$file" >/dev/null || zpool status "$1" | grep -F "$file" >/dev/null ||
      die "there is a zpool $1 already and it is not in $file" "use it with --pool $1, or name another"
    return
  fi
  [[ ! -e $file ]] || die "$file is there but its pool is not imported" "zpool import -d $DATA $1, then run this again"
  need_root_for "zpool create $1"
  truncate -s "$2" "$file"
  run as_root zpool create -m none "$1" "$file" || {
    rm -f "$file"
    die "zpool create $1 failed" 'run without --file-pool, or give a zpool with --pool' "$LOG"
  }
  note "zpool $1 is one sparse file, $file, and grows to $2 at most"
}

offer_file_pool() {
  local answer
  note 'ZFS works here. A pool inside one sparse file gives snapshots and versions that cost nothing.'
  note 'A pool on disks of its own is better: then answer no and run this again with --pool NAME.'
  read -r -p '    Make a file-backed pool? Its largest size, such as 50G, or no [no]: ' answer
  case $answer in
    '' | n | no | N | No | NO) use_plain_store ;;
    *)
      FILE_POOL=$answer
      check_wishes
      use_pool appliance
      ;;
  esac
}

use_plain_store() {
  local why
  if ((PLAIN)); then why='as you said'
  elif ! kernel_has_zfs; then why='this kernel has no ZFS'
  elif ! zfs_works; then why='ZFS does not work: zpool list fails'
  else why='no pool was given: --pool NAME or --file-pool SIZE'; fi
  act "set storage = \"directory\" in $DATA/config.toml ($why)" config_set storage '"directory"'
  ((DRY_RUN)) || ok "plain directories in $DATA/volumes ($why); snapshots are copies there"
}

step_port() {
  [[ -n $PORT ]] || return 0
  local before
  before=$(config_get port)
  [[ $before != "$PORT" ]] || return 0
  act "set port = $PORT in $DATA/config.toml" config_set port "$PORT"
  note "the front door's port is $PORT${before:+, it was $before}"
}

# --- The daemon -----------------------------------------------------------------------------------------------

program() { "$PREFIX/venv/bin/appliance" "$@" 9>&-; }

daemon_answers() { program status -o json >/dev/null 2>&1; }

daemon_pid() { # prints it where the daemon of this home lives
  local pid
  pid=$(cat "$DATA/run/daemon.pid" 2>/dev/null) || return 1
  [[ $pid =~ ^[0-9]+$ ]] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep 'appliance.* serve' >/dev/null && echo "$pid"
}

daemon_is_current() { # does the running daemon come from the release that is installed now?
  local pid
  pid=$(daemon_pid) && grep -qsaF "/releases/$DIGEST/" "/proc/$pid/cmdline"
}

uses_service() { ((SERVICE)) && systemd_runs && { ((EUID == 0)) || user_systemd; }; }

user_systemd() { systemctl --user show-environment >/dev/null 2>&1; }

ctl() { if ((EUID == 0)); then systemctl "$@"; else systemctl --user "$@"; fi; }

unit_file() {
  if ((EUID == 0)); then echo /etc/systemd/system/appliance.service; else
    echo "${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user/appliance.service"
  fi
}

unit_text() {
  cat <<TEXT
[Unit]
Description=The appliance: notebooks, workflows and deployments on this machine
After=network.target docker.service zfs.target
Wants=docker.service

[Service]
Type=exec
Environment=APPLIANCE_HOME=$DATA
EnvironmentFile=-$DATA/daemon.env
ExecStart=$PREFIX/venv/bin/appliance serve
StandardOutput=append:$DATA/daemon.log
StandardError=inherit
# HAProxy goes on serving while the daemon restarts.
KillMode=process
Restart=on-failure
RestartSec=2
LimitNOFILE=65536

[Install]
WantedBy=$(if ((EUID == 0)); then echo multi-user.target; else echo default.target; fi)
TEXT
}

# A service does not see the shell's variables, but image builds need its proxies, indexes and CA bundle.
environment_text() {
  local name value
  for name in $(compgen -e | grep -E '^(PIP|UV)_|^SSL_CERT_|^REQUESTS_CA_BUNDLE$|^DOCKER_HOST$|_(proxy|PROXY)$'); do
    value=${!name//\\/\\\\}
    printf '%s="%s"\n' "$name" "${value//\"/\\\"}"
  done
}

service_is_ours() { grep -qsF "APPLIANCE_HOME=$DATA" "$(unit_file)"; }

write_if_changed() { # write_if_changed FILE MODE TEXT: false where nothing had to change
  [[ ! -e $1 || $(<"$1") != "$3" ]] || return 1
  mkdir -p "$(dirname "$1")"
  (umask 077 && printf '%s\n' "$3" >"$1.next")
  chmod "$2" "$1.next" && mv "$1.next" "$1"
}

step_daemon() {
  step 'Daemon' 'it keeps running what is declared'
  if ((SIMULATED)); then
    would 'write a systemd unit, enable and start it; without systemd: start a background process with pid file and log'
    return
  elif ((DRY_RUN)); then
    if uses_service; then would "write $(unit_file), enable and start it"; else
      would "start appliance serve in the background, log $DATA/daemon.log, pid in $DATA/run/daemon.pid"
    fi
    return
  fi
  if uses_service; then serve_by_systemd; else serve_in_background; fi
  drop_old_releases
}

serve_by_systemd() {
  local changed=0
  [[ ! -e $(unit_file) ]] || service_is_ours ||
    die "$(unit_file) belongs to an installation with another home" 'add --no-service, or uninstall that one first'
  write_if_changed "$DATA/daemon.env" 600 "$(environment_text)" && changed=1
  write_if_changed "$(unit_file)" 644 "$(unit_text)" && changed=1 && run ctl daemon-reload
  if ((!changed)) && ctl is-active -q appliance && daemon_is_current && daemon_answers; then
    ok 'appliance.service runs this version'
    return
  fi
  ctl is-active -q appliance || ! daemon_pid >/dev/null || stop_daemon
  { run ctl enable appliance && run ctl restart appliance; } ||
    die 'appliance.service does not start' "read $DATA/daemon.log" "$LOG"
  await_daemon 1
  ok 'appliance.service started'
  ((EUID == 0)) || note "loginctl enable-linger $(id -un) keeps it running after you log out"
}

serve_in_background() {
  if daemon_is_current && daemon_answers; then
    ok "pid $(daemon_pid) runs this version"
    return
  fi
  if daemon_pid >/dev/null; then
    note 'another version runs: it is stopped, containers go on'
    stop_daemon
  fi
  cd /
  touch "$DATA/daemon.log" && chmod 640 "$DATA/daemon.log"
  in_background "$DATA/daemon.log" "$PREFIX/venv/bin/appliance" serve
  await_daemon "$CHILD"
  cd "$CHECKOUT"
  ok "pid $(daemon_pid || echo "$CHILD"), log $DATA/daemon.log"
  systemd_runs || note 'no systemd: after a reboot, run ./install.sh again to start everything'
}

await_daemon() { # await_daemon PID: 1 where systemd holds it
  wait_for 60 answers_or_dead "$1" && daemon_answers && return
  die 'the daemon does not answer' "read $DATA/daemon.log; appliance doctor may know more" "$DATA/daemon.log"
}

answers_or_dead() { daemon_answers || process_gone "$1"; }

stop_daemon() {
  local pid
  pid=$(daemon_pid) || return 0
  if systemd_runs && service_is_ours; then run ctl stop appliance || true; fi
  process_gone "$pid" || run program stop || true
  end_process "$pid" 30
}

# --- Verbs ----------------------------------------------------------------------------------------------------

check_paths() {
  local path
  for path in "$PREFIX" "$DATA" "$BIN_DIR"; do
    # These go into #! lines, a unit file and TOML.
    [[ $path =~ ^/[A-Za-z0-9._/+@-]+$ && $path != *..* ]] ||
      misuse "$path must be an absolute path of letters, digits and . _ - + @"
  done
}

resolve_paths() {
  local share=${XDG_DATA_HOME:-${HOME:-/root}/.local/share}
  if ((EUID == 0)); then
    PREFIX=${PREFIX:-${APPLIANCE_PREFIX:-/opt/appliance}}
    DATA=${DATA:-${APPLIANCE_HOME:-/var/lib/appliance}}
    BIN_DIR=${BIN_DIR:-${APPLIANCE_BIN_DIR:-/usr/local/bin}}
  else
    PREFIX=${PREFIX:-${APPLIANCE_PREFIX:-$share/appliance-program}}
    DATA=${DATA:-${APPLIANCE_HOME:-$share/appliance}}
    BIN_DIR=${BIN_DIR:-${APPLIANCE_BIN_DIR:-$HOME/.local/bin}}
  fi
  PREFIX=${PREFIX%/} DATA=${DATA%/} BIN_DIR=${BIN_DIR%/}
  check_paths
  export APPLIANCE_HOME=$DATA
}

# One installation at a time. Descriptor 9 is closed for whatever outlives this script.
begin() {
  ((!DRY_RUN)) || return 0
  mkdir -p "$DATA"
  LOG=$DATA/install.log
  [[ ! -s $LOG || $(stat -c %s "$LOG") -lt 1000000 ]] || mv "$LOG" "$LOG.1"
  printf '\n### %s install.sh %s\n' "$(date -Is)" "$VERB" >>"$LOG"
  exec 9>"$DATA/.install.lock"
  flock -n 9 || die "another install.sh works on $DATA" 'wait for it'
}

install_all() {
  begin
  step_packages run
  step_engine "$DATA"
  step_gpu
  step_program
  step_storage
  step_port
  step_daemon
}

conclude() {
  local port item
  port=$(config_get port)
  if ((DRY_RUN)); then
    step 'Plan' 'nothing was changed'
    return
  fi
  step 'Done' "in $SECONDS s"
  for item in "${DEGRADED[@]+"${DEGRADED[@]}"}"; do note "degraded: $item"; done
  note "front door  http://127.0.0.1:${port:-7070}"
  note "data        $DATA"
  note "program     $PREFIX, command $BIN_DIR/appliance"
  [[ $DATA == "$DEFAULT_DATA" ]] || note "settings    export APPLIANCE_HOME=$DATA"
}

do_install() {
  install_all
  conclude
  ((DRY_RUN)) || note 'next        appliance status; appliance tui; ./install.sh demo'
}

do_demo() {
  install_all
  conclude
  step 'Demo' 'a workflow, a deployment and a notebook on real input'
  if ((DRY_RUN)); then would 'run appliance demo' && return; fi
  exec 9>&-
  exec "$PREFIX/venv/bin/appliance" demo
}

do_test() {
  forget_user_settings
  SCRATCH=$(mktemp -d)
  LOG=$SCRATCH/install.log
  trap end_test EXIT
  trap 'exit 130' INT TERM
  ((QUICK)) || step_packages test
  ((QUICK)) || step_engine "$SCRATCH"
  ((QUICK)) || start_zfs
  step_test_environment
  ((!DRY_RUN)) || { would 'run ruff, mypy, lint-imports and pytest' && return; }
  cd "$CHECKOUT"
  run_stages
}

forget_user_settings() { # the tests make installations of their own
  local name
  for name in $(compgen -e | grep '^APPLIANCE_' | grep -v '^APPLIANCE_TEST'); do unset "$name"; done
}

start_zfs() {
  if ((DRY_RUN || SIMULATED)) || zfs_works || ! have zfs-fuse || ((EUID != 0)); then return 0; fi
  step 'ZFS' 'tests of the ZFS store use real pools'
  mkdir -p /run/zfs /run/lock
  in_background "$SCRATCH/zfs-fuse.log" zfs-fuse --no-daemon
  STARTED_PIDS+=("$CHILD")
  if wait_for 20 zfs_works; then ok 'zfs-fuse started'; else degraded 'zfs-fuse does not start' 'its tests are skipped'; fi
}

step_test_environment() {
  step 'Test environment' "$TEST_VENV: the locked packages, and this checkout as it is"
  local python mark
  if ! python=$(find_python); then
    ((DRY_RUN)) || die 'no Python 3.11 or newer' 'install python3.11 or newer (with venv), then run this again'
    would "make $TEST_VENV"
    return
  fi
  mark=$(cat "$LOCK" "$CHECKOUT/pyproject.toml" - <<<"$CHECKOUT $python" | sha256sum)
  if [[ -e $TEST_VENV/.complete && $(<"$TEST_VENV/.complete") == "$mark" ]]; then
    ok 'up to date'
  elif ((DRY_RUN)); then
    would "make $TEST_VENV with $python"
    return
  else
    build_environment "$python" "$TEST_VENV" all --editable "$CHECKOUT"
    echo "$mark" >"$TEST_VENV/.complete"
    ok "made with $python"
  fi
  # Measured start times must not depend on who imported the checkout first.
  ((DRY_RUN)) || run "$TEST_VENV/bin/python" -m compileall -q "$CHECKOUT/appliance" "$CHECKOUT/tui" || true
}

run_stages() {
  local failed=() bin=$TEST_VENV/bin tests=("${PYTEST_ARGS[@]+"${PYTEST_ARGS[@]}"}")
  footprint >"$SCRATCH/before"
  export PATH=$bin:$PATH
  if ((${#tests[@]})); then
    note 'arguments for pytest: it runs alone'
  else
    stage 'ruff check' "$bin/ruff" check . || failed+=('ruff check')
    stage 'ruff format' "$bin/ruff" format --check . || failed+=('ruff format')
    stage 'mypy' "$bin/mypy" || failed+=(mypy)
    stage 'import floors' "$bin/lint-imports" || failed+=('import floors')
    ((!QUICK)) || tests=(tests/unit)
  fi
  stage 'pytest' "$bin/python" -m pytest "${tests[@]+"${tests[@]}"}" || failed+=(pytest)
  nothing_left || failed+=('left behind')
  note "all checks took $SECONDS s"
  ((${#failed[@]} == 0)) || die "failed: $(IFS=,; echo "${failed[*]}")" 'correct what is shown above'
}

footprint() { # what tests could leave on this machine; the user's own installation is not looked at
  local own
  own=$(cat "$DATA/instance" 2>/dev/null || true)
  {
    engine_version >/dev/null &&
      docker ps -a --filter label=dev.appliance.instance --format 'container {{.Names}}' &&
      docker network ls --filter 'name=^appliance-' --format 'network {{.Name}}'
    ! have pgrep || pgrep -ax haproxy | sed 's/^/process /'
    ! zfs_works || zpool list -H -o name | sed 's/^/zpool /'
  } 2>/dev/null | grep -vF -e "appliance-${own:-own}" -e "$DATA/" | sort || true
}

nothing_left() {
  local left
  left=$(comm -13 "$SCRATCH/before" <(footprint))
  [[ -n $left ]] || return 0
  printf '    %sleft behind by the tests%s\n%s\n' "$RED" "$RESET" "$left"
  return 1
}

stage() { # stage NAME COMMAND...: its output is shown as it comes
  local started=$SECONDS status=0
  step "$1" "${*:2:4}"
  "${@:2}" </dev/null 9>&- || status=$?
  if ((status == 0)); then ok "$1, $((SECONDS - started)) s"; else
    printf '    %sfailed%s  %s, exit %d, %d s\n' "$RED" "$RESET" "$1" "$status" "$((SECONDS - started))"
  fi
  return "$status"
}

end_test() { # what this run started, it ends; what was running before goes on
  local status=$? pid
  trap - ERR INT TERM
  for pid in "${STARTED_PIDS[@]+"${STARTED_PIDS[@]}"}"; do end_process "$pid" 30; done
  if ((STARTED_ENGINE)) && systemd_runs; then as_root systemctl stop docker docker.socket >/dev/null 2>&1 || true; fi
  [[ -z ${SCRATCH:-} ]] || rm -rf "$SCRATCH"
  exit "$status"
}

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

# --- Uninstall ------------------------------------------------------------------------------------------------

do_uninstall() {
  if [[ ! -e $PREFIX && ! -e $DATA ]]; then
    ok "nothing is installed: no $PREFIX, no $DATA"
    return
  fi
  ((!PURGE)) || confirm_purge
  begin
  local instance
  instance=$(cat "$DATA/instance" 2>/dev/null || true)
  [[ $instance =~ ^[0-9a-f]{8}$ ]] || instance=''
  step_stop "$instance"
  step_remove_program
  if ((PURGE)); then step_purge "$instance"; else
    step 'Data' 'kept'
    note "$DATA ($(du -sh "$DATA" 2>/dev/null | cut -f1 || true)): ./install.sh brings it back to life"
    note './install.sh uninstall --purge destroys it'
  fi
}

confirm_purge() {
  [[ ! -e $DATA || -e $DATA/state.db || -e $DATA/config.toml || -e $DATA/install.log ]] ||
    die "$DATA does not look like the appliance's data" 'name the right directory with --home'
  step 'Purge' "destroys everything in $DATA: notebooks, datasets, models, runs, logs"
  if ((DRY_RUN || YES)); then return; fi
  [[ -t 0 ]] || misuse '--purge asks for a word and there is no terminal: add --yes to mean it'
  local answer
  read -r -p "    Type purge to destroy them: " answer
  [[ $answer == purge ]] || die 'nothing was destroyed' 'run it again and type the word'
}

step_stop() { # step_stop INSTANCE
  step 'Stop' 'the daemon, the front door and the containers of this installation'
  if ((DRY_RUN)); then would 'stop them' && return; fi
  if [[ -x $PREFIX/venv/bin/appliance ]]; then run program stop --all || true; fi
  stop_daemon
  end_front_door
  local ids
  ids=$(our running "$1")
  # shellcheck disable=SC2086 # one word a container
  [[ -z $ids ]] || run docker stop -t 10 $ids || true
  ok 'stopped'
}

end_front_door() { # where the program could not do it
  local pid
  pid=$(cat "$DATA/router/haproxy.pid" 2>/dev/null || true)
  [[ $pid =~ ^[0-9]+$ ]] && grep -qsaF "$DATA/router" "/proc/$pid/cmdline" || return 0
  end_process "$pid" 10
}

our() { # our running|containers|networks INSTANCE: ids on this engine; nothing without an instance
  [[ -n $2 ]] && engine_version >/dev/null || return 0
  case $1 in
    running) docker ps -q --filter "label=dev.appliance.instance=$2" ;;
    containers) docker ps -q --all --filter "label=dev.appliance.instance=$2" ;;
    networks) docker network ls -q --filter "name=^appliance-$2\$" ;;
  esac
}

step_remove_program() {
  step 'Program' "$PREFIX"
  if ((DRY_RUN)); then would "remove $PREFIX, $BIN_DIR/appliance and the service" && return; fi
  if systemd_runs && service_is_ours; then
    run ctl disable appliance || true
    rm -f "$(unit_file)"
    run ctl daemon-reload || true
  fi
  [[ $(readlink "$BIN_DIR/appliance" || true) != "$PREFIX/venv/bin/appliance" ]] || rm -f "$BIN_DIR/appliance"
  rm -rf "$PREFIX/releases" "$PREFIX/venv" "$DATA/daemon.env"
  rmdir "$PREFIX" 2>/dev/null || true
  ok 'removed; packages such as Docker and HAProxy stay'
}

step_purge() { # step_purge INSTANCE
  step 'Data' "$DATA is destroyed"
  if ((DRY_RUN)); then would "remove containers, network, pool and $DATA" && return; fi
  local ids pool left
  ids=$(our containers "$1")
  # shellcheck disable=SC2086 # one word a container
  [[ -z $ids ]] || run docker rm -f $ids || die 'containers could not be removed' 'docker ps -a shows them' "$LOG"
  ids=$(our networks "$1")
  # shellcheck disable=SC2086
  [[ -z $ids ]] || run docker network rm $ids || true
  pool=$(config_get zpool)
  [[ -z $pool ]] || purge_pool "$pool"
  left=$(awk -v home="$DATA/" 'index($2, home) == 1 { print $2 }' /proc/mounts)
  [[ -z $left ]] || die "something is still mounted below $DATA: $left" 'unmount it, then run this again'
  exec 9>&-
  LOG=/dev/null
  rm -rf --one-file-system "$DATA" || die "not all of $DATA could be removed" "sudo rm -rf $DATA"
  ok 'destroyed'
  note 'the images appliance/base and appliance/notebook stay: docker rmi removes them'
}

purge_pool() { # purge_pool POOL: a pool in our own file goes whole; in a given one, only what the appliance made
  local base=$1/volumes outside
  if [[ -e $DATA/pool.img ]]; then
    run as_root zpool destroy -f "$1" || die "zpool $1 could not be destroyed" 'zpool status shows why' "$LOG"
    return
  fi
  # The ZFS store marks its dataset so; see appliance/storage/zfs.py.
  [[ $(zfs get -H -o value,source mountpoint "$base" 2>/dev/null) == "$DATA/volumes"$'\t'local ]] || return 0
  outside=$(zfs list -H -o name,origin | awk -v base="$base" '
    index($2, base "@") + index($2, base "/") == 1 && $1 != base && index($1, base "/") != 1 { print $1 }')
  [[ -z $outside ]] || die "clones outside $base come from volumes in it: $outside" 'zfs promote or destroy them first'
  run as_root zfs destroy -R "$base" || die "$base could not be destroyed" 'zfs list -r shows what is left' "$LOG"
  note "$base is destroyed; $1 stays, it was given by you"
}

# --- Arguments ------------------------------------------------------------------------------------------------

parse() {
  VERB=install PREFIX='' DATA='' BIN_DIR='' POOL='' FILE_POOL='' PLAIN=0 PORT='' SERVICE=1
  QUICK=0 PURGE=0 YES=0 PYTEST_ARGS=() DEFAULT_DATA=/var/lib/appliance
  ((EUID == 0)) || DEFAULT_DATA=${XDG_DATA_HOME:-$HOME/.local/share}/appliance
  case ${1:-} in
    install | demo | test | uninstall | lock) VERB=$1 && shift ;;
    help) usage && exit 0 ;;
    [!-]*) misuse "unknown verb $1" ;;
  esac
  while (($#)); do
    case $1 in
      --dry-run) DRY_RUN=1 ;;
      --plain-store) PLAIN=1 ;;
      --no-service) SERVICE=0 ;;
      --quick) QUICK=1 ;;
      --purge) PURGE=1 ;;
      --yes) YES=1 ;;
      -h | --help) usage && exit 0 ;;
      --distro | --pool | --file-pool | --prefix | --home | --bin-dir | --port)
        (($# > 1)) || misuse "$1 needs a value"
        set_option "$1" "$2"
        shift
        ;;
      *)
        [[ $VERB == test ]] || misuse "unknown option $1"
        PYTEST_ARGS+=("$1")
        ;;
    esac
    shift
  done
  ((!SIMULATED || DRY_RUN)) || misuse '--distro goes with --dry-run'
}

set_option() {
  [[ -n $2 ]] || misuse "$1 needs a value"
  case $1 in
    --distro)
      [[ $2 =~ ^(apt|dnf|pacman)$ ]] || misuse "--distro is apt, dnf or pacman, not $2"
      FAMILY=$2 SIMULATED=1
      ;;
    --pool) POOL=$2 ;;
    --file-pool) FILE_POOL=$2 ;;
    --prefix) PREFIX=$2 ;;
    --home) DATA=$2 ;;
    --bin-dir) BIN_DIR=$2 ;;
    --port) PORT=$2 ;;
  esac
}

main() {
  trap 'unexpected "$LINENO" "$BASH_COMMAND"' ERR
  parse "$@"
  [[ $(uname -s) == Linux ]] || die 'the appliance runs on Linux' 'use a Linux machine'
  # Engine, HAProxy and ZFS tools live in sbin, which a user's PATH may lack.
  export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
  resolve_paths
  check_wishes
  [[ -n $FAMILY ]] || detect_family
  "do_$VERB"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then main "$@"; fi
