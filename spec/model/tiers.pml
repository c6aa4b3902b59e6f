/* tiers.pml - one key in the slabs of a stack: sets, deletes, moves and rebuilds of the whole column, deaths at every
   step, and readers without lock.

   Where in the code: package slab, Stack: Put, Remove, Move (the writers, under the column's lock), Rebuild (who takes
   that lock from the dead), Get (the reader).

   At rest a key has one live record in its column. Set publishes in tier 0, counts in the column's epoch, removes the
   copy below. Move copies, version and all, counts, frees the source. Delete and drop free it where it is. A rebuild
   goes over all tiers: epoch odd, all live records of a key but the highest version freed (of equal ones any but one),
   indexes anew, epoch even. A reader goes through the tiers in order; a hit needs the lower half of the epoch as it
   was, a miss all of it. An expired record is a miss right there. (What more a hit needs: comeback.pml.)

   Load-bearing rules, and the variant that drops each:
     BREAK_COUNT          removals below of what is, or was just put, above are counted
     BREAK_COUNT_LATE     they are counted before they happen
     BREAK_COUNT_UP       (with NO_SETS) that holds for the source of a move up
     BREAK_ORDER          readers look at the tiers in order; a lower one looked at first misses what moves down
     BREAK_MOVE           a move copies before it frees
     BREAK_PUBLISH_FIRST  Set publishes before it removes below
     BREAK_BELOW          Set removes below before it returns
     BREAK_EXPIRED        an expired record above is a miss; who goes on finds the older one that a Set had yet to remove
     BREAK_EXPIRED_DROP   a rebuild takes an expired record for one: the highest, though nobody gets it
     BREAK_REBUILD        a rebuild goes over all tiers; a copy that a dead mover had not yet linked comes back otherwise
     BREAK_VERSION        a move keeps the version; with one from the target's own counter the old one wins a rebuild
     BREAK_LOWEST         the highest wins
     BREAK_DEDUP          the losers go in the rebuild, and
     BREAK_DELETE_ORDER   (with KEEP_BOTH) where they do not, Delete meets two copies and removes the lower one first
     BREAK_HIT            (with ONEPASS) a hit compares the lower half

   Not broken, and kept in run.sh as passing: KEEP_BOTH (a rebuild leaves copies in several tiers, and all who hold the
   lock then remove the lower ones first, counted), ONEPASS (indexes first, losers after), LAX (nobody counts a Delete or
   a move down; a reader goes on without a look at the epoch, as hit and miss compare it in the end; a tie goes to the lower
   one): any of them is enough where the design has both, or costs nothing where it has more than it needs.

   Configurations: TIERS, OPS (what the writers do, any of all), DEATHS, READS (one reader's Gets, one after the other),
   NO_SETS.

   Properties: missed - a key that stays throughout; old_value - older than what a Set or a Get that returned has
   established; deleted_came_back; expired_fell_through; lost - at rest the key that should be there is.

   Abstractions: sequentially consistent memory; a record is read in one step (read.pml, comeback.pml); one writer stands
   for all, as they hold the lock, and dies and goes on for the next (lock.pml); a drop is a Delete that promises nothing;
   which slabs there are: drain.pml. Claims stay in tier 0 and are never moved (claim.pml). */

#ifndef TIERS
#define TIERS 2
#endif
#ifndef OPS
#define OPS 3
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef READS
#define READS 2
#endif
#define CELLS (TIERS+1)                 /* two in tier 0, one in each of the others */
#define TIER(c) (c <= 2 -> 0 : c - 2)
#define FREE 128                        /* state of the cell, in its version */

#ifdef BREAK_LOWEST
#define BETTER(m, c) (NUMBER(m) < NUMBER(c) || (NUMBER(m) == NUMBER(c) && m < c))
#elif defined(LAX)
#define BETTER(m, c) (NUMBER(m) > NUMBER(c) || (NUMBER(m) == NUMBER(c) && m > c))
#elif defined(BREAK_EXPIRED_DROP)
#define BETTER(m, c) (expired[NUMBER(c)] || NUMBER(m) > NUMBER(c) || (NUMBER(m) == NUMBER(c) && m < c))
#else
#define BETTER(m, c) (NUMBER(m) > NUMBER(c) || (NUMBER(m) == NUMBER(c) && m < c))
#endif
#if defined(KEEP_BOTH) || defined(BREAK_DEDUP)
#define RIVALS(m, c) (TIER(m) == TIER(c))
#else
#define RIVALS(m, c) true
#endif

