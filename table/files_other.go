//go:build !linux

package table

import (
	"os"
	"time"
)

// On this system every domain ends at openBase, the first step to its files, with
// ErrUnsupported. What would come after it says the same.

func openBase(string) (*os.File, error) { return nil, ErrUnsupported }

func (*domain) openDir(*os.File, string, bool) (*os.File, error) { return nil, ErrUnsupported }

func (*domain) checkAccess(*os.File, error) error { return ErrUnsupported }

func (*domain) makeDir(*os.File, string) error { return ErrUnsupported }

func (*domain) current() (bool, error) { return false, ErrUnsupported }

func leadsTo(*os.File, string, *os.File) (bool, error) { return false, ErrUnsupported }

func openPlain(*os.File, string) (*os.File, error) { return nil, ErrUnsupported }

func removeEntry(*os.File, string) error { return ErrUnsupported }

func removed(*os.File, string) (bool, error) { return false, ErrUnsupported }

func exists(*os.File, string) bool { return false }

func removeEmpty(*os.File, string) error { return ErrUnsupported }

func usage(*os.File) uint64 { return 0 }

func fileUsage(*os.File, string) uint64 { return 0 }

func lastChange(*os.File) time.Time { return time.Time{} }

func openedBy(*os.File) []int { return nil }

func rename(*os.File, string, string) error { return ErrUnsupported }

func tryLock(*os.File, int64) (bool, error) { return false, ErrUnsupported }

func tryLocks(*os.File, int64, int64) (bool, error) { return false, ErrUnsupported }

func unlocks(*os.File, int64, int64) error { return ErrUnsupported }

func unlock(*os.File, int64) error { return ErrUnsupported }

func lockedByOthers(*os.File, int64, int64) (bool, error) { return false, ErrUnsupported }
