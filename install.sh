#!/usr/bin/env bash
# Installs, tests and removes the appliance on this machine; `./install.sh --help` says what it can do.
#
# Each step looks before it acts, says what it does and why, and may be run again at any time.
# apt, dnf, pacman, pip and uv are used as this machine has them configured: no package host is named here.
# This file is the way in: usage, arguments, verbs by name. What they do is in .install/, a part for each concern.
# shellcheck source-path=SCRIPTDIR

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
  --openzfs            test: only what needs the OpenZFS kernel module, in a virtual machine where this kernel has
                       none and APPLIANCE_TEST_ZFSVM names the program that boots one
  --purge              uninstall: destroy the data too, after a typed confirmation
  --yes                uninstall --purge: do not ask
  -h, --help           this text

As root the program goes to /opt/appliance and data to /var/lib/appliance; otherwise both go below
~/.local/share. Exit codes: 0 done, 1 failed, 2 wrong usage.
TEXT
}

# --- The parts ------------------------------------------------------------------------------------------------

# shellcheck source=.install/speaking.sh
source "$CHECKOUT/.install/speaking.sh"
# shellcheck source=.install/doing.sh
source "$CHECKOUT/.install/doing.sh"
# shellcheck source=.install/machine.sh
source "$CHECKOUT/.install/machine.sh"
# shellcheck source=.install/packages.sh
source "$CHECKOUT/.install/packages.sh"
# shellcheck source=.install/engine.sh
source "$CHECKOUT/.install/engine.sh"
# shellcheck source=.install/program.sh
source "$CHECKOUT/.install/program.sh"
# shellcheck source=.install/store.sh
source "$CHECKOUT/.install/store.sh"
# shellcheck source=.install/daemon.sh
source "$CHECKOUT/.install/daemon.sh"
# shellcheck source=.install/verbs.sh
source "$CHECKOUT/.install/verbs.sh"
# shellcheck source=.install/check.sh
source "$CHECKOUT/.install/check.sh"
# shellcheck source=.install/openzfs.sh
source "$CHECKOUT/.install/openzfs.sh"
# shellcheck source=.install/lock.sh
source "$CHECKOUT/.install/lock.sh"
# shellcheck source=.install/remove.sh
source "$CHECKOUT/.install/remove.sh"

# --- Arguments ------------------------------------------------------------------------------------------------

parse() {
  VERB=install PREFIX='' DATA='' BIN_DIR='' POOL='' FILE_POOL='' PLAIN=0 PORT='' SERVICE=1
  QUICK=0 OPENZFS=0 PURGE=0 YES=0 PYTEST_ARGS=() DEFAULT_DATA=/var/lib/appliance
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
      --openzfs) OPENZFS=1 ;;
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
  ((!OPENZFS)) || [[ $VERB == test ]] || misuse '--openzfs goes with the verb test'
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
