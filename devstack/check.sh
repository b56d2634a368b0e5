#!/usr/bin/env bash
# `make check`: everything that must be green before a change goes in. CI runs exactly this.
#
# All steps run, also after a failure; the table of steps comes before the last one, `make test`, so
# that pytest's summary is the last line of a green run. Exit code 1 when any step failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

python=.venv/bin/python
names=() results=() seconds=()
failed=()

# The steps run in a process group of their own: whatever they started ends with this script.
current=0
stop_current() {
  [ "$current" -eq 0 ] || kill -TERM -- "-$current" 2>/dev/null || true
}
trap stop_current EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

run() { # run COMMAND...: in its own process group, with its exit code
  setsid --wait "$@" &
  current=$!
  local code=0
  wait "$current" || code=$?
  current=0
  return "$code"
}

step() { # step NAME COMMAND...
  local name=$1 started=$SECONDS code=0 result
  shift
  printf '\n=== %s\n' "$name"
  run "$@" || code=$?
  case $code in
    0) result=ok ;;
    *) result="FAILED ($code)"; failed+=("$name") ;;
  esac
  names+=("$name") results+=("$result") seconds+=($((SECONDS - started)))
  printf '=== %s %s in %s s\n' "$name" "$result" "${seconds[-1]}"
}

shell_scripts() {
  git ls-files -z '*.sh' .ci/run ':!charts' | xargs -0r .venv/bin/shellcheck --severity=warning &&
    git ls-files -z 'charts/*.sh' | xargs -0r .venv/bin/shellcheck --severity=warning --shell=sh
}

# Django's own checks need values for the settings, not servers behind them.
django() {
  DJANGO_SETTINGS_MODULE=tests.architecture.typing_settings "$python" -W "ignore:Got an error checking" -m app "$@"
}

export python
export -f shell_scripts django

step lint make -s lint
step types make -s types
step contracts make -s contracts
step locks "$python" -m tests.architecture.locks
step hooks .venv/bin/pre-commit validate-config
step shell bash -c shell_scripts
step migrations bash -c 'django makemigrations --check --dry-run'
step deploy bash -c 'django check --deploy --fail-level WARNING'
step chart make -s chart
step hops make -s hops
step proofs make -s prove ROUNDS="${ROUNDS:-10}"

printf '\n%-12s %-14s %s\n' step result seconds
for i in "${!names[@]}"; do
  printf '%-12s %-14s %s\n' "${names[i]}" "${results[i]}" "${seconds[i]}"
done
[ ${#failed[@]} -eq 0 ] || printf 'FAILED so far: %s\n' "${failed[*]}"

printf '\n=== test\n'
code=0
run make -s test || code=$?
if [ ${#failed[@]} -gt 0 ]; then
  printf 'make check: FAILED: %s\n' "${failed[*]}"
  [ "$code" -ne 0 ] || code=1
fi
exit "$code"
