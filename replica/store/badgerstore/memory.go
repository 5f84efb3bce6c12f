package badgerstore

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// Memory budgets, in bytes.
const (
	DefaultMemory = planParts*largeTable + wideBytes
	MinMemory     = planParts * smallTable
)

// What one transaction of a Txn takes at most, as Badger counts it: an op costs
// its key and value, 2 bytes and 10 for the version, of which stream.Size has
// counted all; a part, a record and the meta cost a little more than they hold.
// extraOps is how many entries there are beside them.
const extraOps = maxParts + store.MaxRecords + 3

// entryCost returns the cost of an own entry beside its data: key, part header,
// and what Badger adds. A prefix is escaped in it.
func entryCost(prefix int) int { return 12 + partHeader + len(own) + 2 + 3*prefix + 4 + 16 }

// extraCost returns the cost of all entries that are neither ops nor log.
func extraCost(prefix int) int { return store.MaxExtra + (store.MaxRecords+2)*entryCost(prefix) }

// logCost returns the cost of the log record of a commit of so many bytes. Its
// encoding takes less than stream.Size counts.
func logCost(commit, prefix int) int {
	return min(store.MaxLogBody, commit+4096) + maxParts*entryCost(prefix)
}

// maxItem is the size of the largest item.
const maxItem = badgerKey + maxValue + 64

// maxValue is the largest value, in bytes: less than what Badger takes out of
// its tables.
const maxValue = 1<<20 - 4096

// nodeBytes is skl.MaxNodeSize, by which Badger turns the bytes of a
// transaction into a number of entries.
const nodeBytes = 96

// Sizes of the tables in memory. Badger allows a transaction 15 % of one. The
// smallest takes the largest value with its log record, the next the largest
// commit without one, as followers store it.
const (
	smallTable  = 22 << 20
	mediumTable = 32 << 20
	largeTable  = 64 << 20
)

// memTable returns the size of the tables in memory that a transaction of the
// largest commit needs with a prefix of that length.
func memTable(prefix int) int64 {
	need := int64(stream.MaxCommitBytes + stream.MaxOps*prefix + logCost(stream.MaxCommitBytes, prefix) + extraCost(prefix))
	need = max(need, (stream.MaxOps+extraOps+1)*nodeBytes)
	return max(largeTable, (need*100/15>>20+1)<<20)
}

// A memoryPlan is how a budget is spent.
//
// Badger sets aside 1.3 times the size of a table in memory, and there are up to
// three: one is filled, one waits, one is written out, for which there is a
// buffer of as much or up to twice as much. The rest are the buffers of tables
// that are being merged, of twice their size, up to a dozen for each of two
// mergers.
//
// Where more than two tables may gather on level 0, a load that goes on costs
// less, and Badger comes to merge four of them and more with each other, in a
// buffer of 256 MiB and more. So that is for budgets that have wideBytes to spare.
type memoryPlan struct {
	memTable     int64 // bytes of a table in memory
	table        int64 // bytes of a table on disk, on all levels but 0
	merge, stall int   // tables on level 0 from which they are merged, and wait
}

// wideBytes is what a budget must have beside the tables in memory so that many
// tables may gather on level 0.
const wideBytes = 576 << 20

// planParts is how many tables in memory make up a budget.
const planParts = 5

// FullMemory returns the least budget with which the largest commits fit, in
// bytes: it depends on the length of the prefix, which every op carries.
func FullMemory(prefix string) int64 { return planParts * memTable(len(prefix)) }

// planMemory returns how to spend a budget.
func planMemory(budget int64, prefix int) memoryPlan {
	if budget == 0 {
		budget = max(DefaultMemory, planParts*memTable(prefix))
	}
	p := memoryPlan{memTable: smallTable, table: 2 << 20, merge: 2, stall: 3}
	for _, size := range []int64{mediumTable, largeTable, memTable(prefix)} {
		if size*planParts <= budget {
			p.memTable = size
		}
	}
	if p.memTable >= largeTable {
		p.table = 4 << 20
	}
	if planParts*p.memTable+wideBytes <= budget {
		p.merge, p.stall = 5, 15 // as Badger has it
	}
	return p
}

// checkMemory returns an error for a budget that cannot be kept.
func (o *Options) checkMemory() error {
	if o.Memory != 0 && o.Memory < MinMemory {
		return fmt.Errorf("%w: a memory budget of %d bytes is under the least of %d", store.ErrRefused, o.Memory, MinMemory)
	}
	return nil
}

// leftTable returns the size of the tables in memory of the process that left
// logs of them in a directory, if it was larger than size; else size. Badger
// makes such a file twice as large as the table, and cuts it when it has read
// it. It cannot read one into a smaller table than it was made for.
func leftTable(dir string, prefix int, size int64) (int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".mem" {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return 0, err
		}
		size = max(size, madeFor(info.Size(), prefix))
	}
	return size, nil
}

// madeFor returns the size of the table in memory whose log has so many bytes.
func madeFor(log int64, prefix int) int64 {
	sizes := []int64{smallTable, mediumTable, largeTable, memTable(prefix)}
	for _, size := range sizes {
		if log == 2*size {
			return size
		}
	}
	for _, size := range sizes {
		if log <= size+size/10 {
			return size
		}
	}
	return log
}

// limits returns what fits one transaction of a database.
func limits(db *badger.DB, prefix int) (store.Limits, error) {
	l := store.Limits{
		Key:         badgerKey - prefix,
		Value:       maxValue,
		CommitBytes: stream.MaxCommitBytes,
		CommitOps:   stream.MaxOps,
	}
	// Strictly less than either bound is what Badger takes.
	entries := int(db.MaxBatchCount()) - extraOps - 1
	size := int(db.MaxBatchSize()) - extraCost(prefix) - 1
	l.CommitOps = min(l.CommitOps, entries)
	if need := l.CommitBytes + l.CommitOps*prefix; need > size {
		if prefix > 0 {
			// Shrink both alike, but rather have fewer ops than smaller items.
			l.CommitOps = int(int64(l.CommitOps) * int64(size) / int64(need))
			l.CommitOps = min(l.CommitOps, (size-logCost(maxItem, prefix)-maxItem)/prefix)
		}
		l.CommitBytes = min(l.CommitBytes, size-l.CommitOps*prefix)
	}
	// With a log record, the bytes are there twice.
	l.LoggedBytes = l.CommitBytes
	if room := size - l.CommitOps*prefix; l.LoggedBytes+logCost(l.LoggedBytes, prefix) > room {
		l.LoggedBytes = max((room-logCost(0, prefix))/2, room-logCost(store.MaxLogBody, prefix))
	}
	// Any item must fit, or a copy might never be complete.
	if l.CommitOps < 1000 || l.LoggedBytes < maxItem {
		return store.Limits{}, &HandleError{Reasons: []string{fmt.Sprintf(
			"its transactions of %d bytes are too small; a MemTableSize of %d MiB is enough, or Memory of %d MiB", db.MaxBatchSize(), memTable(prefix)>>20,
			planParts*memTable(prefix)>>20)}}
	}
	return l, nil
}
