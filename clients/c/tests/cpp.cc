// The header works from C++: a cache of its own, a value set and got.
#include "flagstone.h"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <unistd.h>

int main()
{
	char dir[] = "/dev/shm/flagstone-cpp-XXXXXX";
	if (!mkdtemp(dir))
		return 1;
	flagstone_options options{};
	options.entries = 100;
	flagstone *cache = nullptr;
	std::string key = "key", value = "value", got(64, '\0');
	bool right = flagstone_open(dir, "cpp", &options, &cache) == FLAGSTONE_OK &&
	             flagstone_set(cache, flagstone_bytes(key.data(), key.size()), value.data(), value.size(), nullptr, nullptr) == FLAGSTONE_OK;
	flagstone_value answer{};
	answer.buffer = &got[0];
	answer.capacity = got.size();
	right = right && flagstone_get(cache, flagstone_bytes(key.data(), key.size()), &answer) == FLAGSTONE_OK &&
	        got.substr(0, answer.length) == value;
	int visited = 0;
	auto visit = [](void *context, const flagstone_record *) -> bool { return ++*static_cast<int *>(context), true; };
	right = right && flagstone_scan(cache, visit, &visited) == FLAGSTONE_OK && visited == 1;
	if (!right)
		std::fprintf(stderr, "cpp: %s\n", flagstone_error_text());
	flagstone_close(cache);
	flagstone_destroy(dir, "cpp");
	rmdir(dir);
	std::puts(right ? "cpp: ok" : "cpp: FAILED");
	return right ? 0 : 1;
}
