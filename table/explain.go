package table

import "fmt"

// wrap adds what was being done to an error, if it is one, and what a system call's
// refusal means.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, explain(err))...)
}
