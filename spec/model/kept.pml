/* kept.pml - who is dead, when a child that was forked without exec may keep a lease.

   Where in the code: package table (Dead, gone, fate, claim), internal/identity (Fate).

   One region and one lock. An owner takes the lease with the next generation, writes its identity, stores CLAIMED, takes the
   lock and gives it back, and leaves or dies anywhere; if it dies a child may keep the lease, and end later or never. Who
   waits for the lock takes it from an owner that is dead: the region is not CLAIMED in that generation, or the lease is
   free, or the identity's process is gone. An identity is a pid, the inode of its pidfd, which no other process ever
   has, and the namespace of the pid. What a judge can ask is which inode the process has that has the pid in the judge's own.

   Load-bearing rules, and the variant that drops each:
     BREAK_KEPT        a held lease alone is not proof of life
     BREAK_PID         inodes are compared: whoever has the pid now need not be the owner
     BREAK_ELSEWHERE   a pid of another namespace says nothing
     BREAK_QUARANTINE  the region of the gone is nobody's before the lease is free

   Properties: nobody is robbed while he lives; when all is quiet nobody waits for one that is gone, in the judge's own
   namespace.

   Abstractions: owners come one after the other and have, in the judge's namespace, one pid in turn; boots, start ticks, what
   reaping cleans (region.pml) and how one waits (lock.pml) are left out. */

#define OWNERS 3
#define STRANGER 100                    /* inode of a process that has nothing to do with this */

byte generation;                        /* with claimed, the region's state word */
bool claimed;
byte lease;                             /* generation whose description has it, 0 is nobody */
byte id_inode, id_space;                /* the identity in the region; its pid is the one there is */
byte word;                              /* the lock: its owner's generation, 0 is free */
byte at_pid;                            /* inode of the process that has the pid in namespace 0, 0 is nobody */
bool alive[OWNERS + 1];
byte space[OWNERS + 1];

inline perish(me) {                     /* of a process: its pid is free, and perhaps another's */
  alive[me] = 0;
  if
  :: space[me] == 0 -> if :: at_pid = 0 :: at_pid = STRANGER fi
  :: else
  fi
}

proctype Owner() {
  byte me;
end:                                    /* quarantine may last */
  atomic {                              /* settle */
#ifdef BREAK_QUARANTINE
    if :: lease == 0 -> lease = generation + 1 :: lease != 0 && !alive[lease] -> skip fi;
#else
    lease == 0 -> lease = generation + 1;
#endif
    generation++; me = generation; claimed = 0;
    alive[me] = 1;
    if :: space[me] = 0; at_pid = me :: space[me] = 1 fi
  };
  id_inode = me;
  id_space = space[me];
  claimed = 1;
  if
  :: atomic { word == 0 -> word = me };
     if
     :: atomic { word == me -> word = 0 }       /* gives it back */
     :: skip
     fi
  :: skip
  fi;
  if
  :: atomic { word != me -> claimed = 0; perish(me); if :: lease == me -> lease = 0 :: else fi; goto done } /* leaves */
  :: atomic { perish(me); if :: lease == me -> lease = 0 :: else fi; goto done }  /* dies */
  :: perish(me)                                                                 /* dies, and leaves a child */
  fi;
  if
  :: atomic { if :: lease == me -> lease = 0 :: else fi }
  :: skip                               /* a child that never ends */
  fi;
done:
  skip
}

inline judge() {                        /* who waits looks at the lock's word, and takes it from the dead */
  atomic { token = word; gone = 0 };
  if
  :: token == 0
  :: else ->
     if
     :: atomic { !(claimed && generation == token) || lease == 0 -> gone = 1 }
     :: else
#ifndef BREAK_KEPT
        ->
        inode = id_inode;
#ifndef BREAK_ELSEWHERE
        gone = (id_space == 0);
#else
        gone = 1;
#endif
#ifdef BREAK_PID
        gone = gone && at_pid == 0
#else
        gone = gone && at_pid != inode
#endif
#endif
     fi;
     atomic {
       if
       :: gone && word == token -> robbed = alive[token]; assert(!robbed); word = 0
       :: else
       fi
     }
  fi
}

proctype Judge() {
  byte token, inode;
  bool gone, robbed;
  judge();
  judge()
}

active proctype Last() {                /* when nothing else moves */
  byte token, inode;
  bool gone, robbed, kept_waiting;
end:
  timeout ->
  judge();
  kept_waiting = word != 0 && !alive[word] && space[word] == 0;
  assert(!kept_waiting)
}

init {
  byte i;
  atomic {
    run Judge();
    for (i : 1 .. OWNERS) { run Owner() }
  }
}
