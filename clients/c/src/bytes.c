/* Copies of shared words and bytes that race by design (PROTOCOL.md, 2, Bytes): a version read afterwards says whether they are good. */

/* "Under the lock" and "while odd": relaxed. */
#define word_get(pointer) atomic_load_explicit((pointer), memory_order_relaxed)
#define word_set(pointer, value) atomic_store_explicit((pointer), (value), memory_order_relaxed)

#if defined(__SANITIZE_THREAD__)
#define BYTES_BY_WORDS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BYTES_BY_WORDS 1
#endif
#endif
#if !defined(__x86_64__)
#define BYTES_BY_WORDS 1
#endif
#ifndef BYTES_BY_WORDS
#include <emmintrin.h>
#endif

static inline _Atomic(uint64_t) *bytes_word(const unsigned char *cell, size_t offset)
{
	return (_Atomic(uint64_t) *)(void *)(uintptr_t)(cell + offset);
}

#ifdef BYTES_BY_WORDS

/* The piece of an aligned word that begins at offset: up to n bytes of it. */
static inline size_t bytes_piece(size_t offset, size_t n)
{
	size_t left = 8 - (offset & 7);
	return n < left ? n : left;
}

static void bytes_out(void *to, const unsigned char *cell, size_t offset, size_t n)
{
	unsigned char *out = to;
	while (n > 0) {
		size_t piece = bytes_piece(offset, n);
		uint64_t word = word_get(bytes_word(cell, offset & ~(size_t)7));
		memcpy(out, (unsigned char *)&word + (offset & 7), piece);
		out += piece;
		offset += piece;
		n -= piece;
	}
}

static void bytes_in(unsigned char *cell, size_t offset, const void *from, size_t n)
{
	const unsigned char *in = from;
	while (n > 0) {
		size_t piece = bytes_piece(offset, n);
		_Atomic(uint64_t) *shared = bytes_word(cell, offset & ~(size_t)7);
		uint64_t word = word_get(shared);
		memcpy((unsigned char *)&word + (offset & 7), in, piece);
		word_set(shared, word);
		in += piece;
		offset += piece;
		n -= piece;
	}
}

#else

/* Total store order: any copy between compiler barriers, as a torn one is discarded. */
static inline void bytes_out(void *to, const unsigned char *cell, size_t offset, size_t n)
{
	atomic_signal_fence(memory_order_seq_cst);
	memcpy(to, cell + offset, n);
	atomic_signal_fence(memory_order_seq_cst);
}

static inline void bytes_in(unsigned char *cell, size_t offset, const void *from, size_t n)
{
	atomic_signal_fence(memory_order_seq_cst);
	memcpy(cell + offset, from, n);
	atomic_signal_fence(memory_order_seq_cst);
}

#endif

/* offset is a multiple of 8, as that of a record's bytes in every cell is. */
static inline bool bytes_equal(const unsigned char *cell, size_t offset, const unsigned char *with, size_t n)
{
	for (; n >= 8; n -= 8, offset += 8, with += 8) {
		uint64_t mine;
		memcpy(&mine, with, 8);
		if (word_get(bytes_word(cell, offset)) != mine)
			return false;
	}
	if (n == 0)
		return true;
	uint64_t mine = 0;
	memcpy(&mine, with, n);
	return (word_get(bytes_word(cell, offset)) & ((UINT64_C(1) << 8 * n) - 1)) == mine;
}
