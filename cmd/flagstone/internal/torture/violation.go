package torture

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// violationsFile has one line of JSON for each, written at once.
const violationsFile = "violations"

func (v Violation) write(scratch string) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(scratch, violationsFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// readViolations returns the first of them, and how many there are.
func readViolations(scratch string, most int) (first []Violation, all uint64, err error) {
	f, err := os.Open(filepath.Join(scratch, violationsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		all++
		var v Violation
		if len(first) < most && json.Unmarshal(lines.Bytes(), &v) == nil {
			first = append(first, v)
		}
	}
	return first, all, lines.Err()
}
