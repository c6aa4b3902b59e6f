/* drain.pml - a slab's life: OPEN, DRAINING, OPEN again, RETIRED, its entry used for the next; two stewards at once,
   movers, readers and writers with older views.

   Where in the code: package table (Drain, Reopen, Retire: the entry's state word), package flagstone (duties.go: the
   pass; view.go: views; the moves).

   The state word is {generation, drains, state} and changes by CAS. DRAINING adds one to drains. A pass over all columns,
   each under its lock, moves every record elsewhere; with no room it reopens. RETIRED follows by CAS from the very word
   before the pass, then `changes`++, unlink, punch. Then the entry is free for the next generation. A mover reads the
   word under the column's lock. Anybody may go on with another's drain. Who holds a lock compares `changes` with its
   view's first, and leaves the lock as it found it if they differ.

   Load-bearing rules, and the variant that drops each:
     BREAK_STATE        a mover reads the state word under the lock
     BREAK_PASS         only a pass begun after DRAINING counts
     BREAK_LOCK         the pass looks at each column under its lock
     BREAK_DRAINS       the retirer's CAS compares the drain count: drained, reopened and drained again is not drained
     BREAK_VIEW_WRITER  (with DELETE READER) a writer compares `changes` under the lock
     BREAK_REPAIR       (with DEATHS=1) it does so before it repairs: the lock stays inconsistent for who knows all tiers
     BREAK_MISS         (with READER) a miss compares `changes`
     BREAK_GENERATION   (with NEXT) a mover compares the generation too, even right after `changes`: that moves later
     BREAK_RETIRE       (with NEXT) so does the retirer's CAS
     BREAK_NAME         (with NEXT) unlink and punch go by the segment, not by what the entry says now

   Not broken: QUIET (`changes` moves with OPEN and with nothing else) passes: the other bumps make peers act soon, no
   answer depends on them here (close.pml needs the one after RETIRED).

   Configurations: STEWARDS, READER (and one steward), NEXT (the entry is used again), DELETE (a Delete of the reader's key), DEATHS, MOVES,
   DRAINS (what each steward does).

   Properties: unrepaired - somebody uses what the dead left half done; not_empty - a slab with a record is retired; wrong_slab - what belongs to one generation happens to the
   next; missed and deleted_came_back, by a reader of one key; lost - in the end every record is in a slab that is not
   retired.

   Abstractions: tier 0 and the slab; two columns with one record each, a move one step after another (tiers.pml), the
   column's epoch one flag; memory that is punched reads as zeros, and what is stored there is gone; the drain count does
   not wrap (65536 drains while a steward stands between pass and CAS); publication: publish.pml. */

#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef MOVES
#define MOVES 1
#endif
#ifndef DRAINS
#define DRAINS 2
#endif
#ifdef READER
#define STEWARDS 1
#endif
#ifndef STEWARDS
#define STEWARDS 2
#endif
#define DEAD 255                        /* a lock whose owner has died, or that is marked inconsistent */

mtype = { FREE, ACTIVE, OPEN, DRAINING, RETIRED };

mtype state = OPEN;                     /* these three are one word */
byte generation = 1, drains;
byte behind, viewers = 255;             /* sets of pids: whose view's `changes` is an old one; who has a view */
bool upper[2], lower[6];                /* by column; by generation and column */
bool punched[3];
byte lock_owner[2];
bool damaged[2];                        /* what column i's lock guards in the slab was left half done */
bool counted;                           /* column 0's epoch has changed since the reader looked */
byte deaths;

/* What the properties speak of. */
bool deleted;

#define AT(g, i) (2 * (g) + (i))
#define ME       (1 << _pid)
#define BEHIND   ((behind & ME) != 0)
#define ANNOUNCE behind = viewers       /* changes++ */
#ifdef QUIET
#define BUMP     skip
#else
#define BUMP     ANNOUNCE
#endif
#ifdef BREAK_VIEW_WRITER
#define CURRENT true
#else
#define CURRENT !BEHIND
#endif

