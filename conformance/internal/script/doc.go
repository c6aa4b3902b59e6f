// Package script runs cases that are written as lines of the line protocol, each with
// the answer that it has to have.
//
//	open entries=64                     # any "ok" will do
//	set 'key' 'value' tag=7 -> ok $v
//	1: get 'key' -> ok 'value' $v 0 0 7  # by testee 1; the others are by testee 0
//	1: ~ steward -> ok $region           # again until it is so
//	1: & await 3                         # sent; other lines go on
//	ring $region 3
//	1: = -> ok                           # and its answer
//	!kill 1
//	check -> ok 0
//
// 'text' stands for its bytes, 'x'*3 for 'xxx', {5} for a counter's bytes. $name is a
// number or word that was met, or is met here for the first time, $name+5 a sum. In
// answers _ is any word, * any further words, A..B a number between two, X|Y either word,
// and "A / B" either answer.
// Rows follow their command, a line each, with | in front; a last one of * is any further rows. M is the process that
// makes the domain where testees of lower levels are looked at. What comes after two
// spaces and # is a comment.
package script
