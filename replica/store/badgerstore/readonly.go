package badgerstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"

	"github.com/sdiff/sdiff/replica/store"
)

// errReadOnly is what Write of a store of OpenReadOnly returns.
var errReadOnly = fmt.Errorf("%w: the store is open for reading only", store.ErrRefused)

// OpenReadOnly returns a store of what is in a directory, changing nothing in
// it. Badger cannot do that by itself: it refuses a database that was not closed,
// and makes a file in one that was. So it is given a directory of its own,
// scratch, which must exist and be empty, with links to the tables, which it
// opens for reading, and copies of everything else; they take about as much
// space as the write-ahead logs. The caller removes it after Close.
//
// Checksums of tables are not looked at, see [Inspect]. Nobody may change the
// directory meanwhile: the caller holds it, see [Hold].
func OpenReadOnly(dir, scratch string, opts ...Options) (*Store, error) {
	opt := only(opts)
	d, err := inspect(dir)
	if err != nil {
		return nil, err
	}
	if !d.manifest {
		return nil, fmt.Errorf("%w: there is no database in %s", store.ErrCorrupt, dir)
	}
	if err := d.shadow(scratch); err != nil {
		return nil, fmt.Errorf("copy the database: %w", err)
	}
	db, err := openShadow(scratch, opt, d)
	if err != nil {
		return nil, err
	}
	s := &Store{opt: opt, db: db, path: dir, sync: !opt.NoSync, readOnly: true, owned: true}
	if err := s.init(dir); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// shadow fills the scratch directory.
func (d *directory) shadow(scratch string) error {
	from, err := filepath.Abs(d.path)
	if err != nil {
		return err
	}
	for id := range d.known {
		name := table.IDToFilename(id)
		if err := os.Symlink(filepath.Join(from, name), filepath.Join(scratch, name)); err != nil {
			return err
		}
	}
	names := []string{badger.ManifestFilename}
	for name, size := range d.logs {
		if size == 0 {
			continue
		}
		if filepath.Ext(name) == ".mem" {
			names = append(names, name)
		} else if err := os.Symlink(filepath.Join(from, name), filepath.Join(scratch, name)); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(from, badger.KeyRegistryFileName)); err == nil {
		names = append(names, badger.KeyRegistryFileName)
	}
	for _, name := range names {
		if err := copyFile(filepath.Join(from, name), filepath.Join(scratch, name)); err != nil {
			return err
		}
	}
	if d.vanished > 0 { // as tidy would have it
		return os.Truncate(filepath.Join(scratch, badger.ManifestFilename), d.whole)
	}
	return nil
}

// copyFile copies a file and leaves out what is zero in it, of which logs have
// a hundred megabytes.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	buf, zero := make([]byte, 256<<10), make([]byte, 256<<10)
	for off := int64(0); ; {
		n, err := io.ReadFull(in, buf)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, werr := out.WriteAt(buf[:n], off); werr != nil {
				return errors.Join(werr, out.Close())
			}
		}
		off += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.Join(out.Truncate(off), out.Close())
		}
		if err != nil {
			return errors.Join(err, out.Close())
		}
	}
}

// logEnd finds in Badger's words where a write-ahead log ends: it opens one for
// reading only if nothing comes after that.
var logEnd = regexp.MustCompile(`while opening fid: (\d+).*end offset: (\d+) < size`)

// openShadow opens the database in the scratch directory, cutting its logs to
// what is in them.
func openShadow(scratch string, opt Options, d *directory) (*badger.DB, error) {
	bopt := badgerOptions(scratch, opt, d.compressed, newBreakage()).WithReadOnly(true)
	bopt.BypassLockGuard = true
	for range len(d.logs) + 1 {
		db, err := tryOpen(bopt)
		if err == nil {
			return db, nil
		}
		m := logEnd.FindStringSubmatch(err.Error())
		if m == nil {
			return nil, err
		}
		id, ierr := strconv.Atoi(m[1])
		end, eerr := strconv.ParseInt(m[2], 10, 64)
		path := filepath.Join(scratch, fmt.Sprintf("%05d.mem", id))
		switch {
		case ierr != nil || eerr != nil:
			return nil, err
		case end <= logHeader:
			err = os.Remove(path) // or Badger would, and complain
		default:
			err = os.Truncate(path, end)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: its write-ahead logs have no end", store.ErrCorrupt)
}

// logHeader is the length of what every log of Badger's begins with.
const logHeader = 20
