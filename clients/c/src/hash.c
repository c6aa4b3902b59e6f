/*
 * XXH3-64 with a seed, for any length; tests/hash.c has vectors of the reference implementation. Short inputs, which keys are, take one or two
 * multiplications; from 241 bytes on there are eight lanes over stripes of 64 bytes, which compilers make vectors of.
 */
#include "hash.h"

#include <string.h>

__extension__ typedef unsigned __int128 hash_wide;

#define HASH_P32_1 UINT64_C(0x9e3779b1)
#define HASH_P32_2 UINT64_C(0x85ebca77)
#define HASH_P32_3 UINT64_C(0xc2b2ae3d)
#define HASH_P64_1 UINT64_C(0x9e3779b185ebca87)
#define HASH_P64_2 UINT64_C(0xc2b2ae3d27d4eb4f)
#define HASH_P64_3 UINT64_C(0x165667b19e3779f9)
#define HASH_P64_4 UINT64_C(0x85ebca77c2b2ae63)
#define HASH_P64_5 UINT64_C(0x27d4eb2f165667c5)
#define HASH_MX_1 UINT64_C(0x165667919e3779f9)
#define HASH_MX_2 UINT64_C(0x9fb21c651e98df25)

enum { HASH_SECRET = 192, HASH_STRIPE = 64, HASH_LANES = 8, HASH_BLOCK_STRIPES = (HASH_SECRET - HASH_STRIPE) / 8 };

