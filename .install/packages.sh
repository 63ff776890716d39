# The packages of the distribution: their names in each family, and one call that installs what is missing.
# shellcheck shell=bash

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
    sshd:pacman) echo openssh ;;
    sshd:*) echo openssh-server ;;
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
  [[ $1 != test ]] || wish_compiler_for_tests
  install_booked
  [[ $1 != test ]] || { install_sshd_for_tests && install_browser_for_tests; }
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

wish_compiler_for_tests() {
  if have cc || have gcc || have tcc; then return; fi
  wish gcc 'tests on a stub of the NVIDIA library' 'none: those tests are skipped'
  [[ $FAMILY != apt ]] || wish libc6-dev 'the same tests: what a compiler needs beside it' 'none: those tests are skipped'
}

install_sshd_for_tests() { # by itself, since nothing else depends on it; never where it would start as a service
  ((SIMULATED)) && [[ $FAMILY == apt ]] && would 'add openssh-server where that starts no service (tests of git over SSH)'
  ((SIMULATED)) && return
  if have sshd || [[ -x /usr/sbin/sshd ]]; then return; fi
  local command=() skipped='no sshd here: tests of git over SSH are skipped'
  if systemd_runs || ((EUID != 0)) || [[ -z $FAMILY ]]; then note "$skipped" && return; fi
  if ((DRY_RUN)); then would "run $(install_command) $(packages_for sshd)" && return; fi
  read -ra command <<<"$(install_command)"
  if run env DEBIAN_FRONTEND=noninteractive "${command[@]}" "$(packages_for sshd)"; then
    ok 'installed an sshd for the tests of git over SSH'
  else
    note "$skipped"
  fi
}

install_browser_for_tests() { # by itself, since nothing else depends on it; only as root, as nobody asked for a browser
  ((SIMULATED)) && [[ $FAMILY == apt ]] && would 'add nodejs, npm and chromium (tests of notebooks in a browser)'
  ((SIMULATED)) && return
  local missing=() command=()
  have node || missing+=(nodejs)
  have npm || missing+=(npm)
  have chromium || have chromium-browser || have google-chrome || missing+=(chromium)
  ((${#missing[@]})) || return 0
  local skipped="${missing[*]} not here: tests of notebooks in a browser are skipped"
  if ((EUID != 0)) || [[ -z $FAMILY ]]; then note "$skipped" && return; fi
  if ((DRY_RUN)); then would "run $(install_command) ${missing[*]}" && return; fi
  read -ra command <<<"$(install_command)"
  if run env DEBIAN_FRONTEND=noninteractive "${command[@]}" "${missing[@]}" ||
    { refresh_packages && run env DEBIAN_FRONTEND=noninteractive "${command[@]}" "${missing[@]}"; }; then
    hash -r
    ok "installed ${missing[*]} for tests of notebooks in a browser"
  else
    note "$skipped"
  fi
}

note_new_haproxy() { # the package starts an HAProxy of its own, which the appliance does not need
  [[ " ${BOOKED[*]-} " == *' haproxy '* ]] && systemd_runs || return 0
  act "stop the package's own haproxy.service" run as_root systemctl disable --now haproxy || true
}
