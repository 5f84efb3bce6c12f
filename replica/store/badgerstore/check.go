package badgerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"

	"github.com/sdiff/sdiff/replica/store"
)

// A directory is what inspect has found in the directory of a database.
type directory struct {
	path       string
	tables     map[string]int64 // size of each *.sst by name
	logs       map[string]int64 // size of each *.mem and *.vlog by name
	manifest   bool
	known      map[uint64]badger.TableManifest // what it names
	torn       int64                           // bytes at its end that are not whole
	whole      int64                           // its length without the tables that were not finished; 0: all of it
	vanished   int                             // how many these are
	unknown    []string                        // tables with content that it does not name, sorted
	compressed bool                            // some table is
	notes      []string
}

// check looks at a directory before Badger does, which takes many kinds of
// damage for an older or an empty database, deletes what it does not know of,
// and panics in goroutines over the rest. It removes and puts aside what would
// be in the way. It returns an error that wraps store.ErrCorrupt if the
// directory cannot be what a database left behind.
//
// The end of the write-ahead logs cannot be judged here: only HEAD tells how
// far they went. Nobody else may have the directory open meanwhile.
func check(dir string, skipVerify bool) (*directory, error) {
	d, err := inspect(dir)
	if err != nil {
		return nil, err
	}
	if err := d.tidy(); err != nil {
		return nil, err
	}
	return d, verifyTables(dir, d.known, skipVerify)
}

// inspect is the part of check that changes nothing: names, sizes and MANIFEST.
// With an error it returns what it has found so far, or nil.
func inspect(dir string) (*directory, error) {
	d := &directory{path: dir, tables: make(map[string]int64), logs: make(map[string]int64)}
	if err := d.list(); err != nil {
		return nil, err
	}
	if !d.manifest {
		for name, size := range d.tables {
			if size > 0 {
				return d, fmt.Errorf("%w: there are tables such as %s in %s, but no MANIFEST", store.ErrCorrupt, name, dir)
			}
		}
		return d, nil
	}
	m, err := d.readManifest()
	if err != nil {
		return d, err
	}
	if !d.complete(m) {
		m = d.unfinished(m)
	}
	d.known = m.Tables
	for id, t := range m.Tables {
		name := table.IDToFilename(id)
		size, ok := d.tables[name]
		switch {
		case !ok:
			return d, fmt.Errorf("%w: the table %s is missing from %s", store.ErrCorrupt, name, dir)
		case t.KeyID != 0:
			return d, errors.New("the database is encrypted: open it yourself and use New")
		case size < minTable:
			return d, fmt.Errorf("%w: the table %s has %d bytes", store.ErrCorrupt, name, size)
		}
		d.compressed = d.compressed || t.Compression != options.None
	}
	for name, size := range d.tables {
		id, ok := table.ParseFileID(name)
		if _, known := m.Tables[id]; ok && size > 0 && !known {
			d.unknown = append(d.unknown, name)
		}
	}
	slices.Sort(d.unknown)
	return d, nil
}

// list reads the names and sizes.
func (d *directory) list() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			continue
		}
		switch name := e.Name(); filepath.Ext(name) {
		case ".sst":
			d.tables[name] = info.Size()
		case ".mem", ".vlog":
			d.logs[name] = info.Size()
		default:
			d.manifest = d.manifest || name == badger.ManifestFilename
		}
	}
	return nil
}

// readManifest reads the list of tables.
func (d *directory) readManifest() (m badger.Manifest, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: MANIFEST: %v", store.ErrCorrupt, r)
		}
	}()
	f, err := os.Open(filepath.Join(d.path, badger.ManifestFilename))
	if err != nil {
		return m, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return m, err
	}
	m, end, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions("").WithLogger(nil))
	if err != nil {
		if strings.Contains(err.Error(), "version") || strings.Contains(err.Error(), "external magic") {
			text, _, _ := strings.Cut(err.Error(), ".\n") // a link follows
			return m, fmt.Errorf("%w: MANIFEST, or the database is of another version of Badger: %s", store.ErrCorrupt, text)
		}
		return m, fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	d.torn = max(0, info.Size()-end)
	return m, nil
}

