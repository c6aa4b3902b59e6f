module github.com/flagstone-shm/flagstone/bench

go 1.25.0

replace github.com/flagstone-shm/flagstone => ../

require (
	github.com/flagstone-shm/flagstone v0.0.0-00010101000000-000000000000
	github.com/gomodule/redigo v1.9.3
	github.com/maypok86/otter/v2 v2.4.0
	golang.org/x/sys v0.46.0
)

require (
	github.com/edsrzf/mmap-go v1.2.0 // indirect
	github.com/klauspost/cpuid/v2 v2.2.10 // indirect
	github.com/zeebo/xxh3 v1.1.0 // indirect
	golang.org/x/sync v0.21.0 // indirect
)
