//go:build !race

#include "textflag.h"

// func matchTags(line unsafe.Pointer, tag uint32) uint32
//
// Four times four 32-bit words are compared with the tag; the masks of four bits
// are put together, and the bits of the upper halves of the first seven words kept.
TEXT ·matchTags(SB), NOSPLIT, $0-20
	MOVQ     line+0(FP), AX
	MOVL     tag+8(FP), BX
	MOVQ     BX, X0
	PSHUFD   $0, X0, X0
	MOVOU    0(AX), X1
	MOVOU    16(AX), X2
	MOVOU    32(AX), X3
	MOVOU    48(AX), X4
	PCMPEQL  X0, X1
	PCMPEQL  X0, X2
	PCMPEQL  X0, X3
	PCMPEQL  X0, X4
	PACKSSLW X2, X1
	PACKSSLW X4, X3
	PACKSSWB X3, X1
	PMOVMSKB X1, CX
	ANDL     $0x2AAA, CX
	MOVL     CX, ret+16(FP)
	RET