static const unsigned char hash_secret[HASH_SECRET] = {
	0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb,
	0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
	0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb,
	0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
	0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31,
	0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
	0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc,
	0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static inline uint64_t hash_load64(const unsigned char *p)
{
	uint64_t x;
	memcpy(&x, p, sizeof x);
	return x;
}

static inline uint32_t hash_load32(const unsigned char *p)
{
	uint32_t x;
	memcpy(&x, p, sizeof x);
	return x;
}

static inline uint64_t hash_rotate(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

static inline uint64_t hash_fold(uint64_t a, uint64_t b)
{
	hash_wide product = (hash_wide)a * b;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_avalanche(uint64_t x)
{
	x ^= x >> 37;
	x *= HASH_MX_1;
	return x ^ x >> 32;
}

static inline uint64_t hash_avalanche_short(uint64_t x)
{
	x ^= x >> 33;
	x *= HASH_P64_2;
	x ^= x >> 29;
	x *= HASH_P64_3;
	return x ^ x >> 32;
}

static inline uint64_t hash_16(const unsigned char *p, const unsigned char *secret, uint64_t seed)
{
	return hash_fold(hash_load64(p) ^ (hash_load64(secret) + seed), hash_load64(p + 8) ^ (hash_load64(secret + 8) - seed));
}

static inline uint64_t hash_to_3(const unsigned char *p, size_t n, uint64_t seed)
{
	if (n == 0)
		return hash_avalanche_short(seed ^ hash_load64(hash_secret + 56) ^ hash_load64(hash_secret + 64));
	uint32_t all = (uint32_t)p[0] << 16 | (uint32_t)p[n >> 1] << 24 | p[n - 1] | (uint32_t)n << 8;
	uint64_t flip = (uint64_t)(hash_load32(hash_secret) ^ hash_load32(hash_secret + 4)) + seed;
	return hash_avalanche_short(all ^ flip);
}

static inline uint64_t hash_to_8(const unsigned char *p, size_t n, uint64_t seed)
{
	seed ^= (uint64_t)__builtin_bswap32((uint32_t)seed) << 32;
	uint64_t flip = (hash_load64(hash_secret + 8) ^ hash_load64(hash_secret + 16)) - seed;
	uint64_t x = (hash_load32(p + n - 4) + ((uint64_t)hash_load32(p) << 32)) ^ flip;
	x ^= hash_rotate(x, 49) ^ hash_rotate(x, 24);
	x *= HASH_MX_2;
	x ^= (x >> 35) + n;
	x *= HASH_MX_2;
	return x ^ x >> 28;
}

static inline uint64_t hash_to_16(const unsigned char *p, size_t n, uint64_t seed)
{
	uint64_t low = hash_load64(p) ^ ((hash_load64(hash_secret + 24) ^ hash_load64(hash_secret + 32)) + seed);
	uint64_t high = hash_load64(p + n - 8) ^ ((hash_load64(hash_secret + 40) ^ hash_load64(hash_secret + 48)) - seed);
	return hash_avalanche(n + __builtin_bswap64(low) + high + hash_fold(low, high));
}

static inline uint64_t hash_to_128(const unsigned char *p, size_t n, uint64_t seed)
{
	uint64_t sum = n * HASH_P64_1;
	for (size_t i = (n - 1) / 32 + 1; i-- > 0;) {
		sum += hash_16(p + 16 * i, hash_secret + 32 * i, seed);
		sum += hash_16(p + n - 16 * (i + 1), hash_secret + 32 * i + 16, seed);
	}
	return hash_avalanche(sum);
}

static uint64_t hash_to_240(const unsigned char *p, size_t n, uint64_t seed)
{
	uint64_t sum = n * HASH_P64_1;
	for (size_t i = 0; i < 8; i++)
		sum += hash_16(p + 16 * i, hash_secret + 16 * i, seed);
	sum = hash_avalanche(sum);
	for (size_t i = 8; i < n / 16; i++)
		sum += hash_16(p + 16 * i, hash_secret + 16 * (i - 8) + 3, seed);
	return hash_avalanche(sum + hash_16(p + n - 16, hash_secret + 136 - 17, seed));
}

static inline void hash_stripe(uint64_t *lanes, const unsigned char *p, const unsigned char *secret)
{
	for (size_t i = 0; i < HASH_LANES; i++) {
		uint64_t x = hash_load64(p + 8 * i), keyed = x ^ hash_load64(secret + 8 * i);
		lanes[i ^ 1] += x;
		lanes[i] += (keyed & 0xffffffff) * (keyed >> 32);
	}
}

static uint64_t hash_long(const unsigned char *p, size_t n, uint64_t seed)
{
	unsigned char secret[HASH_SECRET];
	for (size_t i = 0; i < HASH_SECRET; i += 16) {
		uint64_t low = hash_load64(hash_secret + i) + seed, high = hash_load64(hash_secret + i + 8) - seed;
		memcpy(secret + i, &low, sizeof low);
		memcpy(secret + i + 8, &high, sizeof high);
	}
	uint64_t lanes[HASH_LANES] = {HASH_P32_3, HASH_P64_1, HASH_P64_2, HASH_P64_3, HASH_P64_4, HASH_P32_2, HASH_P64_5, HASH_P32_1};
	size_t stripes = (n - 1) / HASH_STRIPE;
	for (size_t s = 0; s < stripes; s++) {
		hash_stripe(lanes, p + HASH_STRIPE * s, secret + 8 * (s % HASH_BLOCK_STRIPES));
		if (s % HASH_BLOCK_STRIPES == HASH_BLOCK_STRIPES - 1)
			for (size_t i = 0; i < HASH_LANES; i++)
				lanes[i] = (lanes[i] ^ lanes[i] >> 47 ^ hash_load64(secret + HASH_SECRET - HASH_STRIPE + 8 * i)) * HASH_P32_1;
	}
	hash_stripe(lanes, p + n - HASH_STRIPE, secret + HASH_SECRET - HASH_STRIPE - 7);
	uint64_t sum = n * HASH_P64_1;
	for (size_t i = 0; i < HASH_LANES; i += 2)
		sum += hash_fold(lanes[i] ^ hash_load64(secret + 11 + 8 * i), lanes[i + 1] ^ hash_load64(secret + 19 + 8 * i));
	return hash_avalanche(sum);
}

static uint64_t hash_xxh3(const void *bytes, size_t n, uint64_t seed)
{
	const unsigned char *p = bytes;
	if (n <= 3)
		return hash_to_3(p, n, seed);
	if (n <= 8)
		return hash_to_8(p, n, seed);
	if (n <= 16)
		return hash_to_16(p, n, seed);
	if (n <= 128)
		return hash_to_128(p, n, seed);
	if (n <= 240)
		return hash_to_240(p, n, seed);
	return hash_long(p, n, seed);
}

static uint64_t hash_mix(uint64_t x)
{
	x ^= x >> 33;
	x *= UINT64_C(0xff51afd7ed558ccd);
	x ^= x >> 33;
	x *= UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 33;
}
