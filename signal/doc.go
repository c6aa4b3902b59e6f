// Package signal wakes processes through the doorbell of their region: by a
// signal, by a futex, or not at all.
//
//	notifier  Reasons |= bit; Door++; if Sleeping: wake
//	waiter    seen = Door; take Reasons; Sleeping = 1; if Door != seen: again;
//	          wait while Door == seen; Sleeping = 0
//
// Only the waiter writes Sleeping, so no notifier can die having silenced the
// others, and every Ring that completed is noticed. A wake-up is a hint to look;
// the words are the truth, and a slow poll of them is the safety net for a
// notifier that died or was refused after Door++. PROTOCOL.md, "Doorbell";
// model: doorbell.pml.
package signal
