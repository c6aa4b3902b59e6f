/* overflow.pml - overflow buckets come and go under lock-free readers.

   Where in the code: package slab, index.go (vacant, trim), set.go (write), get.go (read).

   Under the column's lock, Set stores a new key into the first empty slot of its chain; if there is none it takes an
   overflow bucket from the pool, links it, empty, to the end of the chain, and then stores the slot. Delete clears the
   slot and unlinks the empty buckets at the END of the chain; they go to the pool (their links now belong to the pool)
   and into other chains. A key that stays keeps its slot. Readers walk slot, link, slot, link, without lock.

   Load-bearing rules, and the variant that drops each:
     BREAK_MIDDLE     only buckets at the end are unlinked: whatever stands before a key that stays is then linked as
                      long as the key is there. Without it a reader inside such a bucket follows its new link and misses
                      the key behind it
     BREAK_MOVE       a live entry is never moved to fill a hole: a reader past the hole misses it
     BREAK_LINK_LAST  the bucket is linked before its slot is stored. The other way round a reader that is still inside
                      the bucket from its last life finds the key before it is visible, and the next reader misses it

   Configurations: OPS (what the writer does, any Set or Delete of five keys), READS (one reader's Gets, one after the
   other).

   Properties: a key that is there throughout, or that somebody has read and nobody deleted, is not missed; nothing older
   than what was established. (Readers compare keys, so a foreign bucket's records are no danger.)

   Abstractions: two chains, a bucket has one slot, the pool has two buckets; slots name records that are never used
   again (reuse of cells: read.pml); one writer stands for all, as they hold the lock; nobody dies (rebuild.pml: the
   epoch makes readers look again). A reader that has walked further than a chain can be long starts over. */

#ifndef OPS
#define OPS 3
#endif
#ifndef READS
#define READS 2
#endif

#define A 0                             /* the first buckets of two chains */
#define B 1
#define BUCKETS 4
#define K 1                             /* the key that is looked for; 1, 2, 3 hash to A, 4, 5 to B */
#define HOME(k) (k <= 3 -> A : B)

byte slot[BUCKETS], link[BUCKETS];      /* buckets 2 and 3 are the overflow pool */
byte pool;
bool live[10];                          /* the record's version is even */
byte key[10];                           /* by record; never changes */

/* What the properties speak of. */
byte issued;
byte set_done, removed, last_read;
bool present;

#define MAX(a, b) (a > b -> a : b)

inline find(k, b) { b = HOME(k); do :: slot[b] != 0 && key[slot[b]] == k -> break :: else -> if :: link[b] != 0 -> b = link[b] :: else -> b = 255; break fi od }
inline hole(k, b) { b = HOME(k); do :: slot[b] == 0 -> break :: else -> if :: link[b] != 0 -> b = link[b] :: else -> break fi od }

inline trim(k, b, last) {               /* unlink what is empty at the end */
  d_step {
    b = HOME(k); last = b;
    do
    :: link[b] != 0 -> b = link[b]; if :: slot[b] != 0 -> last = b :: else fi
    :: else -> break
    od;
    b = link[last]; link[last] = 0; last = 0
  };
  do
  :: b != 0 -> d_step { last = link[b]; link[b] = pool; pool = b; b = last }
  :: else -> break
  od
}

inline unlink_middle(k, b, last) {      /* BREAK_MIDDLE: unlink the first empty bucket wherever it is */
  d_step {
    last = HOME(k); b = link[last];
    do
    :: b != 0 && slot[b] != 0 -> last = b; b = link[b]
    :: else -> break
    od;
    if :: b != 0 -> link[last] = link[b] :: else fi
  };
  if :: b != 0 -> d_step { link[b] = pool; pool = b } :: else fi
}

inline move(k, b, last) {               /* BREAK_MOVE: the chain's last entry fills the hole */
  d_step {
    b = HOME(k); last = 255;
    do
    :: slot[b] == 0 && last == 255 -> last = b
    :: else -> if :: link[b] != 0 -> b = link[b] :: else -> break fi
    od;
    if :: last != 255 && slot[b] != 0 -> slot[last] = slot[b] :: else -> b = 255 fi
  };
  if :: b != 255 -> slot[b] = 0 :: else fi
}

