package badgerstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sdiff/sdiff/replica/store"
)

// The file HEAD, docs/FORMAT.md: two slots of 64 bytes, written in turn, each in
// a page of its own. A torn write costs one slot; the other still says what was
// true one transaction earlier.
const (
	slotBytes = 64
	slotAt    = 4096 // where the second slot begins
)

var slotMagic = [4]byte{'S', 'D', 'H', '1'}

// appendSlot appends the encoding of h, slotBytes long. Of the position it
// keeps epoch and offset.
func appendSlot(b []byte, h store.Head) []byte {
	start := len(b)
	b = append(b, slotMagic[:]...)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, h.Seq)
	b = append(b, h.Position.Epoch[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Position.Offset)
	b = binary.BigEndian.AppendUint64(b, h.Summary.Count)
	b = binary.BigEndian.AppendUint64(b, h.Summary.Sum)
	b = append(b, 0, 0, 0, 0)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// parseSlot parses what appendSlot wrote, or reports that it is nothing of the
// kind.
func parseSlot(b []byte) (h store.Head, ok bool) {
	if len(b) != slotBytes || !bytes.HasPrefix(b, slotMagic[:]) {
		return store.Head{}, false
	}
	if crc32.Checksum(b[:slotBytes-4], castagnoli) != binary.BigEndian.Uint32(b[slotBytes-4:]) {
		return store.Head{}, false
	}
	if binary.BigEndian.Uint32(b[4:]) != 0 || binary.BigEndian.Uint32(b[56:]) != 0 {
		return store.Head{}, false
	}
	h.Seq = binary.BigEndian.Uint64(b[8:])
	copy(h.Position.Epoch[:], b[16:])
	h.Position.Offset = binary.BigEndian.Uint64(b[32:])
	h.Summary.Count = binary.BigEndian.Uint64(b[40:])
	h.Summary.Sum = binary.BigEndian.Uint64(b[48:])
	return h, true
}

// headName returns the name of the file for a prefix. Several datasets of one
// database have one each; a hash makes a name that every file system takes.
func headName(prefix string) string {
	if prefix == "" {
		return "HEAD"
	}
	sum := sha256.Sum256([]byte(prefix))
	return "HEAD-" + hex.EncodeToString(sum[:8])
}

// A headFile is the open file HEAD. One goroutine writes it, another syncs it.
type headFile struct {
	f     *os.File
	found *store.Head // at open
	note  string      // what was wrong with it
	next  int         // slot to write
	began bool        // something was written since open
	buf   [slotBytes]byte
}

// openHead opens or makes the file in dir. What is in it is changed by write
// only. seq is the number of the database's newest transaction.
func openHead(dir, prefix string, seq uint64) (*headFile, error) {
	h, err := readHead(dir, prefix, seq)
	if err != nil {
		return nil, err
	}
	h.f, err = os.OpenFile(filepath.Join(dir, headName(prefix)), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// The name too must survive a power cut, the first time at least.
	if err := syncDir(dir); err != nil {
		h.f.Close()
		return nil, err
	}
	return h, nil
}

// readHead reads the file in dir, if there is one, and closes it.
func readHead(dir, prefix string, seq uint64) (*headFile, error) {
	h := &headFile{}
	name := headName(prefix)
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		if seq > 0 {
			h.note = "the file " + name + " is missing: " + cannotTell
		}
		return h, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var slots [2][slotBytes]byte
	var valid, written, bytes int
	for i := range slots {
		n, err := f.ReadAt(slots[i][:], int64(i)*slotAt)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read %s: %w", f.Name(), err)
		}
		bytes += n
		if n > 0 && slots[i] != [slotBytes]byte{} {
			written++
		}
		head, ok := parseSlot(slots[i][:n])
		if !ok {
			continue
		}
		valid++
		if h.found == nil || head.Seq >= h.found.Seq {
			h.found = &head
			h.next = 1 - i
		}
	}
	switch {
	case bytes == 0 && seq > 0:
		h.note = "the file " + name + " is empty: " + cannotTell
	case written > 0 && valid == 0:
		h.note = "the file " + name + " is damaged: " + cannotTell
	case valid == 0 && seq > 0:
		h.note = "the file " + name + " is all zeroes: " + cannotTell
	case valid < written:
		h.note = "one of the two slots of " + name + " is damaged"
	case valid == 1 && seq > 1:
		h.note = "one of the two slots of " + name + " is missing"
	}
	return h, nil
}

// cannotTell is what a HEAD that says nothing means.
const cannotTell = "whether the database lost its end cannot be told"

// write writes the head of the newest transaction to the slot whose turn it
// is. The first write after open fills both, because what was found there may
// be ahead of what is true now.
func (h *headFile) write(head store.Head) error {
	b := appendSlot(h.buf[:0], head)
	if !h.began {
		if _, err := h.f.WriteAt(b, int64(1-h.next)*slotAt); err != nil {
			return err
		}
		h.began = true
	}
	_, err := h.f.WriteAt(b, int64(h.next)*slotAt)
	h.next = 1 - h.next
	return err
}
