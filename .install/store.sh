# Where volumes live: config.toml, a given pool, a pool in a file, plain directories. The port is kept there too.
# shellcheck shell=bash

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
