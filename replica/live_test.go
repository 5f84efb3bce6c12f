package replica

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/stream"
)

// TestSketchFollowsUndoAndCorrection applies ops, takes some back as a refused
// transaction does, corrects keys as a scrub does, and takes sketches in between;
// then the tree's sketch must be that of its items.
func TestSketchFollowsUndoAndCorrection(t *testing.T) {
	tree := newLiveTree(&merkle.Tree{}, merkle.XXH64(), true)
	for i := range 600 {
		var ops []stream.Op
		for j := range 40 {
			op := stream.Op{Key: fmt.Appendf(nil, "k%d", (i*7+j*j)%5000), Delete: (i+j)%5 == 0}
			if !op.Delete {
				op.Value = fmt.Appendf(nil, "%d", i)
			}
			ops = append(ops, op)
		}
		list := tree.apply(ops, nil)
		if i%3 == 0 {
			tree.undo(list)
		} else {
			tree.settled()
		}
		if i%10 == 0 {
			tree.Sketch()
		}
		tree.correct(mismatch{key: fmt.Appendf(nil, "k%d", i), inStore: i%2 == 0, have: uint64(i)})
	}
	fresh := tree.Snapshot().Tree()
	fresh.KeepSketch()
	got, want := tree.Sketch(), fresh.Sketch()
	if got.Counters() != want.Counters() {
		t.Error("the counters are not those of the items")
	}
	for i := range merkle.SketchParts {
		cells := func(s *merkle.Sketch) []merkle.Cell {
			return s.AppendCells(nil, merkle.SketchParts, i, 0, want.Cells())
		}
		if !slices.Equal(cells(got), cells(want)) {
			t.Errorf("the cells of part %d are not those of the items", i)
		}
	}
	if n := fresh.Summary().Count; n < 1000 {
		t.Errorf("%d items are too few", n)
	}
}
