/* doorbell.pml - ringing a process that may be asleep, by ringers that may die.

   Where in the code: package signal, Ring (the notifier), Listen and listen (the waiter).

   Notifier: reasons |= mine; door++; if sleeping: wake. Waiter: seen = door; take the reasons; sleeping = 1; if door is
   still seen, wait; sleeping = 0. Only the waiter writes sleeping.

   Load-bearing rules, and the variant that drops each:
     BREAK_ORDER     the notifier stores its reason before it moves the door
     BREAK_SEEN      the waiter looks at the door before it takes the reasons
     BREAK_RECHECK   (with SIGNAL) the waiter looks at the door again after sleeping = 1; a futex wait looks by itself
     BREAK_SLEEPING  the notifier looks at sleeping after it has moved the door
     BREAK_SUPPRESS  a notifier never leaves the wake-up to another who "has already rung": that one may be dead

   Configurations: SIGNAL (wake by signal, kept in a channel of one; default: a futex, which keeps nothing), NOTIFIERS,
   DEATHS.

   Property: when all is quiet, the reason of every notify that completed has been taken. (Polling is the net under
   this; here there is none.)

   Abstractions: sequentially consistent memory; each notifier rings once; the waiter lives. */

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

byte completed;                         /* what the property speaks of: one bit a notifier */

#ifdef SIGNAL
#define WAKE channel = 1
#else
#define WAKE queued = 0
#endif

active proctype Waiter() {
  byte seen;
  do
  :: true ->
#ifdef BREAK_SEEN
     reasons = 0;
     seen = door;
#else
     seen = door;
     reasons = 0;
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
end_wait:
        atomic { channel -> channel = 0 }
#else
        atomic { if :: door == seen -> queued = 1 :: else fi };
end_wait:
        !queued
#endif
     fi;
     sleeping = 0
  od
}

proctype Notifier(byte id) {
  bool was;
  {
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
    completed = completed | (1 << id)
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
  atomic { timeout -> lost = (reasons & completed) != 0; assert(!lost) }
}

init {
  byte i;
  atomic { for (i : 0 .. NOTIFIERS - 1) { run Notifier(i) } }
}
