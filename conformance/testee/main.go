// Command testee answers the conformance runner's line protocol with the Go packages of
// this module. See ../README.md.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "testee:", err)
		os.Exit(1)
	}
}

// serve answers each line before it reads the next, and closes what is open at the end.
func serve(in io.Reader, out io.Writer) error {
	s := &session{}
	r, w := bufio.NewReaderSize(in, 1<<16), bufio.NewWriter(out)
	for {
		text, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return errors.Join(s.leave(), w.Flush())
		}
		if err != nil {
			return errors.Join(err, s.leave())
		}
		s.do(text).write(w)
		if err := w.Flush(); err != nil {
			return errors.Join(err, s.leave())
		}
	}
}
