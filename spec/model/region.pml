/* region.pml - claiming and reaping regions, by processes that die at any step, reapers and claimers included.

   Where in the code: package table, region.go (claim, settle, reap, reapAll), the directory's repairEntries, fold.

   Whoever holds a region's lease (a lock that the kernel frees on death) alone changes its lifecycle: FREE -> REAPING with
   the next generation -> CLAIMED -> FREE; a region that is not FREE though its lease could be had belonged to the dead: its
   entries are taken back, its lists emptied, its counters folded, then it is FREE, or claimed at once. A directory entry
   that is being made names its creator's region in its state word; the reaper takes it back by CAS from exactly that.

   Load-bearing rules, and the variant that drops each:
     BREAK_LEASE   the reaper holds the lease; one that only asks whether it is free cleans up after the living
     BREAK_SELF    nobody reaps by its own lease, which the kernel gives it again; otherwise one robs oneself
     BREAK_THREAD  (with THREADS) of one handle one thread reaps at a time, as the kernel gives the lease to each; otherwise
                   one of them releases it under the other, who goes on in the region of the next claimer
     BREAK_ORDER   the region is FREE only after its entries are; otherwise a reaper's death leaves an entry that nobody
                   looks for any more
     BREAK_CLEAN   a claimer reaps a region that is not FREE before it makes it its own
     BREAK_FOLD    a counter is taken out of the region before it is added to the totals; otherwise who dies in between
                   has it counted twice

   Configurations: CLAIMERS, REAPERS, THREADS (two reapers are of one handle), REGIONS, DEATHS.

   Properties: a region has one living owner or reaper; an entry being made by the living is not taken, nor their lists
   emptied; nothing is counted twice; when all is quiet one last reaper finds everything: no entry is left CREATING, no
   list non-empty.

   Abstractions: one or two regions, one entry; lists are one bit, a counter counts to 1; generations do not wrap around. */

#ifndef CLAIMERS
#define CLAIMERS 2
#endif
#ifndef REAPERS
#define REAPERS 1
#endif
#ifndef REGIONS
#define REGIONS 1
#endif
#ifndef DEATHS
#define DEATHS 2
#endif

mtype = { FREE, CLAIMED, REAPING, CREATING };

mtype state[REGIONS] = FREE;
byte generation[REGIONS];               /* state and generation are one word */
bool lists[REGIONS];                    /* something in the owner's lists */
bool counter[REGIONS];
byte total;
byte lease[REGIONS];                    /* a handle, or 0 */

mtype entry = FREE;                     /* state and region are one word */
byte entry_region;

bool dead[12];                          /* by pid */
byte first;                             /* pid of the first claimer */
byte deaths;

#ifdef THREADS
#define HANDLE (_pid < first + CLAIMERS -> _pid : first + CLAIMERS)
bool reaping;                           /* the handle's own lock */
#else
#define HANDLE _pid
#endif

/* What the properties speak of. */
byte works[REGIONS];                    /* the pid of the owner or reaper, or 0 */
byte counted;

inline try_lease(r, ok) {
  atomic { if :: lease[r] == 0 || lease[r] == HANDLE -> lease[r] = HANDLE; ok = 1 :: else -> ok = 0 fi }
}
inline drop_lease(r) { atomic { if :: lease[r] == HANDLE -> lease[r] = 0 :: else fi } }

inline begin_work(r) {
  atomic {
    two_at_work = works[r] != 0 && works[r] != _pid && !dead[works[r]];
    assert(!two_at_work);
    works[r] = _pid
  }
}
inline end_work(r) { atomic { if :: works[r] == _pid -> works[r] = 0 :: else fi } }

#define HALF_MADE(r) (entry == CREATING && entry_region == r)

inline fold(r, c) {
#ifdef BREAK_FOLD
  atomic { c = counter[r]; total = total + c };
  atomic { counter[r] = 0; c = 0 }
#else
  atomic { c = counter[r]; counter[r] = 0 };
  atomic { total = total + c; c = 0 }
#endif
}

