# The daemon: a systemd service, or a background process where there is none.
# shellcheck shell=bash

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
