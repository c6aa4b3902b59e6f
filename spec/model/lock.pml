/* lock.pml - the robust lock: owners die, regions get new owners, waiters sleep.

   Where in the code: package lock (Mutex: Lock, wait, Unlock), package table (Dead, settle).

   One word {generation, region + 1, flags} and a futex word. Lock: CAS from free, identity in the same CAS. Unlock: CAS
   to free, then futex++ and a wake-up if the word said WAITERS, of all if it said STARVED. A waiter reads the futex word,
   then the word, sets WAITERS, sleeps, not for ever; after a sleep it asks whether the owner is dead, and if so swaps
   exactly that word for its own, with INCONSISTENT set. One who has slept sets STARVED; a newcomer does not take a free
   word that has it, but sleeps once first. Dead means: the region has another generation, or its lease is free.

   Load-bearing rules, and the variant that drops each:
     BREAK_GENERATION    the token has a generation; without it a live successor in the region is robbed, or protects
                         the dead one's lock for ever
     BREAK_LATE          (with REUSE) the region has its next generation before its new owner locks anything; otherwise he is
                         taken for the dead one
     BREAK_SELF          goroutines of one handle take turns before they look at the word, so that a handle never asks
                         about its own live token: the kernel says of one's own lease that it is free
     BREAK_INCONSISTENT  only a repair clears the mark; without it the next owner takes half-done data for whole
     BREAK_RECORD_AFTER  the owner is part of the CAS; recorded afterwards, a death in between leaves a lock that nobody
                         can judge, and here waiters take it from the living
     BREAK_EXACT         a steal is a CAS from the very word that was judged
     BREAK_BOUND         sleeps are bounded; without it nobody notices a death
     BREAK_SEEN          (with NO_TIMEOUT) the futex word is read before the word; otherwise a wake-up is lost
     BREAK_DISOWN        (with FORGED, as the next two) a living handle disowns words that name it though it does not hold
                         the lock; without it others wait for ever
     BREAK_DISOWN_TURN   it takes its turn first; without it a goroutine of its own loses what it holds
     BREAK_DISOWN_MARK   what it disowns it leaves INCONSISTENT, for the word may have been a dead one's
     BREAK_STARVED       (with FAIR) newcomers let the starved go first; otherwise one process can starve another

   Configurations: FORGED (once, while the lock is free or its owner dead, the word is overwritten with handle 0's token),
   THREE (handles besides the successor), TWO_GOROUTINES (of handle 0), SUCCESSOR (a new handle in
   region 0), REUSE (the lock's owner is dead from the start; its region
   gets one new handle after the other, and a reaper in between), DEATHS, NO_TIMEOUT (nobody dies, sleepers wake by being woken only), FAIR (NO_TIMEOUT, and two that lock
   and unlock for ever; checked for acceptance cycles under weak fairness: who has set STARVED gets the lock).

   Properties: at most one live holder; nobody is robbed; nobody waits for ever (no invalid end state); what a dead holder
   left half-done is known to the next, until somebody has repaired it, even if repairers die.

   Abstractions: TryLock is not here; a timeout fires whenever a look at the word would change something, which is what it is for; generations
   do not wrap around; the first sleep is as long as the patience after which STARVED is set. */

#ifndef DEATHS
#ifdef REUSE
#define DEATHS 1
#else
#define DEATHS 2
#endif
#endif
#ifdef FAIR
#define NO_TIMEOUT
#endif
#ifdef REUSE
#define SUCCESSOR
#endif

#define WAITERS      16
#define STARVED      32
#define INCONSISTENT 64
#define OWNER(w)  (w & 15)
#define REGION(w) ((w & 3) - 1)
#define GEN(w)    ((w >> 2) & 3)
#ifdef BREAK_GENERATION
#define TOKEN(r, g) (r + 1)
#else
#define TOKEN(r, g) (r + 1 + 4 * g)
#endif

byte word;
byte futex;
byte generation[3];                     /* by region */
byte lease[3];                          /* handle + 1, or 0 */
bool turn[5];                           /* by handle: the queue inside the process */
bool asleep[6];                         /* by goroutine: in the futex's queue */
bool dead[5];                           /* by handle */
byte deaths;

/* What the properties speak of. */
byte holder;                            /* goroutine, or 0 */
byte holder_handle;
bool half_done;
bool starving;                          /* goroutine 1 has set STARVED and still waits */

#define REGION_OF(h)   (h < 3 -> h : 0)
#define HAS_LEASE(h)   (lease[REGION_OF(h)] == h + 1)
#define REAPERS_LEASE  9

