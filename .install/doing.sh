# How commands are run: logged, as root, awaited, in the background, ended.
# shellcheck shell=bash

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
