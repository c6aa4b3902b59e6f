/* create.pml - many open a domain that is not there yet, some die at it, one destroys it.

   Where in the code: package table, create.go (prepare, look, initialise), domain.go (current, destroy).

   Opener: open the path, making an empty file if there is none; if the file is READY use it; otherwise take the file's
   init byte (a lock that the kernel frees on death), compare the descriptor's file with the path's, look again, write
   everything from scratch, READY last. Destroyer: take the init byte, compare, mark the file DESTROYED, move the path
   away. Who finds a file DESTROYED finishes that (under the init byte) and opens again.

   Load-bearing rules, and the variant that drops each:
     BREAK_READY_FIRST  READY is stored last; otherwise the next one uses what the dead one had not written
     BREAK_INODE        (with RUDE) the files are compared after the lock; otherwise an opener works in a file that
                        nobody else will find. Against a destroyer that keeps the rules its mark alone would do
     BREAK_LOCK         initialising takes the lock; otherwise two do it at once, and one wipes what the other has READY
     BREAK_LOOK         READY is looked at again under the lock; otherwise it is initialised twice

   Configurations: OPENERS, DESTROY (a destroyer), RUDE (somebody moves the path away without lock or mark, as rm would),
   DEATHS.

   Properties: a file is initialised once; nobody uses a file before it is whole; two that opened with no destruction
   between have the same file; nobody is stuck.

   Abstractions: path lookup, open and comparison are single steps; the contents are three words; removing the files of a
   destroyed domain harms nobody. */

#ifndef OPENERS
#define OPENERS 3
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#define FILES 6
#ifdef DESTROY
#define DESTROYERS 1
#else
#define DESTROYERS 0
#endif

#define DESTROYED 2

byte path;                              /* the file that the path names, or 0 */
byte files;                             /* files made so far */
byte ready[FILES];                      /* 0, 1, DESTROYED */
byte words[FILES];                      /* contents written: 3 is whole */
byte init_byte[FILES];                  /* holder's pid, or 0 */
bool dead[12];
byte first;                             /* pid of the first opener; the destroyer's is the last */
byte deaths;

/* What the properties speak of. */
byte moved;                             /* how often the path was moved away */
byte opened[12], opened_at[12];         /* by pid: the file in use, and `moved` when it was compared */
bool initialised[FILES];

#define FREE_BYTE(f) (init_byte[f] == 0 || dead[init_byte[f]])

inline lock_byte(f)   { atomic { FREE_BYTE(f) -> init_byte[f] = _pid } }
inline unlock_byte(f) { atomic { if :: init_byte[f] == _pid -> init_byte[f] = 0 :: else fi } }

inline initialise(f) {
  twice = initialised[f];
  assert(!twice);
  words[f] = 0;                         /* truncate */
#ifdef BREAK_READY_FIRST
  ready[f] = 1;
#endif
  words[f] = 1;
  words[f] = 2;
  words[f] = 3;
#ifndef BREAK_READY_FIRST
  ready[f] = 1;
#endif
  initialised[f] = 1
}

inline remove_path(f) { atomic { if :: path == f -> path = 0; moved++ :: else fi } }

proctype Opener() {
  byte f, at;
  bool not_whole, twice, split;
  {
    skip;
again:
    atomic {                            /* open, O_CREAT */
      if
      :: path == 0 -> files++; path = files
      :: else
      fi;
      f = path; at = moved
    };
    if
    :: ready[f] == 1 -> goto use
    :: else
    fi;
#ifndef BREAK_LOCK
    lock_byte(f);
#endif
#ifndef BREAK_INODE
    atomic {
      at = moved;
      if
      :: path != f -> goto moved_away
      :: else
      fi
    };
#else
    at = moved;
#endif
#ifdef BREAK_LOOK
    if
    :: ready[f] == DESTROYED -> remove_path(f); goto moved_away
    :: else -> initialise(f)
    fi;
#else
    if
    :: ready[f] == DESTROYED -> remove_path(f); goto moved_away
    :: ready[f] == 0 -> initialise(f)
    :: ready[f] == 1
    fi;
#endif
    unlock_byte(f);
use:
    skip;
    d_step {
      not_whole = words[f] != 3;
      assert(!not_whole);
      opened[_pid] = f; opened_at[_pid] = at;
      at = 1;
      do
      :: at < 12 -> if :: opened[at] != 0 && opened[at] != f && opened_at[at] == opened_at[_pid] -> split = 1 :: else fi; at++
      :: else -> break
      od;
      assert(!split);
      at = 0
    };
    not_whole = words[f] != 3;          /* still, as long as it is used */
    assert(!not_whole);
    goto done;
moved_away:
    unlock_byte(f);
    goto again;
done:
    skip
  } unless { dead[_pid] }
}

proctype Destroyer() {
  byte f;
  {
    f = path;
    if
    :: f == 0 -> goto done              /* there is none */
    :: else
    fi;
    lock_byte(f);
    if
    :: path != f -> unlock_byte(f); goto done
    :: else
    fi;
    ready[f] = DESTROYED;
    remove_path(f);
    unlock_byte(f);
done:
    skip
  } unless { dead[_pid] }
}

#ifdef RUDE
active proctype Rude() {
end:
  atomic { path != 0 -> path = 0; moved++ }
}
#endif

active proctype Killer() {
  byte p;
end:
  do
  :: atomic {
       first != 0 && deaths < DEATHS ->
       p = first; do :: p < first + OPENERS + DESTROYERS - 1 -> p++ :: break od;
       if :: !dead[p] -> dead[p] = 1; deaths++; opened[p] = 0 :: else fi
     }
  :: atomic { deaths < DEATHS -> deaths = DEATHS }       /* enough */
  od
}

init {
  byte i;
  atomic {
    first = _pid + 1;
    for (i : 1 .. OPENERS) { run Opener() };
#ifdef DESTROY
    run Destroyer();
#endif
    i = 0
  }
}
