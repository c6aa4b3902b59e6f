// Package step names the moments at which a process may die: every store that
// changes what processes share, and every system call that does. With the build tag
// steps each of them first calls Passing; without it there is nothing of it in the
// program.
//
// Stores have their steps by their type: the words of package layout are those of
// sync/atomic, and with the tag they are types of their own whose every store passes
// a step. So no store can be without. System calls say Here.
package step
