/* close.pml - a process closes its handle on a retired slab while its goroutines read, and hold columns' locks.

   Where in the code: package flagstone, view.go (refresh, close), package slab (the turn in front of a column's lock,
   Close: read-only zeros take the mapping's place).

   Views are replaced under a mutex, and only when `changes` is not the view's. The closer stores the view without the slab,
   takes and gives back this process's turn in front of every column's lock, and closes. Who has a column's lock compares
   `changes` with its view's before it touches a slab. Readers take no lock: they may read zeros, and look again.

   Load-bearing rules, and the variant that drops each:
     BREAK_TURN       the closer passes through every turn after it has stored the view
     BREAK_COMPARE    a lock's holder compares `changes`
     BREAK_SAME       a view is replaced only when `changes` has moved. A slab is RETIRED before `changes` says so: of two
                      views with one value of it the older may hold the slab, and its holders' comparison tells them nothing
     BREAK_MISS       (with READER) a miss compares `changes`

   Not broken: VIEW_LAST (the view stored after closing) passes: who has the older one compares, and begins anew; it
   would do so in vain until the view is there.

   Configurations: READER (a reader in place of the holder), POLLS.

   Properties: fault - a store into the read-only zeros; missed - a key that moves from the slab into a newer one that the
   old view does not know.

   Abstractions: two columns, the slab empty when it is retired (drain.pml), and the key's column the first; a holder
   stores into every slab of its view, as a rebuild does; the retirer is another process, and may take its time. */

#ifndef POLLS
#define POLLS 2
#endif

byte changes;
bool retired;                           /* the slab's state word */
bool open;                              /* the newer slab's */
byte key_in = 1;                        /* 1 the slab, 2 the newer one */
bool turn[2], column[2];

/* The process. */
byte view_changes;
bool view_old = 1, view_new;            /* which of the two it knows */
bool view_lock, closed;

active proctype Others() {              /* another process publishes, moves, drains and retires */
  byte i;
  changes++;
  open = 1;
  atomic { !column[0] -> column[0] = 1 };
  key_in = 2;
  column[0] = 0;
  changes++;                            /* DRAINING */
  do
  :: i < 2 -> atomic { !column[i] -> column[i] = 1 }; column[i] = 0; i++
  :: else -> break
  od;
  retired = 1;
  changes++
}

inline refresh(c, o, n) {               /* under the mutex; closes what the new view leaves out */
  atomic { !view_lock -> view_lock = 1 };
  if
#ifdef BREAK_SAME
  :: true ->
#else
  :: changes != view_changes ->
#endif
     c = changes;
     atomic { o = view_old && !retired; n = open || changes > 0 };
     if
     :: view_old && !o ->
#ifndef VIEW_LAST
        atomic { view_changes = c; view_old = o; view_new = n };
#endif
#ifndef BREAK_TURN
        atomic { !turn[0] -> turn[0] = 1 }; turn[0] = 0;
        atomic { !turn[1] -> turn[1] = 1 }; turn[1] = 0;
#endif
        closed = 1;
#ifdef VIEW_LAST
        atomic { view_changes = c; view_old = o; view_new = n };
#endif
     :: else -> atomic { view_changes = c; view_old = o; view_new = n }
     fi
  :: else
  fi;
  view_lock = 0
}

active proctype Poller() {
  byte c, times = POLLS;
  bool o, n;
  do
  :: times > 0 -> times--; refresh(c, o, n)
  :: else -> break
  od
}

#ifndef READER
active proctype Holder() {
  byte i, c, mine;
  bool o, n, fault;
  if :: i = 1 :: true fi;
again:
  atomic { mine = view_changes; o = view_old };
  atomic { !turn[i] -> turn[i] = 1 };
  atomic { !column[i] -> column[i] = 1 };
#ifndef BREAK_COMPARE
  if
  :: changes != mine -> column[i] = 0; turn[i] = 0; refresh(c, o, n); goto again
  :: else
  fi;
#endif
  if
  :: o -> fault = closed; assert(!fault)
  :: else
  fi;
  column[i] = 0;
  turn[i] = 0
}
#else
active proctype Reader() {
  byte c, mine;
  bool o, n, missed;
again:
  atomic { mine = view_changes; o = view_old; n = view_new };
  if :: o && !closed && key_in == 1 -> goto hit :: else fi;
  if :: n && key_in == 2 -> goto hit :: else fi;
#ifndef BREAK_MISS
  if :: changes != mine -> refresh(c, o, n); goto again :: else fi;
#endif
  missed = 1;
  assert(!missed);
hit:
  skip
}
#endif
