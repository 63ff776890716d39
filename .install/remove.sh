# The verb uninstall: the program goes; with --purge, the data too.
# shellcheck shell=bash

readonly END_USE='end what uses it (fuser -vm MOUNTPOINT, zfs holds -r DATASET), then run this again'

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
  [[ ! -e $DATA || -z $(ls -A "$DATA") || -e $DATA/state.db || -e $DATA/config.toml || -e $DATA/install.log ]] ||
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

our() { # our running|containers|networks|images INSTANCE: what is on this engine; nothing without an instance
  [[ -n $2 ]] && engine_version >/dev/null || return 0
  case $1 in
    running) docker ps -q --filter "label=dev.appliance.instance=$2" ;;
    containers) docker ps -q --all --filter "label=dev.appliance.instance=$2" ;;
    networks) docker network ls -q --filter "name=^appliance-$2\$" ;;
    images) docker images --format '{{.Repository}}:{{.Tag}}' --filter "reference=appliance/kept:$2-*" ;;
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
  local ids left real
  ids=$(our containers "$1")
  # shellcheck disable=SC2086 # one word a container
  [[ -z $ids ]] || run docker rm -f $ids || die 'containers could not be removed' 'docker ps -a shows them' "$LOG"
  ids=$(our networks "$1")
  # shellcheck disable=SC2086
  [[ -z $ids ]] || run docker network rm $ids || true
  ids=$(our images "$1") # names that revisions of deployments were kept by
  # shellcheck disable=SC2086
  [[ -z $ids ]] || run docker rmi $ids || true
  purge_pools
  real=$(realpath "$DATA") # it may be a link to where there is room
  left=$(awk -v home="$real/" 'index($2, home) == 1 { print $2 }' /proc/mounts)
  [[ -z $left ]] || die "something is still mounted below $DATA: $left" 'unmount it, then run this again'
  exec 9>&-
  LOG=/dev/null
  # Where it is a mount itself, it stays as an empty directory.
  rm -rf --one-file-system "$real" || [[ -z $(ls -A "$real") ]] ||
    die "not all of $DATA could be removed" "sudo rm -rf $real"
  [[ ! -L $DATA || -e $DATA ]] || rm -f "$DATA"
  ok 'destroyed'
  note 'the images appliance/base and appliance/notebook stay: docker rmi removes them'
}

purge_pools() { # a pool in our own file goes whole; in the one that was given, only what the appliance made
  local pool given real
  given=$(config_get zpool)
  real=$(realpath -m "$DATA/pool.img")
  for pool in $(zpool list -H -o name 2>/dev/null || true); do
    is_in_file "$pool" "$real" || continue
    once_not_busy as_root zpool destroy -f "$pool" || die "zpool $pool could not be destroyed" "$END_USE" "$LOG"
    [[ $pool != "$given" ]] || given=''
  done
  if [[ -z $given ]]; then return; fi
  if zfs list -H -o name "$given" >/dev/null 2>&1; then
    purge_given_pool "$given"
  elif [[ ! -e $DATA/pool.img && $(config_get storage) != directory ]]; then # else it goes with the rest of $DATA
    note "if $given is gone for good, remove the line zpool from $DATA/config.toml"
    die "ZFS knows no $given, in which the volumes are" "zpool import ${given%%/*}, then run this again"
  fi
}

once_not_busy() { # once_not_busy COMMAND...: what had files open or was mounted until now is busy for a moment
  local _
  for _ in {1..20}; do
    run "$@" && return
    sleep 0.5
  done
  return 1
}

is_in_file() { # is_in_file POOL FILE
  { zpool status -P "$1" 2>/dev/null || zpool status "$1" 2>/dev/null; } |
    awk -v file="$2" '$1 == file { found = 1 } END { exit !found }'
}

purge_given_pool() { # purge_given_pool POOL
  local base=$1/volumes mark foreign beside
  # The ZFS store marks its dataset so; see appliance/storage/zfs/store.py.
  mark=$(zfs get -H -o value,source mountpoint "$base" 2>/dev/null || true)
  if [[ $mark != "$(realpath -m "$DATA/volumes")"$'\t'local ]]; then
    [[ -z $mark ]] || note "$base stays: its mountpoint is ${mark%%$'\t'*}, so it is not of $DATA"
    return 0
  fi
  # Views are clones of volumes; the base comes last, for it has the mark that a second run looks for.
  for beside in "$base-views" "$base-reserve" "$base"; do
    foreign=$(foreign_in "$base" "$beside")
    [[ -z $foreign ]] || die "the appliance did not make all that is in $beside or comes from it: $foreign" \
      'move it with zfs rename or zfs promote, or destroy it, then run this again'
  done
  for beside in "$base-views" "$base-reserve" "$base"; do
    zfs list -H -o name "$beside" >/dev/null 2>&1 || continue
    once_not_busy as_root zfs destroy -R "$beside" || die "$beside could not be destroyed" "$END_USE" "$LOG"
  done
  note "$base is destroyed; $1 stays, it was given by you"
}

# All that the appliance makes is canmount=off or noauto, which no zvol has, and nobody's default is.
foreign_in() { # foreign_in BASE DATASET: what is not ours below it, and clones of what is in it that are elsewhere
  zfs list -H -t filesystem,volume -o name,canmount,origin | awk -F '\t' -v base="$1" -v set="$2" '
    function within(name, top) { return name == top || index(name, top "/") == 1 }
    within($1, set) { if ($2 != "off" && $2 != "noauto") print $1; next }
    within(substr($3, 1, index($3, "@") - 1), set) && !within($1, base) && !within($1, base "-views") { print $1 }' |
    paste -sd ' '
}
