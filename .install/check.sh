# The verb test: its environment, its stages, and what tests left behind.
# shellcheck shell=bash

readonly CI_S=5100

do_test() {
  forget_user_settings
  SCRATCH=$(mktemp -d)
  LOG=$SCRATCH/install.log
  trap end_test EXIT
  trap 'exit 130' INT TERM
  if ((OPENZFS)); then
    test_openzfs
    return
  fi
  ((QUICK)) || step_packages test
  ((QUICK)) || step_engine "$SCRATCH"
  ((QUICK)) || start_zfs
  step_test_environment
  ((QUICK)) || step_node_packages
  ((!DRY_RUN)) || { would 'run ruff, mypy, lint-imports and pytest' && return; }
  cd "$CHECKOUT"
  run_stages
}

forget_user_settings() { # the tests make installations of their own
  local name
  for name in $(compgen -e | grep '^APPLIANCE_' | grep -v '^APPLIANCE_TEST'); do unset "$name"; done
}

start_zfs() {
  if ((DRY_RUN || SIMULATED)) || zfs_works || ! have zfs-fuse || ((EUID != 0)); then return 0; fi
  step 'ZFS' 'tests of the ZFS store use real pools'
  mkdir -p /run/zfs /run/lock
  in_background "$SCRATCH/zfs-fuse.log" zfs-fuse --no-daemon
  STARTED_PIDS+=("$CHILD")
  if wait_for 20 zfs_works; then ok 'zfs-fuse started'; else degraded 'zfs-fuse does not start' 'its tests are skipped'; fi
}

step_test_environment() {
  step 'Test environment' "$TEST_VENV: the locked packages, and this checkout as it is"
  local python mark
  if ! python=$(find_python); then
    ((DRY_RUN)) || die 'no Python 3.11 or newer' 'install python3.11 or newer (with venv), then run this again'
    would "make $TEST_VENV"
    return
  fi
  mark=$(cat "$LOCK" "$CHECKOUT/pyproject.toml" - <<<"$CHECKOUT $python" | sha256sum)
  if [[ -e $TEST_VENV/.complete && $(<"$TEST_VENV/.complete") == "$mark" ]]; then
    ok 'up to date'
  elif ((DRY_RUN)); then
    would "make $TEST_VENV with $python"
    return
  else
    build_environment "$python" "$TEST_VENV" all --editable "$CHECKOUT"
    echo "$mark" >"$TEST_VENV/.complete"
    ok "made with $python"
  fi
  # Measured start times must not depend on who imported the checkout first.
  ((DRY_RUN)) || run "$TEST_VENV/bin/python" -m compileall -q "$CHECKOUT/appliance" "$CHECKOUT/tui" || true
}

step_node_packages() { # nothing of a package is run when it is installed
  local folder=$CHECKOUT/tests/support/browser mark
  step 'Packages of Node' "$folder/node_modules: what drives a browser, and the client of JupyterLab"
  if ! have npm; then note 'no npm here: tests of notebooks in a browser are skipped' && return; fi
  mark=$(cat "$folder/package.json" "$folder/package-lock.json" | sha256sum)
  if [[ -e $folder/node_modules/.complete && $(<"$folder/node_modules/.complete") == "$mark" ]]; then
    ok 'up to date'
  elif ((DRY_RUN)); then
    would "run npm ci in $folder"
  elif (cd "$folder" && { run npm ci --ignore-scripts || run npm ci --ignore-scripts; }); then
    echo "$mark" >"$folder/node_modules/.complete"
    ok 'installed as package-lock.json says'
  else
    degraded 'npm ci failed' "read $LOG; tests of notebooks in a browser are skipped"
  fi
}

run_stages() {
  local failed=() bin=$TEST_VENV/bin tests=("${PYTEST_ARGS[@]+"${PYTEST_ARGS[@]}"}")
  footprint >"$SCRATCH/before"
  export PATH=$bin:$PATH
  if ((${#tests[@]})); then
    note 'arguments for pytest: it runs alone'
  else
    stage 'ruff check' "$bin/ruff" check . || failed+=('ruff check')
    stage 'ruff format' "$bin/ruff" format --check . || failed+=('ruff format')
    stage 'mypy' "$bin/mypy" || failed+=(mypy)
    stage 'import floors' "$bin/lint-imports" || failed+=('import floors')
    stage 'unit tests' "$bin/python" -m pytest tests/unit --numprocesses auto || failed+=('unit tests')
    tests=(tests/integration tests/e2e)
  fi
  if ((!QUICK || ${#PYTEST_ARGS[@]})); then # one after the other: they share the engine and two cores
    stage 'pytest' "$bin/python" -m pytest "${tests[@]}" || failed+=(pytest)
  fi
  nothing_left || failed+=('left behind')
  note "all checks took $SECONDS s"
  ((${#failed[@]} == 0)) || die "failed: $(IFS=,; echo "${failed[*]}")" 'correct what is shown above'
}

footprint() { # what tests could leave on this machine; the user's own installation is not looked at
  local own
  own=$(cat "$DATA/instance" 2>/dev/null || true)
  {
    engine_version >/dev/null &&
      docker ps -a --filter label=dev.appliance.instance --format 'container {{.Names}}' &&
      docker network ls --filter 'name=^appliance-' --format 'network {{.Name}}'
    ! have pgrep || pgrep -ax haproxy | sed 's/^/process /'
    ! zfs_works || zpool list -H -o name | sed 's/^/zpool /'
  } 2>/dev/null | grep -vF -e "appliance-${own:-own}" -e "$DATA/" | sort || true
}

nothing_left() { # what was told to end a moment ago may take some seconds on a busy machine
  if wait_for 60 nothing_more; then return 0; fi
  printf '    %sleft behind by the tests%s\n%s\n' "$RED" "$RESET" "$(more_than_before)"
  return 1
}

more_than_before() { comm -13 "$SCRATCH/before" <(footprint); }

nothing_more() { [[ -z $(more_than_before) ]]; }

stage() { # stage NAME COMMAND...: its output is shown as it comes
  local started=$SECONDS status=0 deadline=()
  step "$1" "${*:2:4}"
  # Where nobody watches, what hangs is interrupted while there is time left to tell where.
  [[ -z ${CI:-} ]] || deadline=(timeout --signal=INT --kill-after=30 $((CI_S > SECONDS ? CI_S - SECONDS : 1)))
  "${deadline[@]+"${deadline[@]}"}" "${@:2}" </dev/null 9>&- || status=$?
  if ((status == 0)); then ok "$1, $((SECONDS - started)) s"; else
    printf '    %sfailed%s  %s, exit %d, %d s\n' "$RED" "$RESET" "$1" "$status" "$((SECONDS - started))"
  fi
  return "$status"
}

end_test() { # what this run started, it ends; what was running before goes on
  local status=$? pid
  trap - ERR INT TERM
  for pid in "${STARTED_PIDS[@]+"${STARTED_PIDS[@]}"}"; do end_process "$pid" 30; done
  if ((STARTED_ENGINE)) && systemd_runs; then as_root systemctl stop docker docker.socket >/dev/null 2>&1 || true; fi
  [[ -z ${SCRATCH:-} ]] || rm -rf "$SCRATCH"
  exit "$status"
}