// empty returns the write-ahead and value logs without content, sorted: a kill
// between the making or removing of one leaves it so, and Badger then fails to
// open once.
func (d *directory) empty() []string {
	var names []string
	for name, size := range d.logs {
		if size == 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// tidy removes empty logs. If the last entry of MANIFEST is cut short, as after
// a power cut, Badger goes on with the entries before it and deletes the tables
// that it then knows nothing of. If that was not a power cut they are all that
// is left of the data, so they are put aside.
func (d *directory) tidy() error {
	for _, name := range d.empty() {
		if err := os.Remove(filepath.Join(d.path, name)); err != nil {
			return err
		}
		d.notes = append(d.notes, fmt.Sprintf("removed %s, which was empty, as a kill at the wrong moment leaves it", name))
	}
	if d.vanished > 0 {
		return d.takeBack()
	}
	if d.torn == 0 {
		return nil
	}
	note := fmt.Sprintf("the last %d bytes of MANIFEST are not whole", d.torn)
	if len(d.unknown) == 0 {
		d.notes = append(d.notes, note)
		return nil
	}
	aside, err := d.putAside(d.unknown)
	if err != nil {
		return fmt.Errorf("put tables aside: %w", err)
	}
	d.notes = append(d.notes, fmt.Sprintf("%s; %d tables that it does not name were put aside in %s", note, len(d.unknown), aside))
	return nil
}

// putAside links tables into a new directory below that of the database, which
// it returns, and copies the manifest.
func (d *directory) putAside(tables []string) (string, error) {
	aside := filepath.Join(d.path, "put-aside-"+time.Now().UTC().Format("20060102T150405.000"))
	if err := os.Mkdir(aside, 0o700); err != nil {
		return "", err
	}
	manifest, err := os.ReadFile(filepath.Join(d.path, badger.ManifestFilename))
	if err == nil {
		err = os.WriteFile(filepath.Join(aside, badger.ManifestFilename), manifest, 0o600)
	}
	for _, name := range tables {
		if err == nil {
			err = os.Link(filepath.Join(d.path, name), filepath.Join(aside, name))
		}
	}
	return aside, err
}

// openBadger opens a database whose directory has been checked. It tries again
// after the error of a database that was killed at the wrong moment.
func openBadger(opt badger.Options) (db *badger.DB, note string, err error) {
	db, err = tryOpen(opt)
	if err != nil && strings.Contains(err.Error(), "Create a new file") {
		note = fmt.Sprintf("the database opened at the second attempt, after: %v", err)
		db, err = tryOpen(opt)
	}
	return db, note, err
}

func tryOpen(opt badger.Options) (db *badger.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: opening it: %v", store.ErrCorrupt, r)
		}
	}()
	db, err = badger.Open(opt)
	if err == nil {
		return db, nil
	}
	if strings.Contains(err.Error(), "Another process is using this Badger database") {
		return nil, &InUseError{Dir: opt.Dir}
	}
	if errors.Is(err, badger.ErrEncryptionKeyMismatch) || strings.Contains(err.Error(), badger.ErrEncryptionKeyMismatch.Error()) {
		// Its tables are not encrypted, check has seen to that.
		return nil, fmt.Errorf("%w: KEYREGISTRY is not that of a database without encryption", store.ErrCorrupt)
	}
	if isDamage(err) {
		return nil, fmt.Errorf("%w: opening it: %w", store.ErrCorrupt, err)
	}
	return nil, fmt.Errorf("open the database: %w", err)
}

// isDamage tells errors of Badger's opening that come from bad bytes from those
// of the system. Badger wraps errors as text, so their text is all there is.
func isDamage(err error) bool {
	for _, target := range []error{fs.ErrPermission, fs.ErrNotExist} {
		if errors.Is(err, target) {
			return false
		}
	}
	text := strings.ToLower(err.Error())
	for _, word := range []string{"checksum", "corrupt", "level validation", "datakey", "data key", "does not exist for table", "invalid", "opening table", "sanity", "iv for key registry", "keyregistryiterator"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}
