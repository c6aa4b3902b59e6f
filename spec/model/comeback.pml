/* comeback.pml - a record leaves its cell, others use the cell, and it comes back, of the same version.

   Where in the code: package slab, Get (the reader), Move (the writer, under the column's lock).

   A move keeps the version, which is what others compare and set by. So {cell, version} names a record's bytes only as
   long as the record has not moved: down, its cell used for another, up again, and slot and version are as the reader saw
   them, whatever it copied meanwhile. Whoever comes back has moved up. Therefore a move up counts twice in the lower half of
   the column's epoch, which a hit compares: before its copy is live, and when the source is free, before anything can
   use its cells. Moves down and removals below leave that half alone, so that they disturb no hit; a miss compares both
   halves (tiers.pml).

   Load-bearing rules, and the variant that drops each:
     BREAK_HIT    a hit compares the half that moves up count in
     BREAK_COUNT  a move up counts before it makes its copy live
     BREAK_AFTER  and again when the source is free: the first count may lie before the reader's look

   Not broken: WHOLE (a hit compares both halves, and every move counts before its copy is live) and FRESH (a move up gives
   a new version, and a hit does not look at the counts) pass too. With the first one hits look again whenever something
   is moved down or removed below; with the second a promotion ends the compare-and-set of whoever has read before.

   Configurations: OPS (moves of K, sets and deletes of J, any of all).

   Properties: no foreign key's bytes; what stays is not missed.

   Abstractions: two tiers of one cell each, one slot for each key in each; K is looked for, J is the other key, its record
   in whichever tier (it got there by a move too); nobody dies (tiers.pml). */

#ifndef OPS
#define OPS 5
#endif
#define K 1
#define J 2

byte slot[2];                           /* K's, by tier: 1 if it names the tier's cell */
byte key[2], val[2], ver[2];            /* by tier; a version is odd while it is not live */
byte version = 2, versions = 2;         /* of K's record; the last that was given */
bool counted, upped;                    /* the epoch's upper, lower half has changed since the reader looked */

proctype Writer() {
  byte ops, a, b;
  do
  :: ops < OPS ->
     ops++;
     a = (slot[0] -> 0 : 1); b = 1 - a;
     if
     :: atomic { key[b] == 0 || ver[b] % 2 == 1 };    /* K moves */
#ifdef FRESH
        if :: b == 0 -> versions = versions + 2; version = versions :: else fi;
#endif
#ifdef WHOLE
        counted = 1;
#elif !defined(BREAK_COUNT)
        if :: b == 0 -> upped = 1 :: else fi;
#endif
        ver[b] = version + 1;
        key[b] = K;
        val[b] = K;
        ver[b] = version;
        slot[b] = 1;
        if :: a == 1 -> counted = 1 :: else fi;
        ver[a] = ver[a] | 1;
        slot[a] = 0;
#if !defined(BREAK_AFTER) && !defined(WHOLE)
        if :: b == 0 -> upped = 1 :: else fi
#endif
     :: atomic { key[b] == 0 || ver[b] % 2 == 1 };    /* a record of J takes the cell */
        atomic { versions = versions + 2; ver[b] = versions + 1 };
        key[b] = J;
        val[b] = J;
        ver[b] = versions
     :: atomic { key[b] == J && ver[b] % 2 == 0 };    /* and leaves it */
        if :: b == 1 -> counted = 1 :: else fi;
        ver[b] = ver[b] | 1
     fi
  :: else -> break
  od
}

proctype Reader() {
  byte t, v, x;
  bool missed, foreign;
again:
  atomic { counted = 0; upped = 0; t = 0 };
  do
  :: t < 2 ->
same:
     if
     :: slot[t] == 0
     :: else ->
        v = ver[t];
        if :: v % 2 == 1 || v == 0 -> goto mismatch :: else fi;
        if :: key[t] != K -> goto mismatch :: else fi;
        x = val[t];
        if :: ver[t] != v -> goto same :: else fi;
        if :: slot[t] == 0 -> goto same :: else fi;
        goto hit;
mismatch:
        if :: slot[t] == 0 -> goto same :: else fi;
        if :: ver[t] != v -> goto same :: else fi
     fi;
     t++
  :: else -> break
  od;
  if :: counted || upped -> goto again :: else fi;
  missed = 1;
  assert(!missed);
hit:
#ifdef WHOLE
  if :: counted -> goto again :: else fi;
#elif !defined(BREAK_HIT) && !defined(FRESH)
  if :: upped -> goto again :: else fi;
#endif
  foreign = x != K;
  assert(!foreign)
}

init {
  atomic {
    if :: slot[0] = 1; ver[0] = 2; key[0] = K; val[0] = K
       :: slot[1] = 1; ver[1] = 2; key[1] = K; val[1] = K
    fi;
    run Writer();
    run Reader()
  }
}
