/* read.pml - a lock-free Get against cells that are used again, in one bucket of one shard.

   Where in the code: package slab, Get (the reader), Set and Delete (the writers, under the column's lock).

   A slot names a cell. A cell's version is even only while it is a live head; free cells, cells being written and the
   tails of chains are odd. Set writes a new cell, stores the slot (the value is visible from here), frees the old cell.
   Delete turns the version odd (the key is gone from here), then clears the slot.

   Load-bearing rules, and the variant that drops each:
     BREAK_FREE     freeing a cell turns its version odd; without it a tail is reused while the head's version still
                    agrees and a reader puts two values together (needs CHAIN)
     BREAK_GOON     going on past a slot needs slot AND version, both read again, as first seen; with the slot alone a
                    reader misses a key that never left: slot=A, K goes to B, A is free, K goes to A again
     BREAK_HIT      a hit reads the slot again; without it a value is returned before it is visible, and the next
                    reader sees the one before it
     BREAK_VERSION  a hit reads the version again; without it a reader puts two values together (with CHAIN)
     BREAK_EPOCH    (with REBUILD) a miss is believed only if the epoch was even and is unchanged; without it a reader finds
                    an index that is just being written, or passes a record on its way to another slot
     BREAK_KEY      (with WITH_J) the whole key is compared, as a tag is not a key

   Configurations: CHAIN (a record is a head and a tail cell), WITH_J (a second key with the same tag), WITH_DEL_K,
   WITH_DEL_J, READ_J, REBUILD (somebody rebuilds the index, into other slots; nobody dies), READS (one reader's Gets, one
   after the other: whatever two readers can tell each other shows in one that looks twice), SETS (Sets of K).

   Properties: a key that is there throughout is not missed; no foreign key's bytes; no torn value; nothing older than
   what a finished Set, Delete or Get has established.

   Abstractions: sequentially consistent memory; every slot has the key's tag; the lock is perfect (lock.pml) and nobody
   dies (rebuild.pml: there cells are used again after deaths); retries are unbounded, for the writers end; values are numbers issued under the lock. */

#ifdef CHAIN
#define CELLS 6
#else
#define CELLS 3
#endif
#ifndef READS
#define READS 2
#endif
#ifndef SETS
#define SETS 2
#endif
#define K 1
#define J 2

byte slot[2];
byte ver[CELLS+1], key[CELLS+1], val[CELLS+1], tail[CELLS+1];
bool used[CELLS+1];                     /* the free list, read and written under the lock only */
byte counter = 2;                       /* versions */
bool locked;
byte epoch;

/* What the properties speak of; no process of the protocol reads these. */
byte issued = 1;                        /* numbers of values and of Deletes, in lock order */
byte owner[8];                          /* the key a value was written for */
byte set_done[3], del_done[3], removed[3], last_read[3];
bool present[3];

#define MAX(a, b) (a > b -> a : b)

inline lock()   { atomic { !locked -> locked = 1 } }
inline unlock() { locked = 0 }

inline take(c) {                        /* any free cell: the order of the free list does not matter */
  atomic {
    if
    :: !used[1] -> c = 1
    :: !used[2] -> c = 2
    :: !used[3] -> c = 3
#ifdef CHAIN
    :: !used[4] -> c = 4
    :: !used[5] -> c = 5
    :: !used[6] -> c = 6
#endif
    fi;
    used[c] = 1
  }
}

inline release(c) {
#ifndef BREAK_FREE
  ver[c] = ver[c] | 1;
#endif
  atomic {
#ifdef CHAIN
    used[tail[c]] = 0;
#endif
    used[c] = 0
  }
}

inline find(k, i) { atomic { i = 0; do :: i < 2 && !(slot[i] != 0 && key[slot[i]] == k) -> i++ :: else -> break od } }
inline hole(i)    { atomic { i = 0; do :: i < 2 && slot[i] != 0 -> i++ :: else -> break od; assert(i < 2) } }

proctype Setter(byte k; byte times) {
  byte c, i, n, old;
#ifdef CHAIN
  byte t;
#endif
  do
  :: times > 0 ->
     times--;
     lock();
     atomic { issued++; n = issued; owner[n] = k };
     take(c);
     atomic { counter = counter + 2; ver[c] = counter - 1 };
#ifdef CHAIN
     take(t);
     tail[c] = t; val[t] = n;
#endif
     key[c] = k;
     val[c] = n;
     ver[c] = ver[c] + 1;
     find(k, i);
     if
     :: i < 2 ->
        old = slot[i];
        slot[i] = c;                    /* visible */
        release(old); old = 0
     :: else ->
        hole(i);
        atomic { slot[i] = c; present[k] = 1 }
     fi;
     atomic { set_done[k] = n; n = 0; c = 0; i = 0 };
     unlock()
  :: else -> break
  od
}

