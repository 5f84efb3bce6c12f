package badgerstore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sdiff/sdiff/replica/store"
)

// An Inspection is what can be seen of a database without opening it.
type Inspection struct {
	Database   bool      // there is a MANIFEST
	Tables     int       // that MANIFEST names
	TableBytes int64     // of all tables
	LogBytes   int64     // on disk, of the write-ahead logs
	Empty      []string  // logs without content, as a kill leaves them
	Torn       int64     // bytes at the end of MANIFEST that are not whole
	Unfinished int       // tables that it names last, and that are not there: an I/O error leaves it so
	Unknown    []string  // tables with content that MANIFEST does not name
	Closed     time.Time // when Close closed it last; zero if nothing says so
	Untouched  bool      // no file has been changed since then
	Lock       string    // process that a kill left in LOCK; empty if none
	Files      error     // what is wrong with MANIFEST, names and sizes

	dir *directory
}

// Inspect looks at the names, sizes and the MANIFEST of a directory. It changes
// nothing. Its error is the system's; damage is in Files.
func Inspect(dir string) (Inspection, error) {
	d, err := inspect(dir)
	if d == nil {
		return Inspection{}, err
	}
	in := Inspection{Database: d.manifest, Tables: len(d.known), Empty: d.empty(), Torn: d.torn, Unfinished: d.vanished, Unknown: d.unknown, Files: err, dir: d}
	for _, size := range d.tables {
		in.TableBytes += size
	}
	for name := range d.logs {
		if filepath.Ext(name) != ".mem" {
			continue
		}
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
			size, _ := allocated(info)
			in.LogBytes += size
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "LOCK")); err == nil {
		in.Lock = strings.TrimSpace(string(b))
	}
	in.Closed, in.Untouched, err = closedAt(dir)
	return in, err
}

// Verify reads all tables that MANIFEST names and looks at their checksums. Its
// error names the tables and wraps store.ErrCorrupt, unless reading failed.
func (in *Inspection) Verify() error {
	if in.Files != nil {
		return fmt.Errorf("%w: the files do not fit", store.ErrCorrupt)
	}
	return verifyTables(in.dir.path, in.dir.known, false)
}

// Space returns how many bytes the file system of a directory has for us, -1 if
// that cannot be told, and how many of them Open with these options keeps free.
func Space(dir string, opts ...Options) (free, reserve int64) {
	free, _ = diskSpace(dir)
	return free, newSpace(dir, only(opts).Reserve).reserve
}

// RoomToOpen returns an error that wraps store.ErrNoSpace if Open with these
// options would refuse a directory because the disk is too full, also if more
// than the reserve is free: tables that were in memory take room to be written
// out.
func RoomToOpen(dir string, opts ...Options) error {
	return roomToOpen(dir, only(opts).Reserve)
}

// Hold keeps others from opening the database in a directory, without changing
// anything, until release is called. Several may hold one. The error is an
// *InUseError if somebody has it open. Where the lock is Badger's it does
// nothing.
func Hold(dir string) (release func() error, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := flockShared(f); err != nil {
		f.Close()
		b, _ := os.ReadFile(filepath.Join(dir, "LOCK"))
		return nil, &InUseError{Dir: dir, PID: strings.TrimSpace(string(b))}
	}
	return f.Close, nil
}
