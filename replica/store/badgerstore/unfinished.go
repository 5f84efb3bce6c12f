package badgerstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
)

// Badger names a new table in MANIFEST, syncs that, and if the sync fails
// removes the table: MANIFEST then names a table that is not there. What was in
// it still is where it came from, a write-ahead log or the tables that were
// merged. So that entry of MANIFEST is taken back.
//
// A table that somebody deleted looks the same if it was the last one written.
// Then something is missing, and what is newer than the table says so: HEAD and
// the dataset's fingerprint.

// mostUnfinished is how many entries are taken back at most.
const mostUnfinished = 64

// unfinished looks for the last state that MANIFEST describes of which all
// tables are there, if what it says after that is of tables that are not there.
// It returns that state and notes where in MANIFEST it ends; or else last.
func (d *directory) unfinished(last badger.Manifest) badger.Manifest {
	b, err := os.ReadFile(filepath.Join(d.path, badger.ManifestFilename))
	if err != nil {
		return last
	}
	ends := entryEnds(b)
	for i := len(ends) - 2; i >= 0 && i >= len(ends)-1-mostUnfinished; i-- {
		m, err := replay(b[:ends[i]])
		if err != nil {
			return last
		}
		if !d.complete(m) {
			continue
		}
		if d.vanished = d.superseded(m, last); d.vanished == 0 {
			return last
		}
		d.whole = ends[i]
		return m
	}
	return last
}

// entryEnds returns where MANIFEST's head and each of its entries ends: each
// begins with its length and a checksum, four bytes each.
func entryEnds(b []byte) []int64 {
	const head, entryHead = 8, 8
	ends := []int64{head}
	for at := int64(head); at+entryHead <= int64(len(b)); {
		at += entryHead + int64(binary.BigEndian.Uint32(b[at:]))
		if at > int64(len(b)) {
			break
		}
		ends = append(ends, at)
	}
	return ends
}

// replay returns what a MANIFEST says.
func replay(b []byte) (m badger.Manifest, err error) {
	f, err := os.CreateTemp("", "sdiff-manifest-")
	if err != nil {
		return m, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return m, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return m, err
	}
	m, _, err = badger.ReplayManifestFile(f, 0, badger.DefaultOptions("").WithLogger(nil))
	return m, err
}

// complete reports whether all tables are there.
func (d *directory) complete(m badger.Manifest) bool {
	for id := range m.Tables {
		if d.tables[table.IDToFilename(id)] < minTable {
			return false
		}
	}
	return true
}

// superseded returns how many tables MANIFEST names since it said m, if nothing
// is lost with them: none of them is there, so nothing else is in them; and
// those from memory still have their log. Otherwise it returns 0.
func (d *directory) superseded(m, last badger.Manifest) (n int) {
	for id, t := range last.Tables {
		if _, ok := m.Tables[id]; ok {
			continue
		}
		_, there := d.tables[table.IDToFilename(id)]
		if there || t.Level == 0 && !d.logged() {
			return 0
		}
		n++
	}
	return n
}

// logged reports whether there is a write-ahead log with anything in it.
func (d *directory) logged() bool {
	const head = 20 // of the file, before the first entry
	for name := range d.logs {
		if filepath.Ext(name) != ".mem" {
			continue
		}
		f, err := os.Open(filepath.Join(d.path, name))
		if err != nil {
			continue
		}
		var entry [16]byte
		_, err = f.ReadAt(entry[:], head)
		f.Close()
		if err == nil && entry != [16]byte{} {
			return true
		}
	}
	return false
}

// takeBack cuts off the entries of tables that are not there, after a copy was
// put aside.
func (d *directory) takeBack() error {
	aside, err := d.putAside(d.unknown)
	if err != nil {
		return fmt.Errorf("put MANIFEST aside: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(d.path, badger.ManifestFilename), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(d.whole), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cut MANIFEST: %w", err)
	}
	d.notes = append(d.notes, fmt.Sprintf("the last entries of MANIFEST named %d tables that are not there, as an I/O error leaves it; they were taken back, and MANIFEST as it was is in %s", d.vanished, aside))
	return nil
}