byte slot[TIERS];
byte ver[CELLS+1];                      /* the number of the value is its version */
#ifdef BREAK_VERSION
byte val[CELLS+1], counter[TIERS];
#define VALUE(c) val[c]
#else
#define VALUE(c) (ver[c] & 127)
#endif
#define NUMBER(c) (ver[c] & 127)
#define LIVE(c)   (ver[c] < FREE)
bool odd, rebuilt, counted;             /* the epoch, as the reader needs it: bit 0, and which half has changed since it looked */

/* What the properties speak of. */
byte issued = 1;
bool expired[OPS+2];
byte set_done, del_done, last_read, last_expired;
bool present;
bool gone;                              /* it has left by right since the reader began */

#define MAX(a, b) (a > b -> a : b)

inline newest(c, x) {                   /* x = the newest value that is live, 0 if it has expired or there is none */
  x = 0; c = 1;
  do
  :: c <= CELLS -> if :: LIVE(c) -> x = MAX(x, VALUE(c)) :: else fi; c++
  :: else -> break
  od;
  x = (expired[x] -> 0 : x); c = 0
}

inline next_loser(c, m) {
  c = 1;
  do
  :: c <= CELLS ->
     m = 1;
     do
     :: m <= CELLS && !(LIVE(c) && LIVE(m) && m != c && RIVALS(m, c) && BETTER(m, c)) -> m++
     :: else -> break
     od;
     if :: m <= CELLS -> break :: else fi;
     c++
  :: else -> break
  od;
  m = 0
}

