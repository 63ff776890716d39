# The Docker engine, started by systemd or as a process, and the GPU in its containers.
# shellcheck shell=bash

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