#define OWNER_IS_DEAD (OWNER(word) != 0 && (lease[REGION(word)] == 0 || STALE(word)))
#ifdef BREAK_GENERATION
#define STALE(w) false
#else
#define STALE(w) (generation[REGION(w)] != GEN(w))
#endif
#ifdef FORGED
#define NAMES_ME (OWNER(word) == me)
#else
#define NAMES_ME false                  /* while one waits nobody in one's handle has it */
#endif
#if defined(NO_TIMEOUT) || defined(BREAK_BOUND)
#define TIMEOUT false
#else
#define TIMEOUT (OWNER(word) == 0 || NAMES_ME || OWNER_IS_DEAD || !(word & STARVED))
#endif

inline took() {                         /* in the same step as the CAS */
  two_holders = holder != 0 && !dead[holder_handle];
  assert(!two_holders);
  holder = id; holder_handle = h;
  starving = starving && id != 1
}

#ifdef BREAK_RECORD_AFTER
#define NAME 3                          /* region 2, where nobody is in this variant, stands for "nobody yet" */
#else
#define NAME me
#endif
#define TAKE(flags) word = NAME | (flags); took()

/* The kernel's answer about the region's lease, asked through handle h. Its own lease looks free. */
#define LEASE_LOOKS_FREE(r) (lease[r] == 0 || lease[r] == h + 1)

inline wake_one() {
  if
  :: asleep[1] -> asleep[1] = 0
  :: asleep[2] -> asleep[2] = 0
  :: asleep[3] -> asleep[3] = 0
  :: asleep[4] -> asleep[4] = 0
  :: asleep[5] -> asleep[5] = 0
  :: else
  fi
}
inline wake_all() { asleep[1] = 0; asleep[2] = 0; asleep[3] = 0; asleep[4] = 0; asleep[5] = 0 }

inline lock_it() {
#ifndef BREAK_SELF
  atomic { !turn[h] -> turn[h] = 1 };
#endif
  flags = 0; slept = 0; intact = 1;
  if
  :: atomic { word == 0 -> TAKE(0) }; goto locked
  :: atomic { word != 0 -> skip }
  fi;
  do
  :: true ->
#ifndef BREAK_SEEN
     seen = futex;
#endif
     atomic { w = word; judged_dead = 0 };
     if
#ifdef BREAK_STARVED
     :: OWNER(w) == 0 ->
#else
     :: OWNER(w) == 0 && (!(w & STARVED) || (flags & STARVED)) ->
#endif
        if
        :: atomic { word == w -> intact = !(w & INCONSISTENT); TAKE((w & INCONSISTENT) | (flags & WAITERS)) }; break
        :: atomic { word != w -> skip }
        fi
     :: else ->
        if
        :: OWNER(w) != 0 && slept ->
#ifdef BREAK_SELF
           if
           :: STALE(w) -> judged_dead = 1
           :: else -> judged_dead = LEASE_LOOKS_FREE(REGION(w))
           fi
#else
           if
           :: OWNER(w) == me -> judged_dead = 1      /* nobody in this handle has it: an orphan; none come up here */
           :: else ->
              if
              :: STALE(w) -> judged_dead = 1
              :: else -> judged_dead = LEASE_LOOKS_FREE(REGION(w))
              fi
           fi
#endif
        :: else
        fi;
        if
        :: judged_dead ->
           if
#ifdef BREAK_EXACT
           :: atomic { true -> intact = 0; TAKE(INCONSISTENT | WAITERS) }; break
#else
           :: atomic { word == w -> intact = 0; TAKE(INCONSISTENT | WAITERS) }; break
           :: atomic { word != w -> skip }
#endif
           fi
        :: else ->
           flags = flags | WAITERS | (slept -> STARVED : 0);
           if
           :: atomic { word == w -> word = w | flags; starving = starving || (id == 1 && (flags & STARVED)) };
#ifdef BREAK_SEEN
              seen = futex;
#endif
              atomic { if :: futex == seen -> asleep[id] = 1 :: else fi };
              atomic { !asleep[id] || TIMEOUT -> asleep[id] = 0; slept = 1 }
           :: atomic { word != w -> skip }
           fi
        fi
     fi
  od;
locked:
#ifdef BREAK_RECORD_AFTER
  word = (word & 112) | me;
#endif
  atomic { flags = 0; slept = 0; judged_dead = 0; w = 0; seen = 0 }
}

inline unlock_it() {
  do
  :: w = word;
     robbed = OWNER(w) != me;
     assert(!robbed);
     if
     :: atomic {
          word == w ->
#ifdef BREAK_INCONSISTENT
          word = (w & STARVED);
#else
          word = (w & STARVED) | (intact -> 0 : INCONSISTENT);
#endif
          holder = 0
        };
        break
     :: atomic { word != w -> skip }
     fi
  od;
  if
  :: w & WAITERS ->
     futex = (futex + 1) & 7;
     atomic { if :: w & STARVED -> wake_all() :: else -> wake_one() fi }
  :: else
  fi;
  atomic { w = 0; turn[h] = 0 }
}

