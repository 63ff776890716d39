# Where everything goes, and the verbs install and demo.
# shellcheck shell=bash

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