proctype Deleter(byte k) {
  byte c, i, n;
  lock();
  atomic { issued++; n = issued };
  find(k, i);
  if
  :: i < 2 ->
     c = slot[i];
     atomic {
#ifndef BREAK_FREE
       ver[c] = ver[c] | 1;             /* gone */
#endif
       removed[k] = n; present[k] = 0
     };
     slot[i] = 0;
     release(c)
  :: else
  fi;
  atomic { del_done[k] = n };
  unlock()
}

#ifdef REBUILD
proctype Rebuilder() {
  byte c, i;
  lock();
  epoch++;
  slot[0] = 0;
  slot[1] = 0;
  c = CELLS;
  do
  :: c > 0 ->
     atomic {
       if
       :: ver[c] % 2 == 0 -> i = 0; do :: i == 0 && slot[1] == 0 -> i = 1; break :: slot[i] == 0 -> break :: else -> i++ od; slot[i] = c
       :: else
       fi;
       c--
     }
  :: else -> break
  od;
  i = 0;
  epoch++;
  unlock()
}
#endif

proctype Reader(byte k; byte times) {
  byte s, i, v, x, floor, was_removed;
#ifdef REBUILD
  byte e;
#endif
#ifdef CHAIN
  byte t, y;
#endif
  bool expected, missed, wrong_key, torn, old_value;
start:
  atomic {
    times--; i = 0;
    floor = MAX(set_done[k], del_done[k]);
    floor = MAX(floor, last_read[k]);
    expected = present[k] || last_read[k] > removed[k];
    was_removed = removed[k]
  };
anew:
#ifdef REBUILD
  atomic {
#ifndef BREAK_EPOCH
    epoch % 2 == 0;
#endif
    e = epoch; i = 0
  };
#endif
  do
  :: i < 2 ->
again:
     s = slot[i];
     if
     :: s == 0 -> i++
     :: else ->
        v = ver[s];
        if :: v % 2 == 1 -> goto mismatch :: else fi;
#ifndef BREAK_KEY
        if :: key[s] != k -> goto mismatch :: else fi;
#endif
        x = val[s];
#ifdef CHAIN
        t = tail[s];
        if :: t == 0 -> goto again :: else fi;
        y = val[t];
#endif
#ifndef BREAK_VERSION
        if :: ver[s] != v -> goto again :: else fi;
#endif
#ifndef BREAK_HIT
        if :: slot[i] != s -> goto again :: else fi;
#endif
        goto hit;
mismatch:
        if :: slot[i] != s -> goto again :: else fi;
#ifndef BREAK_GOON
        if :: ver[s] != v -> goto again :: else fi;
#endif
        i++
     fi
  :: else -> break
  od;
#if defined(REBUILD) && !defined(BREAK_EPOCH)
  if :: epoch != e -> goto anew :: else fi;
#endif
  missed = expected && removed[k] == was_removed;
  assert(!missed);
  goto done;
hit:
#ifdef REBUILD
  if :: epoch != e -> goto anew :: else fi;
#endif
  atomic {
    wrong_key = owner[x] != k;
    old_value = x < floor;
#ifdef CHAIN
    torn = x != y;
#endif
    assert(!torn); assert(!wrong_key); assert(!old_value);
    last_read[k] = MAX(last_read[k], x)
  };
done:
  atomic { s = 0; v = 0; x = 0; if :: times > 0 -> goto start :: else fi }
}

init {
  atomic {
    byte j;
    for (j : 1 .. CELLS) { ver[j] = 1 };
    slot[0] = 1; ver[1] = 2; key[1] = K; val[1] = 1; used[1] = 1;
#ifdef CHAIN
    tail[1] = 2; val[2] = 1; used[2] = 1;
#endif
    owner[1] = K; present[K] = 1; set_done[K] = 1;
    run Setter(K, SETS);
#ifdef REBUILD
    run Rebuilder();
#endif
#ifdef WITH_J
    run Setter(J, 1);
#endif
#ifdef WITH_DEL_K
    run Deleter(K);
#endif
#ifdef WITH_DEL_J
    run Deleter(J);
#endif
    run Reader(K, READS);
#ifdef READ_J
    run Reader(J, 1);
#endif
    j = 0
  }
}
