/* XXH3-64 against vectors that the reference implementation gave. */
#include "test.h"

static const struct {
	size_t length;
	uint64_t plain, seeded; /* seeds 0 and 0x123456789abcdef5 */
} hash_vectors[] = {
	{0, UINT64_C(0x2d06800538d394c2), UINT64_C(0xbcb677e6d52b14ed)},
	{1, UINT64_C(0x13e608bc156defed), UINT64_C(0x4e402951b9edaa7e)},
	{3, UINT64_C(0x974a8c6fa70c32a8), UINT64_C(0xd4ef223ccfbe8767)},
	{4, UINT64_C(0xd53c28cdece5352d), UINT64_C(0x9de4ac1a4c2f41f4)},
	{8, UINT64_C(0xd4d9e4c499ebd3fc), UINT64_C(0x03b6aa611c2a6776)},
	{9, UINT64_C(0xd6fde0887a1893ca), UINT64_C(0x34b170cff1d1403f)},
	{16, UINT64_C(0xca4738193200d5bf), UINT64_C(0xb7b2bf10cdaa9927)},
	{17, UINT64_C(0x02ec68113d62488b), UINT64_C(0xb07ff7f84febf5d6)},
	{32, UINT64_C(0xd5cb55f2bd3ab281), UINT64_C(0x10c7714f26e7d5d2)},
	{33, UINT64_C(0x177fc93b526aa0a0), UINT64_C(0x921c25d7c0675337)},
	{64, UINT64_C(0x37d7807c33e74a3c), UINT64_C(0xaaa5cf3071fbef65)},
	{96, UINT64_C(0xef2dac2823b8855c), UINT64_C(0x978cbca806e6680a)},
	{97, UINT64_C(0x2fcb41d8c85c1417), UINT64_C(0x85a557d0ef524f27)},
	{128, UINT64_C(0xa67ae43aec758836), UINT64_C(0x3da60293ac093c3c)},
	{129, UINT64_C(0xfb628a6571944e54), UINT64_C(0x698d02287e545d23)},
	{240, UINT64_C(0x2408051b9d580275), UINT64_C(0xffb2ec38065d4695)},
	{241, UINT64_C(0xef630bb6bb6cfe02), UINT64_C(0xb68102db18503e11)},
	{256, UINT64_C(0x52fef52244b0c88c), UINT64_C(0x773c4aa3abe4a7d7)},
	{1024, UINT64_C(0x46703f18d0b7abc5), UINT64_C(0x1f505b722bf6c030)},
	{1025, UINT64_C(0x178c11ef15cb206e), UINT64_C(0x25663da651eadfbd)},
	{4096, UINT64_C(0x6d254ae790a56d8b), UINT64_C(0xb7b1c1cab8655392)},
	{4999, UINT64_C(0x18b777c4c0f930a4), UINT64_C(0xd029169bc478eb9e)},
};

static void Hash_Vectors_AreMet(void)
{
	static unsigned char bytes[5000];
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (unsigned char)(i * 131 + (i >> 8) * 7 + 3);
	for (size_t i = 0; i < sizeof hash_vectors / sizeof *hash_vectors; i++) {
		expect(hash_xxh3(bytes, hash_vectors[i].length, 0) == hash_vectors[i].plain);
		expect(hash_xxh3(bytes, hash_vectors[i].length, UINT64_C(0x123456789abcdef5)) == hash_vectors[i].seeded);
	}
}
