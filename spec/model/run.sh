#!/usr/bin/env bash
# Checks the models with Spin: ./run.sh [model...]; all of them without arguments.
# The correct design has to pass with a complete search, each broken variant to fail for its own reason.
# JOBS=n runs n at a time (default 2); KEEP=1 keeps the verifiers and the trails of what failed.
set -u
here=$(cd "$(dirname "$0")" && pwd)

# pass MODEL "CONFIGURATION"; fail MODEL "CONFIGURATION" REASON, which has to stand in the verifier's complaint.
plan() {
  pass read ""
  pass read "WITH_DEL_K"
  pass read "WITH_J READ_J READS=1 SETS=1"
  pass read "WITH_J WITH_DEL_J READS=1 SETS=1"
  pass read "CHAIN"
  pass read "REBUILD WITH_DEL_K"
  pass read "REBUILD CHAIN READS=1"
  fail read "BREAK_FREE CHAIN SETS=3 READS=1" torn
  fail read "BREAK_GOON" missed
  fail read "BREAK_HIT" old_value
  fail read "BREAK_VERSION CHAIN" torn
  fail read "BREAK_KEY WITH_J READ_J READS=1" wrong_key
  fail read "BREAK_EPOCH REBUILD" missed

  pass rebuild ""
  pass rebuild "READS=2 DEATHS=1 WITH_DEL"
  pass rebuild "READS=2 DEATHS=1 WITH_SET"
  pass rebuild "READS=2 DEATHS=1 SETTER_J CAS"
  pass rebuild "CAS DEATHS=1 WITH_DEL"
  pass rebuild "ONEPASS READS=2 DEATHS=1"
  fail rebuild "BREAK_EPOCH_MISS DEATHS=1" missed
  fail rebuild "BREAK_EPOCH_HIT ONEPASS READS=2" old_value
  fail rebuild "BREAK_EPOCH_FIRST DEATHS=1" missed
  fail rebuild "BREAK_EPOCH_LAST DEATHS=1" missed
  fail rebuild "BREAK_COUNTER CAS DEATHS=1 WITH_DEL" token_came_back

  pass lock "SUCCESSOR"
  pass lock "TWO_GOROUTINES"
  pass lock "THREE DEATHS=1"
  pass lock "THREE NO_TIMEOUT"
  pass lock "FAIR"
  pass lock "REUSE"
  pass lock "FORGED"
  pass lock "FORGED TWO_GOROUTINES DEATHS=0"
  fail lock "BREAK_GENERATION SUCCESSOR" "invalid end state"
  fail lock "BREAK_LATE REUSE" two_holders
  fail lock "BREAK_SELF TWO_GOROUTINES" two_holders
  fail lock "BREAK_INCONSISTENT SUCCESSOR" lost_mark
  fail lock "BREAK_RECORD_AFTER" two_holders
  fail lock "BREAK_EXACT SUCCESSOR" two_holders
  fail lock "BREAK_BOUND" "invalid end state"
  fail lock "BREAK_SEEN THREE NO_TIMEOUT" "invalid end state"
  fail lock "BREAK_DISOWN FORGED" "invalid end state"
  fail lock "BREAK_DISOWN_TURN FORGED" robbed
  fail lock "BREAK_DISOWN_MARK FORGED" lost_mark
  fail lock "BREAK_STARVED FAIR" "acceptance cycle"

  pass doorbell ""
  pass doorbell "SIGNAL"
  pass doorbell "REUSE NOTIFIERS=2 DEATHS=0"
  pass doorbell "REUSE SIGNAL NOTIFIERS=2 DEATHS=0"
  fail doorbell "BREAK_ORDER" lost
  fail doorbell "BREAK_SEEN" lost
  fail doorbell "BREAK_SLEEPING" lost
  fail doorbell "BREAK_RECHECK SIGNAL" lost
  fail doorbell "BREAK_SUPPRESS" lost
  fail doorbell "BREAK_CLEAN REUSE NOTIFIERS=2 DEATHS=0" lost

  pass create ""
  pass create "DESTROY DEATHS=1"
  pass create "DESTROY OPENERS=2"
  pass create "RUDE DEATHS=1"
  pass create "RUDE DESTROY OPENERS=2 DEATHS=1"
  fail create "BREAK_READY_FIRST" not_whole
  fail create "BREAK_INODE RUDE OPENERS=2" split
  fail create "BREAK_LOCK" twice
  fail create "BREAK_LOOK" twice

  pass region "REAPERS=2"
  pass region "REGIONS=2"
  pass region "CLAIMERS=3 DEATHS=1"
  pass region "REAPERS=2 THREADS"
  fail region "BREAK_LEASE" robbed
  fail region "BREAK_SELF" robbed
  fail region "BREAK_THREAD REAPERS=2 THREADS" robbed
  fail region "BREAK_ORDER" leaked
  fail region "BREAK_CLEAN" leaked
  fail region "BREAK_FOLD" twice

  pass stamp ""
  pass stamp "READERS=3"
  pass stamp "REUSE REST"
  pass stamp "TAIL"
  fail stamp "BREAK_LOOK" set_back
  fail stamp "BREAK_AGAIN" set_back
  fail stamp "BREAK_AGAIN REST" set_back
  fail stamp "BREAK_HOLE TAIL" foreign

  pass kept ""
  fail kept "BREAK_KEPT" kept_waiting
  fail kept "BREAK_PID" kept_waiting
  fail kept "BREAK_ELSEWHERE" robbed
  fail kept "BREAK_QUARANTINE" robbed

  pass publish ""
  pass publish "OTHER"
  fail publish "BREAK_OPEN" missed
  fail publish "BREAK_VIEW" missed
  fail publish "BREAK_MISS" missed
  fail publish "BREAK_REBUMP" missed
  fail publish "BREAK_COPY" missed

  pass claim "LOADERS=2 SET DELETE FAILS"
  pass claim "DEATHS=2"
  pass claim "SET DEATHS=0"
  pass claim "DELETE DEATHS=0"
  fail claim "BREAK_DEADLINE" twice
  fail claim "BREAK_LOOK" needless
  fail claim "BREAK_FILL DELETE" old_value
  fail claim "BREAK_SET SET" old_value
  fail claim "BREAK_DELETE DELETE" old_value
  fail claim "BREAK_DEAD FAR" kept_waiting
  fail claim "BREAK_OVERDUE" kept_waiting
  fail claim "BREAK_END FAR FAILS" kept_waiting

  pass overflow ""
  pass overflow "OPS=4 READS=1"
  fail overflow "BREAK_MIDDLE" missed
  fail overflow "BREAK_MOVE" missed
  fail overflow "BREAK_LINK_LAST" missed

  pass tiers "DEATHS=0"
  pass tiers "READS=1"
  pass tiers "OPS=2"
  pass tiers "TIERS=3 OPS=2"
  pass tiers "KEEP_BOTH OPS=2"
  pass tiers "ONEPASS OPS=2"
  pass tiers "LAX OPS=2"
  fail tiers "BREAK_COUNT" missed
  fail tiers "BREAK_COUNT_LATE" missed
  fail tiers "BREAK_COUNT_UP NO_SETS" missed
  fail tiers "BREAK_ORDER" missed
  fail tiers "BREAK_MOVE" lost
  fail tiers "BREAK_PUBLISH_FIRST" lost
  fail tiers "BREAK_BELOW TIERS=3 READS=1" old_value
  fail tiers "BREAK_EXPIRED" expired_fell_through
  fail tiers "BREAK_EXPIRED_DROP" expired_fell_through
  fail tiers "BREAK_REBUILD" missed
  fail tiers "BREAK_VERSION" expired_fell_through
  fail tiers "BREAK_LOWEST" lost
  fail tiers "BREAK_DEDUP TIERS=3 OPS=2" expired_fell_through
  fail tiers "BREAK_DELETE_ORDER KEEP_BOTH" expired_fell_through
  fail tiers "BREAK_HIT ONEPASS" expired_fell_through

  pass comeback ""
  pass comeback "OPS=7"
  pass comeback "WHOLE"
  pass comeback "FRESH"
  fail comeback "BREAK_HIT" foreign
  fail comeback "BREAK_COUNT" foreign
  fail comeback "BREAK_AFTER" foreign

  pass drain ""
  pass drain "QUIET DRAINS=1 NEXT"
  pass drain "READER NEXT"
  pass drain "DELETE READER"
  pass drain "DEATHS=1 DRAINS=1"
  fail drain "BREAK_STATE" not_empty
  fail drain "BREAK_PASS" not_empty
  fail drain "BREAK_LOCK" lost
  fail drain "BREAK_DRAINS" not_empty
  fail drain "BREAK_VIEW_WRITER DELETE READER" deleted_came_back
  fail drain "BREAK_REPAIR DEATHS=1 STEWARDS=1" unrepaired
  fail drain "BREAK_MISS READER" missed
  fail drain "BREAK_GENERATION NEXT" wrong_slab
  fail drain "BREAK_RETIRE NEXT" wrong_slab
  fail drain "BREAK_NAME NEXT" wrong_slab

  pass between ""
  pass between "SET"
  pass between "SET TARGET"
  pass between "SET DEATHS=1"
  pass between "DELETE THERE"
  pass between "DELETE TARGET"
  pass between "CLEAR SET"
  fail between "BREAK_ORDER" missed
  fail between "BREAK_SOURCE SET" lost
  fail between "BREAK_TARGET SET TARGET" lost
  fail between "BREAK_BACK DELETE" came_back
  fail between "BREAK_PLACE DELETE THERE" left_without
  fail between "BREAK_CLEARED CLEAR" came_back

  pass close ""
  pass close "READER"
  pass close "VIEW_LAST"
  fail close "BREAK_TURN" fault
  fail close "BREAK_COMPARE" fault
  fail close "BREAK_SAME" fault
  fail close "BREAK_MISS READER" missed

  pass steward ""
  pass steward "HAND"
  fail steward "BREAK_LOOK" twin
  fail steward "BREAK_EXCLUSIVE HAND" twin
  fail steward "BREAK_UNDO" leaked
  fail steward "BREAK_OPEN" leaked
  fail steward "BREAK_DRAIN" leaked
  fail steward "BREAK_UNLINK" leaked
  fail steward "BREAK_LEASE" kept_waiting
}

