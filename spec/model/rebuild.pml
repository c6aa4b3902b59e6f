/* rebuild.pml - deaths at every step of Set, Delete and the rebuild itself; readers meanwhile. One bucket, three cells.

   Where in the code: package slab, Rebuild (runs in whoever takes the column's lock from the dead or finds the epoch
   odd), Get (the reader); package lock decides who is dead (lock.pml).

   The rebuild needs nothing but the cells: the epoch turns odd; every live cell that is not its key's highest version is
   freed; the index is written anew; the version counter becomes the maximum of itself and every version; the epoch
   turns even. It may die anywhere, the next one starts over.

   Load-bearing rules, and the variant that drops each:
     BREAK_EPOCH_MISS   a miss is believed only if the epoch was even and is unchanged; without it a reader misses keys
                        while the index is empty
     BREAK_EPOCH_HIT    (with ONEPASS) a hit is believed only if the epoch is unchanged; without it the newer of two
                        records is seen, and after it the older
     BREAK_EPOCH_FIRST  the epoch turns odd before anything else is written
     BREAK_EPOCH_LAST   the epoch turns even after everything else is written
     BREAK_COUNTER      the counter is never lowered; set from the live cells alone, a version comes back, and with it
                        somebody's compare-and-set token for a value long gone

   ONEPASS is not a broken variant: it writes the index and frees the losers in one pass, and passes. Losers freed first,
   or the epoch compared on a hit: either is enough in one slab, and the design has both.

   Configurations: SETTER_J (the Setter writes a second key), WITH_SET, WITH_DEL, READS (one reader's Gets, one after the other), DEATHS, CAS (a reader uses the
   version it got as a token later).

   Properties: as in read.pml, and: what was acknowledged survives, what was deleted does not come back.

   Abstractions: sequentially consistent memory; death is known at once (lock.pml); a reader that finds the epoch odd
   waits (in the code it tries the lock, and ErrBusy after that). */

#define CELLS 3
#ifndef READS
#define READS 1
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#define K 1
#define J 2

byte slot[2];
byte ver[CELLS+1], key[CELLS+1], val[CELLS+1];
byte counter = 2;
byte epoch;
byte lock_owner;                        /* a pid; 0 is nobody */
bool dead[12];                          /* by pid */
byte deaths;

/* What the properties speak of. */
byte issued = 1;
byte owner[10];
byte set_done[3], del_done[3], removed[3], last_read[3];
bool present[3];

#define MAX(a, b) (a > b -> a : b)
#define LIVE(c)   (ver[c] % 2 == 0)

/* Under the lock all reading is private: a step of a writer is one store, with the search before it. */

inline find(k, i) { i = 0; do :: i < 2 && !(slot[i] != 0 && key[slot[i]] == k) -> i++ :: else -> break od }
inline hole(i)    { i = 0; do :: i < 2 && slot[i] != 0 -> i++ :: else -> break od; assert(i < 2) }

inline next_loser(c, i, m) {            /* c = the next live cell that is not its key's highest version, or none */
  c = 1;
  do
  :: c <= CELLS ->
     i = 0; m = 1;
     do
     :: m <= CELLS -> if :: LIVE(c) && LIVE(m) && key[m] == key[c] && ver[m] > ver[c] -> i = 1 :: else fi; m++
     :: else -> break
     od;
     if :: i == 1 -> break :: else fi;
     c++
  :: else -> break
  od
}

inline rebuild(c, i, m) {
#ifndef BREAK_EPOCH_FIRST
  epoch = epoch | 1;
#endif
#ifndef ONEPASS
  do
  :: true ->
     d_step { next_loser(c, i, m); if :: c <= CELLS -> ver[c] = ver[c] | 1 :: else fi };
     if :: c > CELLS -> break :: else fi
  od;
#endif
  slot[0] = 0;
  slot[1] = 0;
#ifdef BREAK_EPOCH_FIRST
  epoch = epoch | 1;
#endif
#ifdef BREAK_EPOCH_LAST
  epoch++;
#endif
  c = 1;
  do
  :: c <= CELLS ->
     d_step {
       m = 0;
       if
       :: LIVE(c) ->
          find(key[c], i);
          if
          :: i == 2 -> hole(i); slot[i] = c
          :: else ->                    /* only with ONEPASS: a second cell of this key */
             if
             :: ver[c] > ver[slot[i]] -> m = slot[i]; slot[i] = c
             :: else -> m = c
             fi
          fi
       :: else
       fi;
       c++
     };
     if :: m != 0 -> ver[m] = ver[m] | 1 :: else fi
  :: c > CELLS -> break
  od;
  skip;                                 /* Spin does not let a break enter a d_step */
  d_step {
#ifdef BREAK_COUNTER
    m = 0; c = 1; do :: c <= CELLS -> if :: LIVE(c) -> m = MAX(m, ver[c]) :: else fi; c++ :: else -> break od;
#else
    m = counter; c = 1; do :: c <= CELLS -> m = MAX(m, (ver[c] + 1) & 254); c++ :: else -> break od;
#endif
    counter = m; c = 0; i = 0; m = 0
  };
#ifndef BREAK_EPOCH_LAST
  epoch++
#endif
}

