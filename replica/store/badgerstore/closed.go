package badgerstore

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The file CLOSED, docs/FORMAT.md: what the files of the database were when
// Close had closed it. As long as they are still that, nobody has touched them,
// and Badger met them in the state that it left.
const closedName = "CLOSED"

const closedMagic = "sdiff closed 1"

// footprint returns a line for each file of Badger's in a directory, in the
// order of names: its size, the time of its last change, its name.
func footprint(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, e := range entries {
		name := e.Name()
		switch filepath.Ext(name) {
		case ".sst", ".mem", ".vlog":
		default:
			if name != "MANIFEST" && name != "KEYREGISTRY" && name != "DISCARD" {
				continue
			}
		}
		info, err := e.Info()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%d %d %s\n", info.Size(), info.ModTime().UnixNano(), name)
	}
	return b.String(), nil
}

// writeClosed writes the file. It need not survive a power cut: then the
// database is taken for one that was not closed.
func writeClosed(dir string, now time.Time) error {
	files, err := footprint(dir)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, closedName)
	if err := os.WriteFile(path+".new", formatClosed(now, files), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// formatClosed returns what the file holds, parseClosed what it says.
func formatClosed(at time.Time, files string) []byte {
	text := closedMagic + "\n" + at.UTC().Format(time.RFC3339) + "\n" + files
	return append([]byte(text), closedSum([]byte(text))...)
}

func closedSum(b []byte) string { return fmt.Sprintf("%08x\n", crc32.Checksum(b, castagnoli)) }

func parseClosed(b []byte) (at time.Time, files string, ok bool) {
	n := len(b) - len(closedSum(nil))
	if n < 0 || string(b[n:]) != closedSum(b[:n]) {
		return time.Time{}, "", false
	}
	magic, rest, _ := strings.Cut(string(b[:n]), "\n")
	stamp, files, whole := strings.Cut(rest, "\n")
	at, err := time.Parse(time.RFC3339, stamp)
	if magic != closedMagic || !whole || err != nil || at.UTC().Format(time.RFC3339) != stamp {
		return time.Time{}, "", false
	}
	return at.UTC(), files, true
}

// closedAt returns when the database in a directory was closed, and whether it
// has been left alone since. A zero time means that it was not closed, or that
// the file is damaged.
func closedAt(dir string) (at time.Time, untouched bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, closedName))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, err
	}
	at, files, ok := parseClosed(b)
	if !ok {
		return time.Time{}, false, nil
	}
	now, err := footprint(dir)
	return at, err == nil && now == files, err
}

// removeClosed removes the file, before the database is opened.
func removeClosed(dir string) error {
	err := os.Remove(filepath.Join(dir, closedName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
