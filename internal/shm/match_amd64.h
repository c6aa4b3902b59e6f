// COMPARE leaves in CX a mask of the words of the line at LINE whose upper halves are
// TAG, bit 2i+1 for word i, by comparing four times four 32-bit words; the eighth
// word, the link, is left out. X0 to X4 are lost.
#define COMPARE(LINE, TAG) \
	MOVQ     TAG, X0;      \
	PSHUFD   $0, X0, X0;   \
	MOVOU    0(LINE), X1;  \
	MOVOU    16(LINE), X2; \
	MOVOU    32(LINE), X3; \
	MOVOU    48(LINE), X4; \
	PCMPEQL  X0, X1;       \
	PCMPEQL  X0, X2;       \
	PCMPEQL  X0, X3;       \
	PCMPEQL  X0, X4;       \
	PACKSSLW X2, X1;       \
	PACKSSLW X4, X3;       \
	PACKSSWB X3, X1;       \
	PMOVMSKB X1, CX;       \
	ANDL     $0x2AAA, CX