die() { echo "run.sh: $2" >&2; exit "$1"; }

for tool in spin:spin cc:gcc; do
  command -v "${tool%:*}" >/dev/null ||
    die 3 "${tool%:*} is missing; Debian and Ubuntu have it: apt-get install spin gcc; Spin's home is https://spinroot.com"
done
models=" $(plan_names() { pass() { echo "$1"; }; fail() { :; }; plan; }; plan_names | sort -u | tr '\n' ' ')"
for m in "$@"; do
  [[ $models == *" ${m%.pml} "* ]] || die 2 "no model $m; there are:$models"
done

work=$(mktemp -d) || die 1 "no temporary directory"
trap '[ -n "${KEEP:-}" ] && echo "kept: $work" || rm -rf "$work"' EXIT

# one NUMBER EXPECTED MODEL CONFIGURATION REASON: prints the result line, leaves "ok" in its folder.
one() {
  local dir=$work/$1 expected=$2 model=$3 config=$4 reason=$5 result how=(-DSAFETY) level=-O1 flags=() states begin=$EPOCHREALTIME
  mkdir "$dir" && cd "$dir" || return
  [[ " $config " == *" FAIR "* ]] && { how=(); flags=(-a -f); }
  [ "$expected" = pass ] || level=-O0          # most of a short run is the compiler's
  # shellcheck disable=SC2086
  if ! spin -a ${config:+$(printf -- '-D%s ' $config)} "$here/$model.pml" >log 2>&1 || [ ! -f pan.c ]; then
    result="Spin failed: $(head -n 1 log)"
  elif ! cc $level -w "${how[@]}" -DCOLLAPSE -DMEMLIM=2000 -o pan pan.c >>log 2>&1; then
    result="the C compiler failed: $(grep -m 1 error log)"
  else
    ./pan -m1000000 -w22 "${flags[@]}" >log 2>&1
    if grep -qE 'too small|not enough memory|out of memory|MEMLIM' log; then result="search truncated"
    elif grep -q 'errors: 0$' log && ! grep -q 'Search not completed' log; then result=pass
    elif grep -q 'errors: [1-9]' log; then result="fail: $(sed -n 's/^pan:[0-9]*: \(.*\) (at depth.*/\1/p' log | head -n 1)"
    else result="no verdict: $(tail -n 1 log)"
    fi
  fi
  states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' log | head -n 1)
  local wanted=$expected verdict=FAILED
  [ "$expected" = fail ] && wanted="fail: *$reason*"
  # shellcheck disable=SC2053
  [[ $result == $wanted ]] && verdict=ok && touch ok
  local us=$(( ${EPOCHREALTIME/[.,]/} - ${begin/[.,]/} ))
  printf '%-8s %-36s %-5s %-42s %9s %3d.%ds  %s\n' "$model" "${config:--}" "$expected" "${result/assertion violated  /}" \
    "${states:--}" $((us / 1000000)) $((us / 100000 % 10)) "$verdict"
}

count=0
start() {
  local running
  while running=$(jobs -rp | wc -l); [ "$running" -ge "${JOBS:-2}" ]; do wait -n; done
  one "$@" &
}
queue() {
  [[ -z $selected || $selected == *" $2 "* ]] || return 0
  count=$((count + 1))
  start "$count" "$@"
}
pass() { queue pass "$1" "$2" ""; }
fail() { queue fail "$1" "$2" "$3"; }

selected=""
for m in "$@"; do selected+=" ${m%.pml} "; done
printf '%-8s %-36s %-5s %-42s %9s %6s\n' model configuration wants result states time
plan
wait
passed=$(find "$work" -name ok | wc -l)
echo "$passed passed, $((count - passed)) failed"
[ "$passed" -eq "$count" ]
