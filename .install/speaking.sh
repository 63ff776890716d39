# What the script says: steps, notes, degradations, errors.
# shellcheck shell=bash

# --- Speaking -------------------------------------------------------------------------------------------------

choose_colours() {
  BOLD='' GREEN='' YELLOW='' RED='' RESET=''
  [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]] || return 0
  BOLD=$'\e[1m' GREEN=$'\e[32m' YELLOW=$'\e[33m' RED=$'\e[31m' RESET=$'\e[0m'
}
choose_colours

step() { printf '%s==> %s%s: %s\n' "$BOLD" "$1" "$RESET" "$2"; } # step WHAT WHY
ok() { printf '    %sok%s  %s\n' "$GREEN" "$RESET" "$*"; }
note() { printf '    %s\n' "$*"; }
would() { printf '    would %s\n' "$*"; }

degraded() { # degraded WHAT NEXT: said here and again at the end, never silent
  printf '    %sdegraded%s  %s\n              next: %s\n' "$YELLOW" "$RESET" "$1" "$2"
  DEGRADED+=("$1")
}

die() { # die WHAT NEXT [FILE]: the end of FILE is shown
  {
    printf '\n%sinstall.sh: %s%s\n' "$RED" "$1" "$RESET"
    [[ -z ${3:-} || ! -s ${3:-} ]] || { printf '  last lines of %s:\n' "$3" && last_lines "$3" | sed 's/^/    /'; }
    printf '  next: %s\n' "$2"
  } >&2
  exit 1
}

last_lines() { # without DuckDB's tale of leaks, which follows every error and hides it
  grep -avE '^( - (leaked|\.\.\. skipped)|nanobind:|See .*nanobind)' "$1" | tail -n 20
}

misuse() {
  printf 'install.sh: %s\n  next: ./install.sh --help lists verbs and options\n' "$1" >&2
  exit 2
}

unexpected() { # unexpected LINE COMMAND: the ERR trap, for what no step foresaw
  ((BASH_SUBSHELL == 0)) || return 0
  die "line $1 of ${BASH_SOURCE[1]:-install.sh} failed: $2" "read $LOG; a run of the same command goes on where this one stopped" "$LOG"
}