proctype Writer() {
  byte ops, deaths;
  byte c, d, m, n, a, b, s;
  bool dirty, lost;
#ifdef BREAK_REBUILD
  bool stolen;
#define DIE if :: deaths < DEATHS -> deaths++; dirty = 1; stolen = 1; goto died :: true fi
#else
#define DIE if :: deaths < DEATHS -> deaths++; dirty = 1; goto died :: true fi
#endif
next:
  do
  :: (ops == OPS && !dirty) -> break
  :: dirty || ops < OPS ->
     if
     :: !dirty
     :: dirty -> atomic { odd = 1; rebuilt = 1; dirty = 1; DIE };
#ifdef BREAK_REBUILD
        b = (stolen -> 1 : TIERS);
#else
        b = TIERS;
#endif
#ifndef ONEPASS
        do
        :: atomic { next_loser(c, m); if :: c <= CELLS && TIER(c) < b -> ver[c] = ver[c] | FREE; DIE :: else -> break fi }
        od;
#endif
        a = 0;
        do
        :: atomic { a < b -> slot[a] = 0; a++; DIE }
        :: a == b -> break
        od;
        c = 1;
        do
        :: atomic {
             c <= CELLS && TIER(c) < b ->
             if
             :: LIVE(c) -> if :: slot[TIER(c)] == 0 || ver[slot[TIER(c)]] < ver[c] -> slot[TIER(c)] = c :: else fi; DIE
             :: else
             fi;
             c++
           }
        :: c > CELLS || TIER(c) >= b -> break
        od;
#ifdef ONEPASS
        do
        :: atomic { next_loser(c, m); if :: c <= CELLS -> ver[c] = ver[c] | FREE; if :: slot[TIER(c)] == c -> slot[TIER(c)] = 0 :: else fi; DIE :: else -> break fi }
        od;
#endif
        atomic {
          odd = 0; dirty = 0;
          newest(c, n);
          lost = present && n == 0;
          assert(!lost);
#ifdef BREAK_REBUILD
          stolen = 0;
#endif
          present = n > 0; n = 0; a = 0; b = 0; c = 0;
          DIE
        }
     fi;
     if
     :: ops == OPS -> goto next
     :: else -> ops++
     fi;
     if :: atomic { dirty = 1; goto next } :: true fi;         /* a rebuild without need */
     a = 0; do :: a < TIERS && slot[a] == 0 -> a++ :: else -> break od;         /* where it is, TIERS if nowhere */
     if
#ifndef NO_SETS
     :: true ->                         /* Set; of a value that is expired already, maybe */
        d = (LIVE(1) -> 2 : 1);
#ifdef BREAK_PUBLISH_FIRST
        b = TIERS - 1;
        do
        :: atomic { b > 0 && slot[b] != 0 -> ver[slot[b]] = ver[slot[b]] | FREE; DIE };
           atomic { slot[b] = 0; DIE }
        :: b > 0 && slot[b] == 0 -> b--
        :: b == 0 -> break
        od;
#endif
        atomic {
          issued++; n = issued;
          if :: expired[n] = 1; present = 0; gone = 1 :: true fi;
#ifdef BREAK_VERSION
          val[d] = n; counter[0]++; ver[d] = counter[0];
#else
          ver[d] = n;
#endif
          DIE
        };
        atomic { s = slot[0]; slot[0] = d; present = !expired[n]; DIE };        /* visible */
        if :: s != 0 -> atomic { ver[s] = ver[s] | FREE; DIE } :: else fi;
#ifndef BREAK_BELOW
        b = TIERS - 1;
        do
        :: b > 0 && slot[b] != 0 ->
#if !defined(BREAK_COUNT) && !defined(BREAK_COUNT_LATE)
           atomic { counted = 1; DIE };
#endif
           atomic { ver[slot[b]] = ver[slot[b]] | FREE; DIE };
           atomic { slot[b] = 0; DIE };
#ifdef BREAK_COUNT_LATE
           atomic { counted = 1; DIE };
#endif
        :: b > 0 && slot[b] == 0 -> b--
        :: b == 0 -> break
        od;
#endif
        atomic { set_done = n; goto unlock }
#endif
     :: a < TIERS ->                    /* Delete, or a drop, of what is there, the lowest first */
        atomic { issued++; n = issued };
#ifdef BREAK_DELETE_ORDER
        b = 0;
#else
        b = TIERS - 1;
#endif
        do
        :: slot[b] != 0 ->
#if !defined(BREAK_COUNT) && !defined(BREAK_COUNT_LATE) && !defined(LAX)
           if :: b > 0 -> atomic { counted = 1; DIE } :: else fi;
#endif
           atomic {
             ver[slot[b]] = ver[slot[b]] | FREE;
             newest(c, m);
             if :: m == 0 -> present = 0; gone = 1 :: else fi; m = 0;
             DIE
           };
           atomic { slot[b] = 0; DIE }
#ifdef BREAK_DELETE_ORDER
        :: slot[b] == 0 && b < TIERS - 1 -> b++
        :: slot[b] == 0 && b == TIERS - 1 -> break
#else
        :: slot[b] == 0 && b > 0 -> b--
        :: slot[b] == 0 && b == 0 -> break
#endif
        od;
        if
        :: atomic { del_done = n; goto unlock }
        :: goto unlock
        fi
     :: a < TIERS ->                    /* move, up or down */
        skip;
#ifdef KEEP_BOTH
        b = TIERS - 1;                  /* the lower copies first */
        do
        :: b > a && slot[b] != 0 -> atomic { counted = 1; DIE }; atomic { ver[slot[b]] = ver[slot[b]] | FREE; DIE }; atomic { slot[b] = 0; DIE }
        :: b > a && slot[b] == 0 -> b--
        :: b == a -> break
        od;
#endif
        atomic {
          if :: b = 0 :: b = 1
#if TIERS > 2
          :: b = 2
#endif
          fi;
          d = (b > 0 -> b + 2 : (LIVE(1) -> 2 : 1));
          s = slot[a];
          if :: b == a || LIVE(d) -> goto unlock :: else fi       /* no room there */
        };
#ifdef BREAK_MOVE
        m = ver[s];
        atomic { ver[s] = ver[s] | FREE; DIE };
        atomic { slot[a] = 0; DIE };
        atomic { ver[d] = m; m = 0; DIE };
        atomic { slot[b] = d; DIE };
        goto unlock;
#endif
        atomic {
#ifdef BREAK_VERSION
          val[d] = val[s]; counter[b]++; ver[d] = counter[b];
#else
          ver[d] = ver[s];
#endif
          DIE
        };
        atomic { slot[b] = d; DIE };
#if !defined(BREAK_COUNT) && !defined(BREAK_COUNT_LATE) && !defined(BREAK_COUNT_UP)
        if
#ifdef LAX
        :: a > b -> atomic { counted = 1; DIE }
#else
        :: a > 0 -> atomic { counted = 1; DIE }
#endif
        :: else
        fi;
#endif
        atomic { ver[s] = ver[s] | FREE; DIE };
        atomic { slot[a] = 0; DIE };
#ifdef BREAK_COUNT_LATE
        atomic { counted = 1; DIE };
#endif
        goto unlock
     :: goto unlock
     fi;
unlock:
     atomic {
       newest(c, m);
       lost = present && m == 0;
       assert(!lost)
     };
died:
     atomic { a = 0; b = 0; c = 0; d = 0; m = 0; n = 0; s = 0 }
  od
}

