//go:build !race && !steps

#include "go_asm.h"
#include "textflag.h"
#include "match_amd64.h"

// MATCH leaves in SLOT the address of the first slot of the hash's bucket that has
// the tag, and jumps to NONE if there is none. F is the Finder, TAG becomes the tag,
// AX, CX and X0 to X4 are lost.
#define MATCH(F, HASH, TAG, SLOT, NONE) \
	MOVL  HASH, AX;                            \
	IMULQ Finder_Buckets(F), AX;               \
	SHRQ  $32, AX;                             \
	SHLQ  $6, AX;                              \
	ADDQ  (Finder_Index+Window_base)(F), AX;   \
	MOVQ  HASH, TAG;                           \
	SHRQ  $const_tagShift, TAG;                \
	COMPARE(AX, TAG);                          \
	BSFL  CX, CX;                              \
	JZ    NONE;                                \
	LEAQ  -4(AX)(CX*4), SLOT

// func Find(f *Finder, dst, key []byte, hash uint64, word uint32) (n int, cell *layout.CellHeader, recency uint64)
//
// Loads are not reordered with loads here, so plain ones between two looks at the
// version are enough.
TEXT ·Find(SB), NOSPLIT, $0-96
	MOVQ f+0(FP), DI
	MOVQ hash+56(FP), R8
	MOVQ Finder_Epoch(DI), AX
	MOVQ (AX), R15                 // pairs with rebuild
	TESTQ $const_rebuilding, R15
	JNZ  no
	MATCH(DI, R8, R9, R10, no)

	MOVQ (R10), R11                // the slot; pairs with write
	MOVQ R11, AX
	SHRQ $const_tagShift, AX
	CMPQ AX, R9
	JNE  no
	MOVL R11, R12
	DECL R12
	CMPQ R12, Finder_Count(DI)     // cell 0 has become a large number
	JAE  no
	IMULQ Finder_CellSize(DI), R12
	ADDQ (Finder_Cells+Window_base)(DI), R12

	MOVQ const_cellVersion(R12), R13 // pairs with fill and release
	TESTQ R13, R13
	JZ   no
	TESTQ $const_stateMask, R13
	JNZ  no
	MOVL const_cellKeyFlags(R12), AX
	CMPL AX, word+64(FP)
	JNE  no
	MOVQ key_len+40(FP), DX
	CMPQ DX, $const_maxKeyLength
	JA   no
	MOVL const_cellValueLen(R12), BX
	CMPQ BX, dst_len+16(FP)
	JA   no
	CMPQ BX, $const_findLimit
	JA   no
	LEAQ (BX)(DX*1), AX
	CMPQ AX, Finder_Payload(DI)
	JA   no
	MOVQ const_cellExpiry(R12), AX
	SHLQ $const_staleBits, AX        // what is left is the expiry, 0 being never
	JZ   unexpired
	SHRQ $const_staleBits, AX
	MOVQ Finder_Wall(DI), CX
	CMPQ AX, (CX)
	JBE  no

unexpired:
	MOVQ const_cellRecency(R12), R9
	MOVQ R9, AX                      // did the record go to the front in another turn?
	SHRQ $const_turnShift, AX
	MOVQ Finder_Turn(DI), CX
	XORQ (CX), AX
	TESTQ $const_turnMask, AX
	JNZ  no
	MOVQ key_base+32(FP), SI
	LEAQ const_cellPayload(R12), DI  // key bytes, then value bytes
	CMPQ DX, $8
	JB   shortKey
	MOVQ (SI), AX
	CMPQ AX, (DI)
	JNE  no
	MOVQ -8(SI)(DX*1), AX
	CMPQ AX, -8(DI)(DX*1)
	JNE  no
	CMPQ DX, $16
	JA   longKey

same:
	ADDQ DX, DI
	MOVQ dst_base+8(FP), SI
	CMPQ BX, $16
	JB   shortValue
	XORL CX, CX
	LEAQ -32(BX), R8               // what is left for the end: 32 bytes, or less than 0
	CMPQ BX, $32
	JBE  valueEnd

value32:
	MOVOU (DI)(CX*1), X0
	MOVOU 16(DI)(CX*1), X1
	MOVOU X0, (SI)(CX*1)
	MOVOU X1, 16(SI)(CX*1)
	ADDQ $32, CX
	CMPQ CX, R8
	JB   value32
	MOVOU (DI)(R8*1), X0
	MOVOU X0, (SI)(R8*1)
	MOVOU 16(DI)(R8*1), X1
	MOVOU X1, 16(SI)(R8*1)
	JMP  whole

