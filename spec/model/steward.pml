/* steward.pml - stewards take over from the dead, finish or undo what those began, and act on what they decided before.

   Where in the code: package flagstone, steward.go (the lease, the ticks), tiers.go (grow, inside Exclusive); package table
   (Reserve, Publish, Abort, repairEntries: what the dead left in the directory).

   StewardByte's lease makes one of many do the work, and passes to the next when it dies. `grow` and `drain` by hand do the same steps
   without it, so every step is safe with two. Growing is inside Exclusive (InitByte, a lease too), where one looks again:
   tier = highest published + 1, if that still is wanted. Entry CREATING, file, ACTIVE, OPEN. The next steward repairs first, inside
   Exclusive: CREATING of the dead goes, file and entry; ACTIVE of the dead opens; DRAINING is finished or reopened; what is
   RETIRED loses its file, then is free.

   Load-bearing rules, and the variant that drops each:
     BREAK_LOOK       who grows looks again inside Exclusive
     BREAK_EXCLUSIVE  one at a time is in there
     BREAK_UNDO       CREATING of the dead is undone
     BREAK_OPEN       ACTIVE of the dead is opened
     BREAK_DRAIN      DRAINING is taken up by the next
     BREAK_UNLINK     so is RETIRED, with its file
     BREAK_LEASE      the dead do not keep the lease (nor InitByte)

   Configurations: DEATHS, STEWARDS (any of them may have decided to grow long before it has the lease), HAND (the first of them
   does without the lease).

   Properties: twin - two published slabs of one tier; over_budget; and when all is quiet and a steward lives: leaked -
   an entry that is neither free nor open, or a free one's file; kept_waiting - it waits for the dead.

   Abstractions: three entries, tier 0 is the first of them; a pass of a drain is one step (drain.pml) and may find no room;
   the lease and InitByte are the kernel's: given back by death; creators are known by the entry (region and
   generation: region.pml). */

#ifndef STEWARDS
#define STEWARDS 2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#define SLOTS 3
#define BUDGET 2                        /* slabs, tier 0 among them */

mtype = { FREE, CREATING, ACTIVE, OPEN, DRAINING, RETIRED };

mtype state[SLOTS];
byte tier[SLOTS], creator[SLOTS];
bool file[SLOTS];
byte lease, exclusive;                  /* who holds it, 0 is nobody */
bool dead[STEWARDS+2];
byte deaths;
bool finished;                          /* the last one has what it wanted */

#define PUBLISHED(e) (state[e] == ACTIVE || state[e] == OPEN || state[e] == DRAINING)

inline survey() {                       /* n = slabs published, top = the highest tier + 1 */
  d_step {
    e = 0; n = 0; top = 0;
    do
    :: e < SLOTS -> if :: PUBLISHED(e) -> n++; if :: tier[e] >= top -> top = tier[e] + 1 :: else fi :: else fi; e++
    :: else -> break
    od;
    e = 0
  }
}

inline enter() {
#ifdef BREAK_EXCLUSIVE
  skip
#else
  atomic { exclusive == 0 || dead[exclusive] -> exclusive = me }
#endif
}
inline leave() { atomic { if :: exclusive == me -> exclusive = 0 :: else fi } }

inline publish(e) {
  atomic {
    state[e] = ACTIVE;
    m = 0; n = 0;
    do
    :: m < SLOTS ->
       if :: PUBLISHED(m) -> n++; twin = twin || (m != e && tier[m] == tier[e]) :: else fi;
       m++
    :: else -> break
    od;
    over_budget = n > BUDGET;
    assert(!twin); assert(!over_budget);
    m = 0; n = 0; top = 0
  }
}

proctype Steward(byte me; bool by_hand) {
  byte e, n, m, top;
  bool twin, over_budget;
  {
    survey();                  /* what it decides by */
    if
    :: by_hand
    :: !by_hand ->
#ifdef BREAK_LEASE
       atomic { lease == 0 -> lease = me };
#else
       atomic { lease == 0 || dead[lease] -> lease = me };
#endif
    fi;
    /* grow */
    enter();
#ifndef BREAK_LOOK
    survey();
#endif
    if
    :: n < BUDGET ->
       d_step { n = 0; e = 0; do :: e < SLOTS && state[e] != FREE -> e++ :: else -> break od };
       if
       :: e < SLOTS ->
          d_step { state[e] = CREATING; creator[e] = me; tier[e] = top };
          file[e] = 1;
          publish(e);
          state[e] = OPEN
       :: else
       fi
    :: true
    fi;
    leave();
    /* shrink: the last one */
    d_step { e = SLOTS - 1; n = 0; top = 0; do :: e > 0 && !(state[e] == OPEN && tier[e] > 0) -> e-- :: else -> break od };
    if
    :: e > 0 -> atomic { if :: state[e] == OPEN -> state[e] = DRAINING :: else fi }
    :: true
    fi;
    /* what the dead left; and one's own drain */
    e = 0;
    do
    :: e < SLOTS ->
#ifndef BREAK_DRAIN
       if
       :: state[e] == DRAINING ->
          if
          :: true; atomic { if :: state[e] == DRAINING -> state[e] = RETIRED :: else fi }
          :: true; atomic { if :: state[e] == DRAINING -> state[e] = OPEN :: else fi }       /* no room */
          fi
       :: else
       fi;
#endif
#ifndef BREAK_UNLINK
       enter();
       if
       :: state[e] == RETIRED -> file[e] = 0; d_step { tier[e] = 0; creator[e] = 0; state[e] = FREE }
       :: else
       fi;
       leave();
#endif
       enter();
       if
#ifndef BREAK_UNDO
       :: state[e] == CREATING && dead[creator[e]] -> file[e] = 0; d_step { tier[e] = 0; creator[e] = 0; state[e] = FREE }
#endif
#ifndef BREAK_OPEN
       :: state[e] == ACTIVE && dead[creator[e]] -> state[e] = OPEN
#endif
       :: else
       fi;
       leave();
       e++
    :: else -> break
    od;
    atomic { if :: lease == me -> lease = 0 :: else fi; finished = me > STEWARDS; e = 0 }
  } unless { dead[me] };
  atomic { e = 0; n = 0; m = 0; top = 0 }
}

active proctype Killer() {
  byte p;
end:
  do
  :: atomic { deaths < DEATHS -> select(p : 1 .. STEWARDS); dead[p] = 1; deaths++; p = 0 }
  :: atomic { deaths < DEATHS -> deaths = DEATHS }       /* enough */
  od
}

active proctype Last() {                /* a steward that lives, after all the others */
  byte e;
  bool leaked, kept_waiting;
  timeout -> run Steward(STEWARDS + 1, 0);
  timeout ->
  atomic {
    do
    :: e < SLOTS -> leaked = leaked || (state[e] != FREE && state[e] != OPEN) || (state[e] == FREE && file[e]); e++
    :: else -> break
    od;
    kept_waiting = !finished;
    assert(!kept_waiting); assert(!leaked); e = 0
  }
}

init {
  byte i;
  atomic {
    for (i : 0 .. SLOTS - 1) { state[i] = FREE };
    state[0] = OPEN; file[0] = 1;
#ifdef HAND
    run Steward(1, 1);
#else
    run Steward(1, 0);
#endif
    for (i : 2 .. STEWARDS) { run Steward(i, 0) };
    i = 0
  }
}