#ifdef BREAK_RETIRE
#define SAME_GENERATION true
#else
#define SAME_GENERATION generation == wg
#endif
#ifdef BREAK_DRAINS
#define SAME_DRAIN true
#else
#define SAME_DRAIN drains == wd
#endif

inline refresh() {
  atomic { behind = behind & ~ME; vg = ((state == FREE || state == RETIRED) -> 0 : generation) }
}

inline repair(i) {                      /* in the tiers that the view knows */
  atomic {
    broken = 0;
    if :: vg != 0 || !BEHIND -> damaged[i] = 0 :: else fi;
    if :: upper[i] && vg != 0 -> lower[AT(vg, i)] = 0; counted = 1 :: else fi
  }
}

inline lock(i) {
  do
  :: atomic { lock_owner[i] == 0 || lock_owner[i] == DEAD -> broken = lock_owner[i] == DEAD; lock_owner[i] = _pid };
#ifdef BREAK_REPAIR
     if :: broken -> repair(i) :: else fi;
#endif
     if
     :: CURRENT -> break
     :: else -> atomic { lock_owner[i] = (broken -> DEAD : 0); broken = 0 }; refresh()
     fi
  od;
  if :: broken -> repair(i) :: else fi;
  atomic { unrepaired = vg != 0 && damaged[i]; assert(!unrepaired) }
}
inline unlock(i) { lock_owner[i] = 0 }

#define DIE if :: deaths < DEATHS -> deaths++; goto died :: true fi

proctype Mover() {
  byte vg, i, moves;
  bool broken, unrepaired, ok, wrong_slab;
  if :: vg = 1 :: behind = behind | ME fi;  /* its view is from before the slab was published, or not */
  do
  :: moves < MOVES ->
     atomic { moves++; if :: i = 0 :: i = 1 fi };
#ifdef BREAK_STATE
     ok = state == OPEN && generation == vg;
#endif
     lock(i);
#ifdef BREAK_GENERATION
     ok = state == OPEN && vg != 0;
#elif !defined(BREAK_STATE)
     ok = state == OPEN && generation == vg;
#endif
     if
     :: ok && upper[i] ->               /* down */
        atomic {
          wrong_slab = generation != vg;
          assert(!wrong_slab);
          lower[AT(vg, i)] = !punched[vg]
        };
        atomic { DIE };
        upper[i] = 0
     :: vg != 0 && lower[AT(vg, i)] ->  /* up */
        upper[i] = 1;
        atomic { DIE };
        atomic { counted = 1; lower[AT(vg, i)] = 0 }
     :: else
     fi;
     unlock(i); ok = 0
  :: else -> break
  od;
  goto end;
died:
  atomic { lock_owner[i] = DEAD; damaged[i] = 1 };
end:
  atomic { vg = 0; viewers = viewers & ~ME; behind = behind & ~ME; i = 0 }
}

inline drain() {                        /* w is the word before */
  atomic {
    if
    :: state == OPEN && generation == wg && drains == wd -> state = DRAINING; drains++; wd = drains
    :: else -> goto again
    fi;
    DIE
  };
  BUMP;
  atomic { DIE }
}