proctype Reader() {
  byte t, s, v, x, sets, deletes, expiries, times = READS;
  bool expected, missed, old_value, deleted_came_back, expired_fell_through;
start:
  atomic {
    times--;
    sets = MAX(set_done, last_read); deletes = del_done; expiries = last_expired;
    expected = present; gone = 0
  };
again:
  atomic { !odd; rebuilt = 0; counted = 0; t = 0 };
#ifdef BREAK_ORDER
  t = TIERS - 1;
#endif
  do
  :: t < TIERS ->
same:
     s = slot[t];
     if
     :: s != 0 ->
        atomic { v = ver[s]; x = VALUE(s) };
        if :: slot[t] != s -> goto same :: else fi;
        if
        :: v < FREE -> goto hit
        :: else -> if :: ver[s] != v -> goto same :: else fi
        fi
     :: else
     fi;
beyond:
#ifndef LAX
     if :: rebuilt -> goto again :: else fi;
#endif
     atomic {
       s = 0; v = 0; x = 0;
#ifdef BREAK_ORDER
       if :: t == 0 -> break :: else -> t-- fi
#else
       t++
#endif
     }
  :: else -> break
  od;
  atomic {
    if :: rebuilt || counted -> goto again :: else fi;
    missed = expected && !gone;
    assert(!missed);
    goto done
  };
hit:
#ifdef BREAK_EXPIRED
  if :: expired[x] -> atomic { expiries = MAX(expiries, x); goto beyond } :: else fi;
#endif
  atomic {
#ifndef BREAK_HIT
    if :: rebuilt -> goto again :: else fi;
#endif
    if
    :: expired[x] ->
       missed = expected && !gone;
       assert(!missed);
       last_expired = MAX(last_expired, x)
    :: else ->
       deleted_came_back = x < deletes;
       expired_fell_through = x < expiries;
       old_value = x < sets;
       assert(!deleted_came_back); assert(!expired_fell_through); assert(!old_value);
       last_read = MAX(last_read, x)
    fi
  };
done:
  atomic { s = 0; v = 0; x = 0; t = 0; sets = 0; deletes = 0; expiries = 0; expected = 0; if :: times > 0 -> goto start :: else fi }
}

init {
  byte i;
  atomic {
    for (i : 1 .. CELLS) { ver[i] = FREE };
    if                                  /* it is in some tier, or nowhere */
    :: i = 1; slot[0] = 1 :: i = 3; slot[1] = 3
#if TIERS > 2
    :: i = 4; slot[2] = 4
#endif
    :: i = 0
    fi;
    if
    :: i > 0 -> ver[i] = 1; present = 1; set_done = 1
#ifdef BREAK_VERSION
       ; val[i] = 1; counter[0] = 1; counter[1] = 9
#endif
    :: else
    fi;
    i = 0;
    run Writer();
    run Reader()
  }
}
