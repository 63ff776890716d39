# What this machine is: its distribution, kernel, GPU, engine, HAProxy and Python. Nothing here changes it.
# shellcheck shell=bash

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