valueEnd: // 16 to 32 bytes
	MOVOU (DI), X0
	MOVOU -16(DI)(BX*1), X1
	MOVOU X0, (SI)
	MOVOU X1, -16(SI)(BX*1)

whole:
	CMPQ R13, const_cellVersion(R12) // read.pml BREAK_FREE
	JNE  no
	CMPQ R11, (R10)                  // read.pml BREAK_HIT
	JNE  no
	MOVQ f+0(FP), DI
	MOVQ Finder_Epoch(DI), AX
	CMPL R15, (AX)                   // the lower half: rebuild.pml BREAK_EPOCH_HIT, comeback.pml BREAK_HIT
	JNE  no
	MOVQ BX, n+72(FP)

	// The new word, without a branch: what it is hangs on memory that is not there yet.
	MOVQ R9, CX
	MOVQ Finder_Raise(DI), DX        // is the use count full?
	MOVQ R9, AX
	ANDQ DX, AX
	CMPQ AX, DX
	SETNE AX
	MOVBLZX AX, AX
	ADDQ AX, CX
	MOVQ Finder_Now(DI), SI
	MOVQ (SI), R8
	MOVQ R8, AX                      // a time of more than 48 bits is no time
	SHRQ $(64-const_stampShift), AX
	JNZ  report
	MOVWQZX CX, DX                   // with a new stamp
	MOVQ R8, AX
	SHLQ $const_stampShift, AX
	ORQ  AX, DX
	MOVQ R9, AX                      // is the stamp older than the grain?
	SHRQ $const_stampShift, AX
	ADDQ Finder_Grain(DI), AX
	CMPQ AX, R8
	CMOVQCS DX, CX

	LEAQ const_cellRecency(R12), DX  // what stays as it is is written elsewhere
	MOVQ R9, recency+88(FP)
	LEAQ recency+88(FP), AX
	CMPQ CX, R9
	CMOVQEQ AX, DX
	MOVQ R9, AX
	CMPXCHGQ CX, (DX)                // without LOCK: see Find
	JNE  report                      // somebody else changed it
	MOVQ CX, DX                      // is the stamp that stands there old by now?
	SHRQ $const_stampShift, DX
	ADDQ Finder_Grain(DI), DX
	CMPQ DX, (SI)
	JCS  late

	MOVQ $0, cell+80(FP)
	MOVQ Finder_Hits(DI), CX
	INCQ (CX)
	RET

late:
	MOVQ CX, R9

report:
	MOVQ R12, cell+80(FP)
	MOVQ R9, recency+88(FP)
	RET

longKey: // its first and last 8 bytes are the same
	MOVL $8, CX
	LEAQ -8(DX), R8

key8:
	CMPQ CX, R8
	JAE  same
	MOVQ (SI)(CX*1), AX
	CMPQ AX, (DI)(CX*1)
	JNE  no
	ADDQ $8, CX
	JMP  key8

shortKey:
	XORL CX, CX

key1:
	CMPQ CX, DX
	JAE  same
	MOVBLZX (SI)(CX*1), AX
	CMPB AX, (DI)(CX*1)
	JNE  no
	INCQ CX
	JMP  key1

shortValue:
	CMPQ BX, $8
	JB   value1s
	MOVQ (DI), AX
	MOVQ -8(DI)(BX*1), CX
	MOVQ AX, (SI)
	MOVQ CX, -8(SI)(BX*1)
	JMP  whole

value1s:
	XORL CX, CX

value1:
	CMPQ CX, BX
	JAE  whole
	MOVBLZX (DI)(CX*1), AX
	MOVB AX, (SI)(CX*1)
	INCQ CX
	JMP  value1

no:
	MOVQ $-1, n+72(FP)
	MOVQ $0, cell+80(FP)
	RET

// func prefetchRecord(f *Finder, hash uint64)
TEXT ·prefetchRecord(SB), NOSPLIT, $0-16
	MOVQ f+0(FP), DI
	MOVQ hash+8(FP), R8
	MATCH(DI, R8, R9, R10, none)
	MOVL (R10), R12
	DECL R12
	CMPQ R12, Finder_Count(DI)
	JAE  none
	IMULQ Finder_CellSize(DI), R12
	ADDQ (Finder_Cells+Window_base)(DI), R12
	PREFETCHT0 (R12)
	PREFETCHT0 64(R12)

none:
	RET
