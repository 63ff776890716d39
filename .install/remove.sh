# The verb uninstall: the program goes; with --purge, the data too.
# shellcheck shell=bash

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
  local base=$1/volumes outside beside
  if [[ -e $DATA/pool.img ]]; then
    run as_root zpool destroy -f "$1" || die "zpool $1 could not be destroyed" 'zpool status shows why' "$LOG"
    return
  fi
  # The ZFS store marks its dataset so; see appliance/storage/zfs/store.py.
  [[ $(zfs get -H -o value,source mountpoint "$base" 2>/dev/null) == "$DATA/volumes"$'\t'local ]] || return 0
  for beside in "$base-views" "$base-reserve"; do # views are clones of volumes
    zfs list -H -o name "$beside" >/dev/null 2>&1 || continue
    run as_root zfs destroy -R "$beside" || die "$beside could not be destroyed" 'zfs list -r shows what is left' "$LOG"
  done
  outside=$(zfs list -H -o name,origin | awk -v base="$base" '
    index($2, base "@") + index($2, base "/") == 1 && $1 != base && index($1, base "/") != 1 { print $1 }')
  [[ -z $outside ]] || die "clones outside $base come from volumes in it: $outside" 'zfs promote or destroy them first'
  run as_root zfs destroy -R "$base" || die "$base could not be destroyed" 'zfs list -r shows what is left' "$LOG"
  note "$base is destroyed; $1 stays, it was given by you"
}
