/* doorbell.pml - ringing a process that may be asleep, by ringers that may die.

   Where in the code: package signal, Ring (the notifier), Listen and listen (the waiter).

   Notifier: reasons |= mine; door++; if sleeping: wake. Waiter: seen = door; take the reasons; sleeping = 1; if door is
   still seen, wait; sleeping = 0. Only the waiter writes sleeping.

   Load-bearing rules, and the variant that drops each:
     BREAK_ORDER     the notifier stores its reason before it moves the door
     BREAK_SEEN      the waiter looks at the door before it takes the reasons
     BREAK_RECHECK   (with SIGNAL) the waiter looks at the door again after sleeping = 1; a futex wait looks by itself
     BREAK_SLEEPING  the notifier looks at sleeping after it has moved the door
     BREAK_CLEAN     (with REUSE) the region of a dead waiter is cleaned before it is its successor's; otherwise a reason that
                     is already meant for him is wiped out
     BREAK_SUPPRESS  a notifier never leaves the wake-up to another who "has already rung": that one may be dead

   Configurations: SIGNAL (wake by signal, kept in a channel of one; default: a futex, which keeps nothing), NOTIFIERS,
   DEATHS (of notifiers), REUSE (the waiter dies, and another takes over its region).

   Property: when all is quiet, the reason of every notify of the living waiter that completed has been taken. (Polling is
   the net under this; here there is none.)

   Abstractions: sequentially consistent memory; each notifier rings once. */

#ifndef NOTIFIERS
#define NOTIFIERS 3
#endif
#ifndef DEATHS
#define DEATHS 1
#endif

byte reasons;                           /* one bit a notifier */
byte door;
bool sleeping;
bool queued;                            /* the waiter is in the futex's queue */
bool channel;                           /* a signal is waiting */
bool rung;                              /* BREAK_SUPPRESS only */
bool dead[NOTIFIERS];
byte deaths;

byte claimed = 1;                       /* region's state: whose it is, or 0 while it is cleaned */
bool waiter_dead;

byte completed, taken;                  /* what the property speaks of: one bit a notifier */

#ifdef REUSE
#define LAST_WAITER 2
#else
#define LAST_WAITER 1
#endif

#ifdef SIGNAL
#define WAKE channel = 1
#else
#define WAKE queued = 0
#endif

inline listen() {
  do
  :: true ->
#ifdef BREAK_SEEN
     atomic { taken = taken | reasons; reasons = 0 };
     seen = door;
#else
     seen = door;
     atomic { taken = taken | reasons; reasons = 0 };
#endif
     rung = 0;
     sleeping = 1;
     if
#ifndef BREAK_RECHECK
     :: door != seen -> skip
     :: door == seen ->
#else
     :: true ->
#endif
#ifdef SIGNAL
end_signal:
        atomic { channel -> channel = 0 }
#else
        atomic { if :: door == seen -> queued = 1 :: else fi };
end_futex:
        !queued
#endif
     fi;
     sleeping = 0
  od
}

active proctype Waiter() {
  byte seen;
  { listen() } unless { waiter_dead }
}

#ifdef REUSE
active proctype Successor() {
  byte seen;
end_none:
  atomic { waiter_dead = 1; queued = 0; channel = 0 };    /* at any time */
  claimed = 0;
#ifdef BREAK_CLEAN
  claimed = 2;
#endif
  sleeping = 0;
  reasons = 0;
  claimed = 2;
  listen()
}
#endif

proctype Notifier(byte id) {
  bool was;
  byte whose;
  {
    whose = claimed;
    if :: whose == 0 -> goto done :: else fi;
#ifdef BREAK_SLEEPING
    was = sleeping;
#endif
#ifdef BREAK_ORDER
    door++;
    reasons = reasons | (1 << id);
#else
    reasons = reasons | (1 << id);
    door++;
#endif
#ifndef BREAK_SLEEPING
    was = sleeping;
#endif
#ifdef BREAK_SUPPRESS
    atomic { was = was && !rung; rung = 1 };
#endif
    if :: was -> WAKE :: else fi;
    if :: whose == LAST_WAITER -> completed = completed | (1 << id) :: else fi;
done:
    skip
  } unless { dead[id] }
}

active proctype Killer() {
  byte id;
end:
  do
  :: atomic { deaths < DEATHS -> select(id : 0 .. NOTIFIERS - 1); if :: !dead[id] -> dead[id] = 1; deaths++ :: else fi }
  :: atomic { deaths < DEATHS -> deaths = DEATHS }       /* enough */
  od
}

active proctype Quiet() {
  bool lost;
end:
  atomic { timeout -> lost = (completed & ~taken) != 0; assert(!lost) }
}

init {
  byte i;
  atomic { for (i : 0 .. NOTIFIERS - 1) { run Notifier(i) } }
}
