# The verb test with --openzfs: the tests that need the OpenZFS kernel module, in a throw-away virtual machine.
# shellcheck shell=bash

# That machine is an emulated one, in which a `zfs` command takes half a second: only these run there.
readonly OPENZFS_TESTS=(
  tests/openzfs
  tests/integration/test_storage_zfs.py::TestZfs
  tests/integration/test_zfs_history.py
  tests/integration/test_zfs_send.py
)
readonly OPENZFS_S=10000

# --- Real OpenZFS ---------------------------------------------------------------------------------------------

test_openzfs() {
  step 'OpenZFS' 'the kernel module itself, and not zfs-fuse'
  # What a run keeps stays out of the checkout, which is read-only in the machine.
  local pytest=(-m pytest -p no:cacheprovider --timeout 1800 --durations 20)
  if ((${#PYTEST_ARGS[@]})); then pytest+=("${PYTEST_ARGS[@]}"); else pytest+=("${OPENZFS_TESTS[@]}"); fi
  if kernel_runs_zfs; then
    note 'this kernel has it: the tests make pools of their own on files'
    openzfs_stage "$TEST_VENV/bin/python" "${pytest[@]}"
  elif find_zfsvm; then
    note "this kernel has it not: $ZFSVM boots one that has, and throws it away afterwards"
    openzfs_stage in_a_machine "$TEST_VENV/bin/python" "${pytest[@]}"
  fi
}

kernel_runs_zfs() { ((!SIMULATED && EUID == 0)) && [[ -d /sys/module/zfs ]] && zfs_works; }

find_zfsvm() { # sets ZFSVM, the program that boots the machine; says why there is none
  ZFSVM=${APPLIANCE_TEST_ZFSVM:-$(zfsvm_beside)}
  if [[ ! -f $ZFSVM || ! -x $ZFSVM ]]; then
    [[ -z ${APPLIANCE_TEST_ZFSVM:-} ]] || die "APPLIANCE_TEST_ZFSVM names no program: $ZFSVM" 'set it to the path of zfsvm'
    degraded 'skipped: this kernel has no OpenZFS, and there is no zfsvm to boot one that has' \
      'load the kernel module zfs, or set APPLIANCE_TEST_ZFSVM to the path of zfsvm'
    return 1
  fi
  if ((EUID != 0 && !DRY_RUN)); then
    degraded 'skipped: making and booting the machine needs root' 'run this as root'
    return 1
  fi
  ZFSVM=$(realpath "$ZFSVM")
}

zfsvm_beside() { echo "$CHECKOUT/../shared/zfsvm/zfsvm"; }

openzfs_stage() { # openzfs_stage COMMAND...
  step_test_environment
  if ((DRY_RUN)); then would 'run pytest' && return; fi
  cd "$CHECKOUT"
  stage 'tests on OpenZFS' "$@" ||
    die 'failed: tests on OpenZFS' 'correct what is shown above; exit 124: out of time, 125: the machine died'
}

in_a_machine() { # in_a_machine PYTHON ARGUMENT...: it is found there where it is here
  local base options=(--mount "$CHECKOUT:$CHECKOUT:ro" --cwd "$CHECKOUT")
  base=$("$1" -c 'import sys; print(sys.base_prefix)')
  # The environment comes with the checkout, the Python that it is made of beside it, unless the distribution's will do.
  [[ $base == /usr ]] || options+=(--mount "$base:$base:ro")
  # The first run builds the machine. Pools on files are made in /tmp, which is in the machine's memory.
  "$ZFSVM" run --no-docker --mem 4096 --timeout "$OPENZFS_S" "${options[@]}" \
    --env PYTHONDONTWRITEBYTECODE=1 --env HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis \
    -- "$@"
}
