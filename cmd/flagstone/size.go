package main

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// size is a flag's number of bytes: 67108864, 64MiB, 64M (the same), 64MB (10^6).
type size uint64

var units = map[string]uint64{
	"": 1, "b": 1,
	"k": 1 << 10, "kib": 1 << 10, "kb": 1e3,
	"m": 1 << 20, "mib": 1 << 20, "mb": 1e6,
	"g": 1 << 30, "gib": 1 << 30, "gb": 1e9,
	"t": 1 << 40, "tib": 1 << 40, "tb": 1e12,
}

// Set parses a size.
func (s *size) Set(text string) error {
	digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
	n, err := strconv.ParseUint(text[:digits], 10, 64)
	unit, ok := units[strings.ToLower(strings.TrimSpace(text[digits:]))]
	if err != nil || !ok {
		return fmt.Errorf("need bytes, as 4096, 64MiB (2^20 each) or 64MB (10^6 each)")
	}
	over, product := bits.Mul64(n, unit)
	if over != 0 {
		return fmt.Errorf("more than 2^64 bytes")
	}
	*s = size(product)
	return nil
}

// Type names the kind of value in help.
func (s *size) Type() string { return "size" }

// String prints a size to three digits or so.
func (s *size) String() string { return bytesText(uint64(*s)) }

func bytesText(n uint64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), -1
	for f >= 1<<10 {
		f, unit = f/(1<<10), unit+1
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") + " " + string("KMGTPE"[unit]) + "iB"
}
