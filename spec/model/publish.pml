/* publish.pml - a new slab is announced, and a key moves into it, while readers still have older views.

   Where in the code: package table (the directory's publish, repairEntries, announce), package flagstone (views, moves).

   Creator: entry CREATING -> ACTIVE, then changes++, then OPEN. A reaper that finds ACTIVE without OPEN and the creator
   dead bumps again, then opens. A process's view of the directory carries the value of `changes` loaded before the scan.
   Movers move entries into OPEN slabs only. A reader believes a miss only if `changes` still is its view's.

   Load-bearing rules, and the variant that drops each:
     BREAK_OPEN    movers wait for OPEN; with ACTIVE alone a key moves where a reader with the older view does not look
     BREAK_VIEW    a view's `changes` is loaded before the scan
     BREAK_MISS    a miss compares `changes` with the view's value; with the value at its own start it believes too much
     BREAK_REBUMP  the reaper bumps before it opens: it cannot know whether the dead one did
     BREAK_COPY    a mover copies before it frees

   Configurations: READS, OTHER (an unrelated announcement meanwhile).

   Property: a key that is in one of the two slabs throughout is not missed.

   Abstractions: one key, the upper slab known to all; the lock's stealing is in lock.pml; moves up and removals below:
   the column's epoch, not modelled here. */

#ifndef READS
#define READS 2
#endif

mtype = { FREE, CREATING, ACTIVE };

mtype entry = FREE;
bool open;
byte changes;
bool upper = 1, lower;                  /* where the key is */
bool locked;
byte view_changes;                      /* the view of the reader's process; its goroutines share it */
bool view_lower;
bool dead;                              /* the creator */

inline refresh(c, s) {                  /* two goroutines may be in here, and the slower one stores last */
#ifdef BREAK_VIEW
  s = entry == ACTIVE;
  c = changes;
#else
  c = changes;
  s = entry == ACTIVE;
#endif
  atomic { view_changes = c; view_lower = s; c = 0; s = 0 }
}

active proctype Creator() {
  {
    entry = CREATING;
    entry = ACTIVE;
    changes++;
    open = 1
  } unless { dead }
}

active proctype Reaper() {
end:
  dead ->
  if
  :: entry == CREATING -> entry = FREE
  :: entry == ACTIVE && !open ->
#ifndef BREAK_REBUMP
     changes++;
#endif
     open = 1
  :: else
  fi
}

active proctype Killer() {
  if
  :: dead = 1
  :: skip
  fi
}

#ifdef OTHER
active proctype Other() { changes++ }
#endif

active proctype Mover() {
end:
#ifdef BREAK_OPEN
  entry == ACTIVE;
#else
  open;
#endif
  atomic { !locked -> locked = 1 };
#ifdef BREAK_COPY
  upper = 0;
  lower = 1;
#else
  lower = 1;
  upper = 0;
#endif
  locked = 0
}

active proctype Refresher() {           /* another goroutine of the reader's process, or its poller */
  byte c;
  bool s;
  refresh(c, s)
}

active proctype Reader() {
  byte c, times = READS;
  bool s, missed;
again:
  atomic { c = view_changes; s = view_lower };
#ifdef BREAK_MISS
  c = changes;
#endif
  if :: upper -> goto hit :: else fi;
  if
  :: s -> if :: lower -> goto hit :: else fi
  :: else
  fi;
  if
  :: changes != c -> refresh(c, s); goto again
  :: else
  fi;
  missed = 1;
  assert(!missed);
hit:
  atomic { times--; if :: times > 0 -> goto again :: else fi }
}
