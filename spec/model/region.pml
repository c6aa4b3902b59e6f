/* region.pml - claiming and reaping regions, by processes that die, reapers included.

   Where in the code: package table, region.go (claim, settle, reap), the directory's repairEntries.

   Whoever holds a region's lease (a lock that the kernel frees on death) alone changes its lifecycle: FREE -> CLAIMED
   with the next generation; a region that is not FREE though its lease could be had belonged to the dead: its entries
   are taken back, its lists emptied, then it is FREE, or claimed at once. A directory entry that is being made names
   its creator's {region, generation} in its state word; the reaper takes it back by CAS from exactly that.

   Load-bearing rules, and the variant that drops each:
     BREAK_LEASE  the reaper holds the lease; one that only asks whether it is free cleans up after the living
     BREAK_ORDER  the region is FREE only after its entries are; otherwise a reaper's death leaves an entry that nobody
                  looks for any more
     BREAK_CLEAN  a claimer reaps a region that is not FREE before it makes it its own

   Configurations: CLAIMERS, REAPERS, DEATHS.

   Properties: a region has one living owner or reaper; an entry being made by the living is not taken, nor their lists
   emptied; when all is quiet one last reaper finds everything: no entry is left CREATING, no list non-empty.

   Abstractions: one or two regions, one entry; lists are one bit; generations do not wrap around. */

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

mtype = { FREE, CLAIMED, REAPING, CREATING, ACTIVE };

mtype state[REGIONS] = FREE;
byte generation[REGIONS];               /* state and generation are one word */
bool lists[REGIONS];                    /* something in the owner's lists */
byte lease[REGIONS];                    /* pid, or 0 */

mtype entry = FREE;                     /* state, region and generation are one word */
byte entry_region, entry_generation;

bool dead[12];
byte deaths;

byte works[REGIONS];                    /* what the first property speaks of: the pid of the owner or reaper, or 0 */

inline try_lease(r, ok) {
  atomic { if :: lease[r] == 0 -> lease[r] = _pid; ok = 1 :: else -> ok = 0 fi }
}
inline drop_lease(r) { atomic { if :: lease[r] == _pid -> lease[r] = 0 :: else fi } }

inline begin_work(r) {
  atomic {
    two_at_work = works[r] != 0 && !dead[works[r]];
    assert(!two_at_work);
    works[r] = _pid
  }
}
inline end_work(r) { works[r] = 0 }

/* One region's reaping, g the generation that was found. */
inline reap(r, g) {
  atomic { g = generation[r]; state[r] = REAPING };
#ifdef BREAK_ORDER
  state[r] = FREE;
#endif
  if                                    /* load, then CAS */
  :: atomic { entry == CREATING && entry_region == r && entry_generation <= g -> skip };
     atomic {
       if
       :: entry == CREATING && entry_region == r && entry_generation <= g -> entry = FREE
       :: else
       fi
     }
  :: atomic { !(entry == CREATING && entry_region == r && entry_generation <= g) -> skip }
  fi;
  lists[r] = 0;
#ifndef BREAK_ORDER
  state[r] = FREE
#endif
}

proctype Claimer() {
  byte r, g;
  bool ok, two_at_work, robbed;
  {
    select(r : 0 .. REGIONS - 1);
    try_lease(r, ok);
    if :: !ok -> goto done :: else fi;
    begin_work(r);
#ifndef BREAK_CLEAN
    if :: state[r] != FREE -> reap(r, g) :: else fi;
#endif
    atomic { generation[r]++; g = generation[r]; state[r] = CLAIMED };

    lists[r] = 1;
    if
    :: atomic { entry == FREE -> entry = CREATING; entry_region = r; entry_generation = g };
       skip;                            /* makes the slab */
       atomic {
         robbed = !(entry == CREATING && entry_region == r && entry_generation == g);
         assert(!robbed);
         entry = ACTIVE
       };
       entry = FREE                     /* retires it at once */
    :: atomic { entry != FREE -> skip }
    fi;
    atomic {
      robbed = !lists[r] || state[r] != CLAIMED || generation[r] != g;
      assert(!robbed)
    };
    lists[r] = 0;
    state[r] = FREE;
    end_work(r);
    drop_lease(r);
done:
    skip
  } unless { dead[_pid] }
}

proctype Reaper() {
  byte r, g;
  bool ok;
#ifndef BREAK_LEASE
  bool two_at_work;
#endif
  {
    select(r : 0 .. REGIONS - 1);
#ifdef BREAK_LEASE
    ok = (lease[r] == 0 && state[r] != FREE);
#else
    try_lease(r, ok);
#endif
    if :: !ok -> goto done :: else fi;
#ifndef BREAK_LEASE
    begin_work(r);
#endif
    if :: state[r] != FREE -> reap(r, g) :: else fi;
#ifndef BREAK_LEASE
    end_work(r);
#endif
    drop_lease(r);
done:
    skip
  } unless { dead[_pid] }
}

active proctype Killer() {              /* a death frees the lease in the same step, as the kernel does */
  byte p, r;
end:
  do
  :: atomic {
       deaths < DEATHS ->
       p = 2; do :: p < CLAIMERS + REAPERS + 1 -> p++ :: break od;
       if :: !dead[p] -> dead[p] = 1; deaths++ :: else fi;
       for (r : 0 .. REGIONS - 1) { if :: lease[r] == p -> lease[r] = 0 :: else fi };
       p = 0; r = 0
     }
  :: atomic { deaths < DEATHS -> deaths = DEATHS }       /* enough */
  od
}

active proctype Last() {                /* when nothing else moves */
  byte r, g;
  bool leaked;
end:
  atomic {
    timeout ->
    for (r : 0 .. REGIONS - 1) {
      if :: lease[r] == 0 && state[r] != FREE -> reap(r, g) :: else fi
    };
    r = 0; leaked = 0;
    do
    :: r < REGIONS -> leaked = leaked || lists[r]; r++
    :: else -> break
    od;
    leaked = leaked || entry == CREATING;
    assert(!leaked)
  }
}

init {
  byte i;
  atomic {
    for (i : 1 .. CLAIMERS) { run Claimer() };
    for (i : 1 .. REAPERS) { run Reaper() };
    i = 0
  }
}
