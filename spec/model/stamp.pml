/* stamp.pml - readers note a use in a record's recency word, with an exchange that other processors may get between.

   Where in the code: package internal/shm, Find (find_amd64.s); package lru, Touch; package slab, the writers.

   Reader: sees the word while the version is right; looks at the clock; if the stamp is older than the grain: compare and
   exchange from the word seen, in one instruction without LOCK. That is a load and a store, and the store comes also if
   the words differed, with what was loaded: what others store in between is lost. Then it looks at the clock once more;
   if the words differed, or its stamp is older than the grain by then, it notes the use again, with LOCK and from the word
   that stands there, TRIES times. Others change the rest of the word (count, turn) with LOCK. Writers use the cell for
   another record, or as a tail, in which nothing lies where the word was.

   Load-bearing rules, and the variant that drops each:
     BREAK_LOOK   the second look at the clock; without it a reader that was held up before its exchange leaves an old
                  stamp where others have stored a new one
     BREAK_AGAIN  who finds another word tries again from that; it need not be a stamp that was stored, and the exchange may have
                  put an old one back
     BREAK_HOLE   a tail has a hole in the place of the word; otherwise a late reader writes into another record's bytes

   Configurations: READERS, USES (of each), REUSE (the cell becomes another record's head), TAIL (it becomes a tail), REST
   (somebody changes the rest of the word).

   Properties: a stamp is never older than the grain before the last use that has been noted, unless a reader stands
   between its exchange and its end (so it takes two hold-ups of one reader, and somebody else in the very nanoseconds of
   its exchange, for a record to look older than it is, and it does not stay so); nobody writes what another record
   keeps.

   Abstractions: the clock stands still during the one instruction; one cell; what is lost of counts and turns is not
   looked at; the time of a use is that of the look at the word. */

#ifndef READERS
#define READERS 2
#endif
#ifndef USES
#define USES 1
#endif
#define TRIES 3
#define GRAIN 1
#define BEGIN 2
#define END   4

mtype = { HEAD, ODD, TAIL_CELL };

mtype cell = HEAD;
byte word;                              /* stamp << 1 | the rest */
byte record;                            /* whose the cell is */
byte now = BEGIN;
byte inside;                            /* in the middle of the instruction */

/* What the properties speak of. */
byte noted;                             /* time of the newest use of the record that has been noted */
byte late;                              /* readers between their exchange and their end */

#define STAMP(w)   ((w) >> 1)
#define OTHERS(w)  ((w) & 1)
#define MAX(a, b)  (a > b -> a : b)
#define BYTES      15                   /* of a tail, were there no hole */

proctype Reader(byte times) {
  byte seen, found, next, t, used, whose, tries;
  bool exchanged;
  do
  :: times > 0 && cell == HEAD ->
     atomic {
       times--;
       if :: cell != HEAD -> goto next_use :: else fi;
       seen = word; used = now; whose = record
     };
     t = now;
     if
     :: STAMP(seen) + GRAIN >= t -> goto out
     :: else
     fi;
     atomic { next = t << 1 | OTHERS(seen); found = word; inside++ };     /* the instruction's load */
     atomic { word = (found == seen -> next : found); inside--; exchanged = 1; late++ };
     if
     :: found != seen ->
#ifdef BREAK_AGAIN
        goto out
#else
        skip
#endif
     :: else ->
#ifndef BREAK_LOOK
        if
        :: t + GRAIN < now -> seen = next
        :: else -> goto out
        fi
#else
        goto out
#endif
     fi;
     atomic { t = now; tries = TRIES };
     do
     :: tries > 0 && STAMP(seen) + GRAIN < t ->
        atomic {
          tries--;
          if
          :: word == seen -> word = t << 1 | OTHERS(seen); tries = 0
          :: else -> seen = word
          fi
        }
     :: else -> break
     od;
out:
     atomic {
       late = late - exchanged;
       if :: whose == record -> noted = MAX(noted, used) :: else fi
     };
next_use:
     atomic { seen = 0; found = 0; next = 0; t = 0; used = 0; whose = 0; tries = 0; exchanged = 0 }
  :: else -> break
  od
}

#if defined(REUSE) || defined(TAIL)
active proctype Writer() {                        /* under the column's lock */
  byte t;
  bool foreign;
  t = now;
  atomic { cell = ODD; record = 1; noted = 0 };
#ifdef TAIL
#ifdef BREAK_HOLE
  word = BYTES;
#endif
  cell = TAIL_CELL;
  do
  :: true ->
#ifdef BREAK_HOLE
     foreign = word != BYTES;
     assert(!foreign)
#endif
     skip
  :: break
  od
#else
  word = t << 1;
  atomic { cell = HEAD; noted = t; t = 0 }
#endif
}
#endif

#ifdef REST
active proctype Changer() {                       /* a count, a turn */
end:
  atomic { cell == HEAD -> word = word ^ 1 }
}
#endif

active proctype Clock() {
  do
  :: atomic { now < END && inside == 0 -> now++ }
  :: now == END -> break
  od
}

active proctype Watcher() {                       /* an eviction, say */
  bool set_back;
end:
  atomic { cell == HEAD && late == 0 && STAMP(word) + GRAIN < noted -> set_back = 1; assert(!set_back) }
}

init {
  byte i;
  atomic { for (i : 1 .. READERS) { run Reader(USES) }; i = 0 }
}
