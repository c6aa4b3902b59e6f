/* between.pml - a record moves from one stack to another, which have locks and versions of their own.

   Where in the code: root, move.go (carry); package slab, Aged, Insert, Withdraw.

   Mover: 1. copy the record under the source's lock; 2. store it under the target's lock, with a version of the target's,
   in place of what is there; 3. under the source's lock remove it, if its version is the one copied; 4. if it was not,
   take the copy in the target back, if its version is still the one stored, unless it took another record's place. Before 3
   it looks whether the record's namespace is still there: if that was cleared, 3 removes the record and 4 its copy.

   Load-bearing rules, and the variant that drops each:
     BREAK_ORDER    copied before it is removed; otherwise who looks in both misses it
     BREAK_SOURCE   3 compares the version; otherwise a value set meanwhile is lost
     BREAK_TARGET   (with TARGET) 4 compares the version; otherwise a value set in the target meanwhile is lost
     BREAK_BACK     (with DELETE) the copy is taken back; otherwise what was deleted stays in the target
     BREAK_PLACE    (with DELETE, THERE) but not if it took a record's place; otherwise the target is left with none
     BREAK_CLEARED  (with CLEAR) the second look at the namespace; otherwise what was cleared before it is in the target

   Configurations: SET or DELETE (in the source), TARGET (a Set in the target), THERE (the target has a record of the key
   before), CLEAR (the source's namespace is cleared), DEATHS (of the mover, between two locks: in both is allowed then).

   Properties: who looks into the source, then into the target, does not miss a key that stays; a Set that returned is
   found where it was made, unless another one or the move took its place; when all is quiet and the mover lives, what was
   deleted, or cleared before the second look, is not in the target because of the move; the target is not left without.

   Abstractions: one key; each step under a lock is one step (lock.pml, tiers.pml); room is always there. */

#ifndef DEATHS
#define DEATHS 0
#endif

#ifdef THERE
#define BEFORE 10
#else
#define BEFORE 0
#endif
byte source = 1, target = BEFORE;                /* version of the record, 0 is none */
byte versions = 1;                      /* of the source's */
byte target_versions = 10;
bool named = 1;                         /* the source's namespace has the id of the records */

/* What the properties speak of. */
bool deleted, cleared_before_look, target_set, source_set;
bool dead_mover, finished;

#define FOUND_IN_SOURCE (source != 0 && named)

active proctype Mover() {
  byte copied, stored;
  bool replaced, removed, keep, lost;
  {
    keep = named;
    if :: !keep -> goto done :: else fi;
    copied = source;
    if :: copied == 0 -> goto done :: else fi;
#ifdef BREAK_ORDER
    atomic { if :: source == copied -> source = 0; removed = 1 :: else fi };
    atomic { target_versions++; stored = target_versions; replaced = target != 0; target = stored };
#else
    atomic { target_versions++; stored = target_versions; replaced = target != 0; target = stored };
#ifndef BREAK_CLEARED
    atomic { keep = named; cleared_before_look = !named };
#else
    cleared_before_look = !named;
#endif
    atomic {
#ifdef BREAK_SOURCE
      lost = source_set && source != 0 && source != copied;
      assert(!lost);
      removed = source != 0; source = 0
#else
      if :: source == copied -> source = 0; removed = 1 :: else fi
#endif
    };
#endif
    if
#ifndef BREAK_BACK
#ifdef BREAK_PLACE
    :: !keep || !removed ->
#else
    :: !keep || (!removed && !replaced) ->
#endif
       atomic {
#ifdef BREAK_TARGET
         lost = target_set && target != 0 && target != stored;
         assert(!lost);
         target = 0
#else
         if :: target == stored -> target = 0 :: else fi
#endif
       }
#endif
    :: else
    fi;
done:
    finished = 1
  } unless { dead_mover }
}

#ifdef SET
active proctype Setter() {
  atomic { versions++; source = versions; source_set = 1 }
}
#endif

#ifdef DELETE
active proctype Deleter() {
  atomic { if :: source != 0 -> source = 0; deleted = 1 :: else fi }
}
#endif

#ifdef TARGET
active proctype TargetSetter() {
  atomic { target_versions++; target = target_versions; target_set = 1 }
}
#endif

#ifdef CLEAR
active proctype Clearer() {
  named = 0
}
#endif

active proctype Reader() {
  bool missed;
  if
  :: FOUND_IN_SOURCE -> goto out
  :: else
  fi;
  missed = target == 0 && !deleted && named;
  assert(!missed);
out:
  skip
}

active proctype Killer() {
end:
  atomic { DEATHS > 0 && !finished -> dead_mover = 1 }
}

active proctype Quiet() {
  bool lost, came_back, left_without;
end:
  atomic {
    timeout ->
    lost = (source_set && source == 0 && target == 0 && named) || (target_set && target == 0);
    assert(!lost);
#ifndef THERE
    came_back = finished && !target_set && target != 0 && (deleted || cleared_before_look);
    assert(!came_back);
#else
    left_without = target == 0 && !cleared_before_look;
    assert(!left_without);
#endif
    skip
  }
}