/* One region's reaping. */
inline reap(r, c) {
  state[r] = REAPING;
#ifdef BREAK_ORDER
  state[r] = FREE;
#endif
  if                                    /* load, then CAS */
  :: atomic { HALF_MADE(r) -> skip }; atomic { if :: HALF_MADE(r) -> entry = FREE :: else fi }
  :: atomic { !HALF_MADE(r) -> skip }
  fi;
  lists[r] = 0;
  fold(r, c);
#ifndef BREAK_ORDER
  state[r] = FREE
#endif
}

proctype Claimer() {
  byte r, g, c;
  bool ok, two_at_work, robbed;
  {
    select(r : 0 .. REGIONS - 1);
    try_lease(r, ok);
    if :: !ok -> goto done :: else fi;
    begin_work(r);
#ifndef BREAK_CLEAN
    if :: state[r] != FREE -> reap(r, c) :: else fi;
#endif
    atomic { generation[r]++; g = generation[r]; state[r] = REAPING };
    lists[r] = 0;
    state[r] = CLAIMED;

    lists[r] = 1;
    atomic { counter[r] = 1; counted++ };
    if
    :: atomic { entry == FREE -> entry = CREATING; entry_region = r };
       skip;                            /* makes the slab */
       atomic {
         robbed = !HALF_MADE(r);
         assert(!robbed);
         entry = FREE                   /* ACTIVE, and retired at once */
       }
    :: atomic { entry != FREE -> skip }
    fi;
#ifdef BREAK_SELF
    try_lease(r, ok);                   /* cleans up after all others, as it thinks */
    if :: ok && state[r] != FREE -> reap(r, c) :: else fi;
#endif
    atomic {
      robbed = !lists[r] || state[r] != CLAIMED || generation[r] != g || lease[r] != HANDLE;
      assert(!robbed)
    };
    lists[r] = 0;
    fold(r, c);
    end_work(r);
    state[r] = FREE;
    drop_lease(r);
done:
    skip
  } unless { dead[_pid] }
}

proctype Reaper() {
  byte r, c;
  bool ok, two_at_work;
  {
    select(r : 0 .. REGIONS - 1);
#if defined(THREADS) && !defined(BREAK_THREAD)
    atomic { !reaping || dead[_pid] -> reaping = 1 };
#endif
#ifdef BREAK_LEASE
    ok = (lease[r] == 0);
#else
    try_lease(r, ok);
#endif
    if :: !ok -> goto done :: else fi;
    if
    :: state[r] != FREE ->
#if !defined(BREAK_LEASE) && !defined(BREAK_THREAD)
       begin_work(r);
#endif
       reap(r, c);
       end_work(r)
    :: else
    fi;
    drop_lease(r);
done:
#if defined(THREADS) && !defined(BREAK_THREAD)
    reaping = 0
#else
    skip
#endif
  } unless { dead[_pid] }
}

active proctype Killer() {              /* a death frees the lease in the same step, as the kernel does */
  byte p, r;
end:
  do
  :: atomic {
       first != 0 && deaths < DEATHS ->
       p = first; do :: p < first + CLAIMERS + REAPERS - 1 -> p++ :: break od;
       if :: !dead[p] -> dead[p] = 1; deaths++ :: else fi;
#ifdef THREADS
       if :: p >= first + CLAIMERS -> dead[first + CLAIMERS] = 1; dead[first + CLAIMERS + 1] = 1; p = first + CLAIMERS :: else fi;
#endif
       for (r : 0 .. REGIONS - 1) { if :: lease[r] == p -> lease[r] = 0 :: else fi };
       p = 0; r = 0
     }
  :: atomic { deaths < DEATHS -> deaths = DEATHS }       /* enough */
  od
}

active proctype Last() {                /* when nothing else moves */
  byte r, c;
  bool leaked, twice;
end:
  atomic {
    timeout ->
    for (r : 0 .. REGIONS - 1) {
      if :: lease[r] == 0 && state[r] != FREE -> reap(r, c) :: else fi
    };
    r = 0; leaked = 0;
    do
    :: r < REGIONS -> leaked = leaked || lists[r]; r++
    :: else -> break
    od;
    leaked = leaked || entry == CREATING;
    assert(!leaked);
    twice = total > counted;
    assert(!twice)
  }
}

init {
  byte i;
  atomic {
    first = _pid + 1;
    for (i : 1 .. CLAIMERS) { run Claimer() };
    for (i : 1 .. REAPERS) { run Reaper() };
    i = 0
  }
}