inline store(b, k, n) {
  d_step {
    slot[b] = n; set_done = (k == K -> n : set_done);
#ifndef BREAK_LINK_LAST
    present = present || k == K
#endif
  }
}

proctype Writer() {
  byte ops, k, b, x, n, old;
  do
  :: ops < OPS ->
     ops++;
     atomic { if :: k = 1 :: k = 2 :: k = 3 :: k = 4 :: k = 5 fi; find(k, b) };
     if
     :: d_step { issued++; n = issued; key[n] = k; live[n] = 1 };
        if
        :: b != 255 ->                  /* replace */
           d_step { old = slot[b]; slot[b] = n; set_done = (k == K -> n : set_done) };
           live[old] = 0
        :: else ->
           d_step { hole(k, b); x = pool };
           if
           :: slot[b] == 0 -> store(b, k, n)
           :: slot[b] != 0 && x == 0    /* ErrFull */
           :: slot[b] != 0 && x != 0 ->
              d_step { pool = link[x]; link[x] = 0 };
#ifdef BREAK_LINK_LAST
              store(x, k, n);
              d_step { link[b] = x; present = present || k == K }
#else
              link[b] = x;
              store(x, k, n)
#endif
           fi
        fi
     :: b != 255 ->                     /* Delete */
        d_step { issued++; n = issued; live[slot[b]] = 0; if :: k == K -> present = 0; removed = n :: else fi };
        slot[b] = 0;
#ifdef BREAK_MOVE
        move(k, b, x);
#endif
#ifdef BREAK_MIDDLE
        unlink_middle(k, b, x)
#else
        trim(k, b, x)
#endif
     fi;
     atomic { k = 0; b = 0; x = 0; n = 0; old = 0 }
  :: else -> break
  od
}

proctype Reader() {
  byte b, s, steps, floor, was_removed, times = READS;
  bool expected, missed, old_value;
start:
  atomic {
    times--;
    floor = MAX(set_done, removed);
    floor = MAX(floor, last_read);
    expected = present || last_read > removed;
    was_removed = removed
  };
again:
  atomic { b = A; steps = 0 };
  do
  :: s = slot[b];
     if
     :: s != 0 && key[s] == K ->
        if :: !live[s] -> goto look_again :: else fi;
        if :: slot[b] == s -> goto hit :: else fi
look_again:
        skip
     :: else
     fi;
     if
     :: slot[b] != s                    /* look at this slot again */
     :: else ->
        s = link[b];
        steps++;
        if
        :: s == 0 -> break
        :: s != 0 && steps == BUCKETS -> goto again
        :: else -> b = s
        fi
     fi
  od;
  missed = expected && removed == was_removed;
  assert(!missed);
  goto done;
hit:
  atomic {
    old_value = s < floor;
    assert(!old_value);
    last_read = MAX(last_read, s)
  };
done:
  atomic { b = 0; s = 0; if :: times > 0 -> goto start :: else fi }
}

init {
  atomic {
    /* A: 2, 3, 1 and nothing in the pool; or A: 2, 1 and one bucket in the pool; or A: 2 and B: 4, 5 */
    key[1] = 2; live[1] = 1; slot[A] = 1;
    key[2] = 4; live[2] = 1; slot[B] = 2;
    issued = 4;
    if
    :: key[3] = 3; live[3] = 1; slot[2] = 3; link[A] = 2;
       key[4] = K; live[4] = 1; slot[3] = 4; link[2] = 3; present = 1; set_done = 4
    :: key[4] = K; live[4] = 1; slot[2] = 4; link[A] = 2; pool = 3; present = 1; set_done = 4
    :: key[3] = 5; live[3] = 1; slot[2] = 3; link[B] = 2; pool = 3
    fi;
    run Writer();
    run Reader()
  }
}