inline work() {
  bool lost_mark;
  if
  :: intact ->
     lost_mark = half_done;
     assert(!lost_mark);
     half_done = 1;
     half_done = 0
  :: !intact ->
     if
     :: half_done = 0; intact = 1       /* repair */
     :: skip                            /* leave that to another */
     fi
  fi
}

proctype Goroutine(byte id; byte h; byte r) {
  byte me, w, flags, seen;
  bool slept, intact, judged_dead, two_holders, robbed;
  {
    me = TOKEN(r, 1);
    lock_it();
    work();
    unlock_it()
  } unless { dead[h] }
}

#ifdef FORGED
proctype Vandal() {
end:
  atomic { OWNER(word) == 0 || OWNER_IS_DEAD -> word = TOKEN(0, 1) | (word & (WAITERS | STARVED)) }
}

/* Handle 0 is rung as often as need be. */
proctype Disowner(byte h; byte r) {
  byte me, w;
  me = TOKEN(r, 1);
  {
end:
    do
#ifndef BREAK_DISOWN
#ifdef BREAK_DISOWN_TURN
    :: OWNER(word) == me ->
#else
    :: atomic { OWNER(word) == me && !turn[h] -> turn[h] = 1 };
#endif
       w = word;
       if
       :: OWNER(w) == me ->
          if
#ifdef BREAK_DISOWN_MARK
          :: atomic { word == w -> word = w & STARVED };
#else
          :: atomic { word == w -> word = (w & STARVED) | INCONSISTENT };
#endif
             futex = (futex + 1) & 7;
             wake_all()
          :: atomic { word != w -> skip }
          fi
       :: else
       fi;
#ifdef BREAK_DISOWN_TURN
       w = 0
#else
       atomic { w = 0; turn[h] = 0 }
#endif
#else
    :: false
#endif
    od
  } unless { dead[h] }
}
#endif

#ifdef SUCCESSOR
proctype Successor(byte id; byte h; byte r) {
  byte me, w, flags, seen;
  bool slept, intact, judged_dead, two_holders, robbed;
end_region_taken:
  atomic { lease[r] == 0 -> lease[r] = h + 1 };
  {
#ifdef BREAK_LATE
    me = TOKEN(r, (generation[r] + 1));
    lock_it();
    generation[r]++;
#else
    generation[r]++;
    me = TOKEN(r, generation[r]);
    lock_it();
#endif
    work();
    unlock_it()
  } unless { dead[h] }
}
#endif

#ifdef REUSE
proctype Reaper() {                     /* while it is at work the lease looks like that of the living */
end:
  atomic { lease[0] == 0 -> lease[0] = REAPERS_LEASE };
  lease[0] = 0
}
#endif

#ifdef FAIR
proctype Forever(byte id; byte h; byte r) {
  byte me, w, flags, seen;
  bool slept, intact, judged_dead, two_holders, robbed;
  me = TOKEN(r, 1);
  do
  :: lock_it(); unlock_it()
  od
}

ltl fair { [] (starving -> <> !starving) }
#else
#ifndef NO_TIMEOUT
active proctype Killer() {
  byte h;
end:
  do
  :: atomic {
       deaths < DEATHS ->
#ifdef REUSE
       h = 3;                             /* the first successor */
#else
       if :: h = 0 :: h = 1 :: h = 2 fi;
#endif
       if
       :: HAS_LEASE(h) -> dead[h] = 1; lease[REGION_OF(h)] = 0; deaths++
       :: else
       fi
     }
  :: atomic { deaths < DEATHS -> deaths = DEATHS }       /* enough */
  od
}
#endif
#endif

init {
  atomic {
    lease[0] = 1; generation[0] = 1;
    lease[1] = 2; generation[1] = 1;
#ifdef FAIR
    run Forever(1, 0, 0);
    run Forever(2, 1, 1)
#else
#ifdef REUSE
    dead[0] = 1; lease[0] = 0;
    word = TOKEN(0, 1); holder = 1; holder_handle = 0; half_done = 1;
#else
    run Goroutine(1, 0, 0);
#endif
    run Goroutine(2, 1, 1);
#ifdef THREE
    lease[2] = 3; generation[2] = 1;
    run Goroutine(3, 2, 2);
#endif
#ifdef FORGED
    run Vandal();
    run Disowner(0, 0);
#endif
#ifdef TWO_GOROUTINES
    run Goroutine(4, 0, 0);
#endif
#ifdef SUCCESSOR
    run Successor(5, 3, 0);
#endif
#ifdef REUSE
    run Successor(4, 4, 0);
    run Reaper();
#endif
    skip
#endif
  }
}