proctype Steward() {
  byte vg, wg, wd, i, times;
  mtype ws;
  bool broken, unrepaired, not_empty, wrong_slab, held;
again:
  atomic { wg = 0; wd = 0; i = 0; ws = FREE; if :: times == DRAINS -> goto end :: else -> times++ fi };
  atomic { refresh(); ws = state; wg = generation; wd = drains };
  if
  :: ws == OPEN ->
#ifndef BREAK_PASS
     drain()
#endif
  :: ws == DRAINING                     /* another's */
  :: ws == RETIRED -> goto clean
  :: else -> goto again
  fi;
  do
  :: i < 2 ->
#ifndef BREAK_LOCK
     lock(i);
     if
     :: vg != wg -> unlock(i); goto again
     :: else
     fi;
#else
     if :: vg != wg -> goto again :: else fi;
#endif
     if
     :: lower[AT(wg, i)] ->
        upper[i] = 1;
        held = 1; atomic { DIE }; held = 0;
        atomic { if :: i == 0 -> counted = 1 :: else fi; lower[AT(wg, i)] = 0 }
     :: lower[AT(wg, i)] ->             /* no room */
#ifndef BREAK_LOCK
        unlock(i);
#endif
        atomic {
          if
          :: state == DRAINING && generation == wg && drains == wd -> state = OPEN
          :: else -> goto again
          fi;
          DIE
        };
        BUMP;
        goto again
     :: else
     fi;
#ifndef BREAK_LOCK
     unlock(i);
#endif
     i++
  :: else -> break
  od;
#ifdef BREAK_PASS
  if :: ws == OPEN -> drain() :: else fi;
#endif
  atomic {
    if
    :: state == DRAINING && SAME_GENERATION && SAME_DRAIN ->
       wrong_slab = generation != wg;
       not_empty = lower[AT(generation, 0)] || lower[AT(generation, 1)];
       assert(!wrong_slab); assert(!not_empty);
       state = RETIRED
    :: else -> goto again
    fi;
    DIE
  };
clean:
  BUMP;
  atomic { DIE };
  atomic {                              /* unlink and punch; another may have done so already */
#ifdef BREAK_NAME
    wg = generation;
    wrong_slab = state != RETIRED;
    assert(!wrong_slab);
#endif
    lower[AT(wg, 0)] = 0; lower[AT(wg, 1)] = 0; punched[wg] = 1
  };
  goto again;
died:
  if :: held -> held = 0; atomic { lock_owner[i] = DEAD; damaged[i] = 1 } :: else fi;
end:
  atomic { vg = 0; viewers = viewers & ~ME; behind = behind & ~ME; wg = 0; wd = 0; i = 0; ws = FREE; times = 0 }
}

#ifdef NEXT
active proctype Creator() {             /* of the entry's next slab */
end:
  atomic { state == RETIRED && punched[generation] -> state = FREE; generation = 2; drains = 0 };
  state = ACTIVE;
  ANNOUNCE;
  state = OPEN
}
#endif

proctype Reader() {                     /* of the key in column 0 */
  byte vg;
  bool was_deleted, missed, deleted_came_back;
  if :: vg = 1 :: behind = behind | ME fi;
  was_deleted = deleted;
again:
  counted = 0;
  if :: upper[0] -> goto hit :: else fi;
  if :: vg != 0 && lower[AT(vg, 0)] -> goto hit :: else fi;
  if :: counted -> goto again :: else fi;
#ifndef BREAK_MISS
  if :: BEHIND -> refresh(); goto again :: else fi;
#endif
#ifndef DELETE
  missed = 1;
#endif
  assert(!missed);
  goto done;
hit:
  deleted_came_back = was_deleted;
  assert(!deleted_came_back);
done:
  atomic { vg = 0; viewers = viewers & ~ME; behind = behind & ~ME }
}

#ifdef DELETE
proctype Deleter() {
  byte vg;
  bool broken, unrepaired;
  if :: vg = 1 :: behind = behind | ME fi;
  lock(0);
  if :: vg != 0 && lower[AT(vg, 0)] -> atomic { counted = 1; lower[AT(vg, 0)] = 0 } :: else fi;
  upper[0] = 0;
  deleted = 1;
  unlock(0);
  atomic { vg = 0; viewers = viewers & ~ME; behind = behind & ~ME }
}
#endif

active proctype Quiet() {
  byte i;
  bool lost;
  atomic {
    timeout ->
#ifdef DELETE
    i = 1;
#endif
    do
    :: i < 2 -> lost = lost || (!upper[i] && (state == FREE || state == RETIRED || !lower[AT(generation, i)])); i++
    :: else -> break
    od;
    assert(!lost)
  }
}

init {
  atomic {
    if :: upper[0] = 1 :: lower[AT(1, 0)] = 1 fi;
    if :: upper[1] = 1 :: lower[AT(1, 1)] = 1 fi;
    run Steward();
#if STEWARDS > 1
    run Steward();
#endif
    run Mover();
#ifdef READER
    run Reader();
#endif
#ifdef DELETE
    run Deleter()
#endif
  }
}