inline lock(c, i, m) {
  atomic {
    lock_owner == 0 || dead[lock_owner];
    if
    :: lock_owner == 0 -> lock_owner = _pid; goto locked
    :: else -> lock_owner = _pid
    fi
  };
  rebuild(c, i, m);
locked:
}
inline unlock() { atomic { lock_owner = 0; c = 0; i = 0; m = 0 } }

/* Only the death of a lock's holder matters to others; any process may die when it is that. */
active proctype Killer() {
end:
  do
  :: atomic { deaths < DEATHS && lock_owner != 0 && !dead[lock_owner] -> dead[lock_owner] = 1; deaths++ }
  :: atomic { deaths < DEATHS -> deaths = DEATHS }       /* enough */
  od
}

proctype Setter(byte k) {
  byte c, i, m, n;
  {
    lock(c, i, m);
    atomic {
      issued++; n = issued; owner[n] = k;
      if :: !LIVE(1) -> c = 1 :: !LIVE(2) -> c = 2 :: !LIVE(3) -> c = 3 fi;
      counter = counter + 2; ver[c] = counter - 1
    };
    key[c] = k;
    val[c] = n;
    ver[c] = ver[c] + 1;
    d_step {
      find(k, i);
      if
      :: i < 2 -> m = slot[i]
      :: else -> hole(i); present[k] = 1
      fi;
      slot[i] = c
    };
    if :: m != 0 -> ver[m] = ver[m] | 1 :: else fi;
    atomic { set_done[k] = n; n = 0 };
    unlock()
  } unless { dead[_pid] }
}

proctype Deleter(byte k) {
  byte c, i, m, n;
  {
    lock(c, i, m);
    d_step {
      issued++; n = issued;
      find(k, i);
      if :: i < 2 -> c = slot[i]; ver[c] = ver[c] | 1; removed[k] = n; present[k] = 0 :: else fi
    };
    if :: i < 2 -> slot[i] = 0 :: else fi;
    atomic { del_done[k] = n; n = 0 };
    unlock()
  } unless { dead[_pid] }
}

proctype Rebuilder() {                  /* somebody who comes when a holder is dead, and does nothing else */
  byte c, i, m;
end:
  atomic { lock_owner != 0 && dead[lock_owner] -> lock_owner = _pid };
  { rebuild(c, i, m); unlock() } unless { dead[_pid] }
}

proctype Reader(byte k) {
  byte s, i, v, x, e, floor, was_removed;
  bool expected, missed, wrong_key, old_value;
  byte times = READS;
start:
  atomic {
    times--;
    floor = MAX(set_done[k], del_done[k]);
    floor = MAX(floor, last_read[k]);
    expected = present[k] || last_read[k] > removed[k];
    was_removed = removed[k]
  };
again:
end_odd:
  atomic {
#ifndef BREAK_EPOCH_MISS
    epoch % 2 == 0;
#endif
    e = epoch; i = 0
  };
  do
  :: i < 2 ->
slot_again:
     s = slot[i];
     if
     :: s == 0 -> i++
     :: else ->
        v = ver[s];
        if :: v % 2 == 1 -> goto mismatch :: else fi;
        if :: key[s] != k -> goto mismatch :: else fi;
        x = val[s];
        if :: ver[s] != v -> goto slot_again :: else fi;
        if :: slot[i] != s -> goto slot_again :: else fi;
        goto hit;
mismatch:
        if :: slot[i] != s -> goto slot_again :: else fi;
        if :: ver[s] != v -> goto slot_again :: else fi;
        i++
     fi
  :: else -> break
  od;
#ifndef BREAK_EPOCH_MISS
  if :: epoch != e -> goto again :: else fi;
#endif
  missed = expected && removed[k] == was_removed;
  assert(!missed);
  goto done;
hit:
#ifndef BREAK_EPOCH_HIT
  if :: epoch != e -> goto again :: else fi;
#endif
  atomic {
    wrong_key = owner[x] != k;
    old_value = x < floor;
    assert(!wrong_key); assert(!old_value);
    last_read[k] = MAX(last_read[k], x)
  };
#ifdef CAS
  /* later, under the lock, the version decides whether the value is still the one that was read */
  bool token_came_back; byte c, m;
  {
    lock(c, i, m);
    d_step {
      find(k, i);
      token_came_back = (i < 2 && ver[slot[i]] == v && val[slot[i]] != x);
      assert(!token_came_back)
    };
    unlock()
  } unless { dead[_pid] };
#endif
done:
  atomic { s = 0; v = 0; x = 0; if :: times > 0 -> goto start :: else fi }
}

init {
  atomic {
    ver[1] = 1; ver[2] = 1; ver[3] = 1;
    slot[0] = 2; ver[2] = 2; key[2] = K; val[2] = 1;     /* so that a new cell comes before or after it in the rebuild */
    owner[1] = K; present[K] = 1; set_done[K] = 1;
#ifdef SETTER_J
    run Setter(J);
#else
    run Setter(K);
#endif
#ifdef WITH_SET
    run Setter(K);
#endif
#ifdef WITH_DEL
    run Deleter(K);
#endif
    run Rebuilder();
    run Rebuilder();
    run Reader(K);
  }
}
