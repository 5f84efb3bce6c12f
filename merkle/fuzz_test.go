package merkle

import (
	"bytes"
	"maps"
	"testing"
)

// FuzzTree reads its input as a program of operations, runs it on a tree and a
// map, and compares. An operation is a byte: what to do, and how much of the
// key before the next key keeps; then the rest of the key, its length first.
func FuzzTree(f *testing.F) {
	f.Add([]byte("\x00\x01a\x00\x01b\x01\x01a"))
	f.Add([]byte("\x02\x03abc\x12\x02xy\x05\x00\x03\x01a\x06\x01b"))
	f.Add([]byte("\x04\x02ab\x14\x01c\x07\x00\x02\x01z\x05\x00\x04\x00"))
	f.Fuzz(func(t *testing.T, program []byte) {
		tree, want := new(Tree), map[string]uint64{}
		var snap *Snapshot
		var was map[string]uint64
		var key []byte
		for n := uint64(1); len(program) >= 2; n++ {
			op, length := program[0], int(program[1])
			program = program[2:]
			length = min(length, len(program))
			key = append(key[:min(len(key), int(op>>4))], program[:length]...)
			program = program[length:]
			switch op & 7 {
			case 0, 1, 2:
				fuzzPut(t, tree, want, key, n)
			case 3:
				old, had := tree.Delete(key)
				if hash, ok := want[string(key)]; old != hash || had != ok {
					t.Fatalf("Delete(%q) = %d, %v, want %d, %v", key, old, had, hash, ok)
				}
				delete(want, string(key))
			case 4: // many keys, each longer than the one before
				for i := range 40 {
					long := append(bytes.Clone(key), bytes.Repeat([]byte{byte(length)}, i*int(op>>3))...)
					fuzzPut(t, tree, want, long, n)
				}
			case 5:
				snap, was = tree.Snapshot(), maps.Clone(want)
			case 6:
				for _, p := range newReference(want).prefix(key) {
					tree.Delete([]byte(p.key))
					delete(want, p.key)
				}
			case 7:
				ref := newReference(want)
				if got, want := tree.Range(key, nil), ref.slice(key, nil).sum(); got != want {
					t.Fatalf("Range(%q, nil) = %v, want %v", key, got, want)
				}
				tree = ref.tree()
			}
		}
		if err := tree.check(); err != nil {
			t.Fatal(err)
		}
		if !newReference(want).same(tree) || !newReference(was).same(snap) {
			t.Fatal("the tree or its snapshot differs from the model")
		}
	})
}

func fuzzPut(t *testing.T, tree *Tree, want map[string]uint64, key []byte, hash uint64) {
	old, had := tree.Put(key, hash)
	if h, ok := want[string(key)]; old != h || had != ok {
		t.Fatalf("Put(%q) = %d, %v, want %d, %v", key, old, had, h, ok)
	}
	want[string(key)] = hash
}

// FuzzDecoder gives a decoder any bytes as cells of any group, in pieces of any
// length. Whatever they are, what is found and what is left together are what
// came, and there is no more of it than cells.
func FuzzDecoder(f *testing.F) {
	honest := func(n, groups, group, cells int) (b []byte) {
		for _, c := range cellsOf(hashes(0, n), groups, group, cells) {
			b = c.Append(b)
		}
		return b
	}
	f.Add(uint8(0), uint8(0), uint8(3), honest(5, 1, 0, 20))
	f.Add(uint8(2), uint8(1), uint8(200), honest(40, 4, 1, 20))
	f.Add(uint8(6), uint8(9), uint8(1), honest(100, 64, 9, 4))
	f.Add(uint8(0), uint8(0), uint8(7), honest(30, 1, 0, 20))
	f.Add(uint8(0), uint8(0), uint8(0), append(honest(1, 1, 0, 1), make([]byte, 10*CellSize)...))
	f.Fuzz(func(t *testing.T, logGroups, group, piece uint8, data []byte) {
		groups := 1 << (logGroups % 7)
		d := NewDecoder(groups, int(group)%groups)
		var cells []Cell
		for data = data[:min(len(data), 4096*CellSize)]; len(data) >= CellSize; data = data[CellSize:] {
			cells = append(cells, ParseCell(data))
		}
		for rest := cells; len(rest) > 0 && !d.Failed(); {
			n := min(len(rest), int(piece)+1)
			d.Add(rest[:n])
			rest = rest[n:]
		}
		if len(d.Found()) > d.Len() || d.Failed() && d.Done() {
			t.Fatalf("%d hashes found in %d cells; failed %v, done %v", len(d.Found()), d.Len(), d.Failed(), d.Done())
		}
		left, zeros := 0, 0
		for _, c := range cells[:d.Len()] {
			if c == (Cell{}) {
				zeros++
			}
		}
		again := make([]Cell, d.Len())
		for _, h := range d.Found() {
			if SketchGroup(h, groups) != int(group)%groups {
				t.Fatalf("%#x was found, which belongs to another group", h)
			}
			toggle(again, h)
		}
		for i, c := range xor(again, cells[:d.Len()]) {
			if c != d.cells[i] {
				t.Fatalf("cell %d has %x left, want %x", i, d.cells[i], c)
			}
			if c != (Cell{}) {
				left++
			}
		}
		if left != d.left || zeros != d.Empty() || d.Done() != (left == 0 && d.Len() > 0 && !d.Failed()) {
			t.Fatalf("%d cells left, want %d; %d came empty, want %d; done %v", d.left, left, d.Empty(), zeros, d.Done())
		}
	})
}
