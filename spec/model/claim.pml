/* claim.pml - of all who miss a key one loads its value; loaders die, stop and come late, and the key is set and deleted.

   Where in the code: package slab, claim.go (Claim, Fill, Fail, ClaimOf) and set.go (Put and Remove end a claim); package
   flagstone, load.go (the loader and those who wait).

   A claim is a record beside the key's, with a version of its own, its owner and a deadline. Who finds no value claims the
   key under the lock, or waits for the one who has. Fill compares the claim's version under the lock, ends the claim and
   then shows the value. Set and Delete end the claim first.

   Load-bearing rules, and the variant that drops each:
     BREAK_DEADLINE  the claim of the living is left alone until its deadline
     BREAK_LOOK      the claimer looks for the value again under the lock
     BREAK_FILL      fill compares the version; if any claim will do, a late loader fills under that of its successor
     BREAK_SET       Set ends the claim; without it an older load takes the place of the value
     BREAK_DELETE    Delete ends the claim, also where there is no value: a load from before brings it back
     BREAK_OVERDUE   an overdue claim is taken over; without it somebody stopped keeps all others waiting
     BREAK_DEAD      (with FAR) so is that of the dead; without it a death keeps them waiting until the deadline
     BREAK_END       (with FAR and FAILS) a load that fails ends its claim; without it likewise

   Configurations: LOADERS, DEATHS, SET, DELETE (one of each, after the source has changed), FAILS (a load may fail), FAR
   (deadlines do not come, and nobody is stopped).

   Properties: a load begins only if there is no value and every other one under way is of the dead, overdue, or of a claim
   that a Set or Delete has ended; a value that is stored is not older than the last Set or Delete that returned; when
   all is quiet everybody has a value or an error, whoever is dead or stopped.

   Abstractions: one key; a record is replaced by one store (read.pml), the lock is robust (lock.pml) and a rebuild leaves
   claims and values as they were (rebuild.pml); a stopped loader goes on when nobody else can; evictions, which end
   claims as Delete does, and expired values, which are none, are left out; those who wait look often enough. */

#ifndef LOADERS
#define LOADERS 3
#endif
#ifndef DEATHS
#define DEATHS 1
#endif

byte value;                             /* 0 is none; else what the source said when it was read */
byte claim, claim_owner;                /* its version, 0 is none */
bool overdue;
byte failed;                            /* in place of a claim: the version of the one that failed */
byte counter;
byte lock_owner;
#define NAMES (LOADERS+3)               /* loaders from 1 on, then the setter and the deleter, who live */
bool dead[NAMES];
byte deaths;
bool quiet;                             /* nobody but those who are stopped has anything left to do */

/* What the properties speak of. */
byte source = 1;
byte valid;                             /* what the last Set or Delete that returned has established */
byte loading[NAMES];                    /* the version of the claim under which somebody loads */
bool excused[NAMES];                    /* versions of claims whose loaders others need not wait for */
bool served[NAMES], stopped[NAMES];

#define MAX(a, b) (a > b -> a : b)
#ifdef BREAK_DEAD
#define OF_LIVING true
#else
#define OF_LIVING !dead[claim_owner]
#endif
#ifdef BREAK_OVERDUE
#define IN_TIME true
#else
#define IN_TIME !overdue
#endif
#define LOADING (claim != 0 && OF_LIVING && IN_TIME)

inline lock(id) { atomic { lock_owner == 0 || dead[lock_owner] -> lock_owner = id } }
inline unlock() { lock_owner = 0 }

inline begin_load(id, v, i) {           /* one store: the claim's slot */
  atomic {
    i = 1;
    do
    :: i <= LOADERS -> twice = twice || (loading[i] != 0 && !dead[i] && !excused[loading[i]]); i++
    :: else -> break
    od;
    i = 0;
    needless = value != 0;
    assert(!twice); assert(!needless);
    counter++; v = counter;
    claim = v; claim_owner = id; overdue = 0; failed = 0;
    loading[id] = v
  }
}

inline end_claim() { atomic { excused[claim] = 1; claim = 0; failed = 0 } }

proctype Loader(byte id) {
  byte v, x, i;                         /* the claim, mine or the one that I wait for; what I have loaded */
  bool twice, needless, old_value;
  {
    skip;
again:
    if :: value != 0 -> goto got :: else fi;
    lock(id);
#ifndef BREAK_LOOK
    if :: value != 0 -> unlock(); goto got :: else fi;
#endif
    if
#ifndef BREAK_DEADLINE
    :: LOADING -> v = claim; unlock(); goto wait
    :: else ->
#else
    :: true ->
#endif
       begin_load(id, v, i)
    fi;
    unlock();
    x = source;
    if
#ifndef FAR
    :: stopped[id] = 1; quiet; stopped[id] = 0
#endif
    :: true
    fi;
    lock(id);
#ifdef FAILS
    if
    :: atomic {
         loading[id] = 0;
#ifndef BREAK_END
         if :: claim == v -> excused[v] = 1; claim = 0; failed = v :: else fi
#endif
       };
       unlock(); goto got
    :: true
    fi;
#endif
#ifdef BREAK_FILL
    if :: claim != 0 ->
#else
    if :: claim == v ->
#endif
       end_claim();
       atomic { old_value = x < valid; assert(!old_value); value = x }
    :: else
    fi;
    loading[id] = 0;
    unlock(); goto got;
wait:
    atomic { !LOADING -> if :: failed >= v -> goto got :: else fi };
    goto again;
got:
    atomic { served[id] = 1; v = 0; x = 0 }
  } unless { dead[id] }
}

#ifdef SET
active proctype Setter() {
  byte n;
  atomic { source++; n = source };
  lock(LOADERS + 1);
#ifndef BREAK_SET
  end_claim();
#endif
  value = n;
  unlock();
  atomic { valid = MAX(n, valid); n = 0 }
}
#endif

#ifdef DELETE
active proctype Deleter() {
  byte n;
  atomic { source++; n = source };
  lock(LOADERS + 2);
#ifndef BREAK_DELETE
  end_claim();
#endif
  value = 0;
  unlock();
  atomic { valid = MAX(n, valid); n = 0 }
}
#endif

#ifndef FAR
active proctype Clock() {
end:
  do
  :: atomic { claim != 0 && !overdue -> overdue = 1; excused[claim] = 1 }
  od
}
#endif

active proctype Killer() {
  byte id;
end:
  do
  :: atomic { deaths < DEATHS -> select(id : 1 .. LOADERS); if :: !dead[id] -> dead[id] = 1; deaths++ :: else fi; id = 0 }
  :: atomic { deaths < DEATHS -> deaths = DEATHS }       /* enough */
  od
}

active proctype Quiet() {
  byte i;
  bool kept_waiting;
  atomic {
    timeout ->
    for (i : 1 .. LOADERS) { kept_waiting = kept_waiting || (!served[i] && !dead[i] && !stopped[i]) };
    assert(!kept_waiting);
    i = 0; quiet = 1
  }
}

init {
  byte i;
  atomic { for (i : 1 .. LOADERS) { run Loader(i) }; i = 0 }
}
