package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/protobuf/proto"
)

// poison changes the newest table of a database that nobody runs so that all
// checksums hold and Badger panics over it in a goroutine of its own: poison
// DIR.
func poison(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: poison DIR")
	}
	tables, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "*.sst"))
	ts.Check(err)
	if len(tables) == 0 {
		ts.Fatalf("there is no table in %s", args[0])
	}
	path := tables[len(tables)-1]
	b, err := os.ReadFile(path)
	ts.Check(err)
	if !poisonTable(b) {
		ts.Fatalf("no poison fits %s", path)
	}
	ts.Check(os.WriteFile(path, b, 0o600))
}

// poisonTable fills the entries of a table's last block with noise, and puts
// the checksum right: the one written must be as long as the one before.
func poisonTable(b []byte) bool {
	number := func(end int) int { return int(binary.BigEndian.Uint32(b[end-4 : end])) }
	end := len(b) - 4 - number(len(b)) // of the index's length
	size := number(end)
	index := fb.GetRootAsTableIndex(b[end-4-size:end-4], 0)
	var at fb.BlockOffset
	index.Offsets(&at, index.OffsetsLength()-1)
	block := b[at.Offset() : at.Offset()+at.Len()]
	body, n := block[:len(block)-4], int(binary.BigEndian.Uint32(block[len(block)-4:]))
	body, sum := body[:len(body)-n], body[len(body)-n:]
	entries := body[:len(body)-4-4*int(binary.BigEndian.Uint32(body[len(body)-4:]))]
	var was pb.Checksum
	if err := proto.Unmarshal(sum, &was); err != nil {
		return false
	}
	for i := range entries {
		entries[i] = 0xff
	}
	for noise := range uint16(1 << 15) {
		binary.BigEndian.PutUint16(entries[len(entries)-2:], noise)
		now, err := proto.Marshal(&pb.Checksum{Algo: was.Algo, Sum: y.CalculateChecksum(body, was.Algo)})
		if err == nil && len(now) == len(sum) {
			copy(sum, now)
			return true
		}
	}
	return false
}

// empty makes a file of a database empty, the last one that a pattern matches:
// empty PATTERN. One that nothing matches is made.
func empty(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: empty PATTERN")
	}
	path := ts.MkAbs(args[0])
	if all, err := filepath.Glob(path); err == nil && len(all) > 0 {
		path = all[len(all)-1]
	}
	ts.Check(os.WriteFile(path, nil, 0o600))
}

// snapshot writes the names, modes, times and contents of all files of a
// directory into a file: snapshot DIR FILE.
func snapshot(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: snapshot DIR FILE")
	}
	var b strings.Builder
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v %d %v", path, info.Mode(), info.Size(), info.ModTime())
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %x", sha256.Sum256(content))
		}
		b.WriteByte('\n')
		return nil
	}))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(b.String()), 0o600))
}
