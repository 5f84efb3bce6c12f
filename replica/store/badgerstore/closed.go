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
	text := closedMagic + "\n" + now.UTC().Format(time.RFC3339) + "\n" + files
	text += fmt.Sprintf("%08x\n", crc32.Checksum([]byte(text), castagnoli))
	path := filepath.Join(dir, closedName)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
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
	text := string(b)
	if len(text) < 9 || text[len(text)-9:] != fmt.Sprintf("%08x\n", crc32.Checksum(b[:len(b)-9], castagnoli)) {
		return time.Time{}, false, nil
	}
	magic, rest, _ := strings.Cut(text[:len(text)-9], "\n")
	stamp, files, _ := strings.Cut(rest, "\n")
	at, err = time.Parse(time.RFC3339, stamp)
	if magic != closedMagic || err != nil {
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
