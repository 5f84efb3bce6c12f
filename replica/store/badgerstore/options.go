package badgerstore

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// Options configure a Store. The zero Options are the defaults.
type Options struct {
	// Prefix is what all keys of the dataset begin with in the database, at
	// most 256 bytes. It is for Open only; New has it as a parameter.
	Prefix string

	// NoSync leaves it to the operating system when writes reach the disk. A
	// power cut then loses the newest ones, and not necessarily in order; a
	// kill loses none. It is for Open only.
	NoSync bool

	// Memory is about how many bytes the tables in memory may take: one being
	// filled and those that wait to be written out, of 64 MiB each or more with
	// a long prefix. If zero, DefaultMemory; less than MinMemory is MinMemory.
	//
	// It is no bound on the process. While tables are written out and merged,
	// Badger keeps up to eight buffers of that size or twice as much: loading
	// at full speed has been seen to take 0.9 GB. With debug.SetMemoryLimit of
	// 300 MiB it was 0.4 GB. It is for Open only.
	Memory int64

	// Compress packs tables with Snappy: less disk for text, slower scans. Tables
	// that are there stay as they are until they are rewritten. It is for Open
	// only.
	Compress bool

	// Reserve is the free space on the disk below which writes are refused
	// with store.ErrNoSpace, until there is a quarter more, in bytes. If zero,
	// DefaultReserve or a tenth of the volume, whichever is less. Whatever it
	// says, as much as the tables in memory hold is kept free, too: they are
	// still to be written out. If negative, the disk may fill up, and a full
	// disk kills the process.
	Reserve int64

	// SkipVerify leaves out reading all of the database to check its checksums
	// when it is opened. Indexes and footers are checked all the same. It is
	// for Open only.
	SkipVerify bool

	// First, if set, opens the database in a process of its own before Open does,
	// unless it is new or as Close left it. A database that makes Badger end the
	// process is then an error that wraps store.ErrCorrupt. It costs a second
	// opening, but checksums are looked at once only. It is for Open only.
	First First

	// AcceptNoSync takes a database that does not sync its writes: Info then
	// says that writes are not durable. It is for New only.
	AcceptNoSync bool
	// AcceptValueLog takes a database whose values may end up in Badger's
	// value log, where damage reads as an empty value without an error. It is
	// for New only.
	AcceptValueLog bool
	// AcceptBlockRead takes a database that checks blocks when it reads them,
	// where a damaged key is reported as not there and a scan just ends. It is
	// for New only.
	AcceptBlockRead bool
	// AcceptTTL reads items that have a time to live. They go away one day
	// without any commit, which then looks like damage. Without it, meeting
	// one is an *ExpiryError.
	AcceptTTL bool

	// Logger takes Badger's warnings and errors, and this package's. If nil,
	// nothing is logged.
	Logger *slog.Logger
}

// Memory budgets, in bytes.
const (
	DefaultMemory = 256 << 20
	MinMemory     = 128 << 20
)

// DefaultReserve is the default of Options.Reserve on a volume of 5 GiB and
// more, in bytes: room for the logs of all tables in memory to grow, for the
// tables to be written out, and for some to be merged. A merge in a database of
// many gigabytes can take more.
const DefaultReserve = 512 << 20

// What one transaction of a Txn takes at most, as Badger counts it: an op costs
// its key and value, 2 bytes and 10 for the version, of which stream.Size has
// counted all; a part, a record and the meta cost a little more than they hold.
const (
	logCost   = store.MaxLogBody + maxParts*entryCost
	extraCost = store.MaxExtra + (store.MaxRecords+2)*entryCost
	// entryCost is the cost of an own entry beside its data: key, part header,
	// and what Badger adds.
	entryCost = 12 + partHeader + len(own) + 2 + 3*maxPrefix + 4 + 16
	// extraOps is how many entries there are beside ops.
	extraOps = maxParts + store.MaxRecords + 3
)

// nodeBytes is skl.MaxNodeSize, by which Badger turns the bytes of a
// transaction into a number of entries.
const nodeBytes = 96

// memTable returns the size of the memory tables that a transaction of the
// largest commit needs with a prefix of that length: Badger allows it 15 % of
// one.
func memTable(prefix int) int64 {
	need := int64(stream.MaxCommitBytes + stream.MaxOps*prefix + logCost + extraCost)
	need = max(need, (stream.MaxOps+extraOps+1)*nodeBytes)
	return max(64<<20, (need*100/15>>20+1)<<20)
}

// badgerOptions returns the options for a database of our own.
func badgerOptions(dir string, o Options, compressed bool) badger.Options {
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	table := memTable(len(o.Prefix))
	waiting := min(max(o.Memory/table-1, 1), 5)
	opt := badger.DefaultOptions(dir).
		WithSyncWrites(!o.NoSync).
		WithDetectConflicts(false). // there is one writer
		WithValueThreshold(1 << 20).
		WithValueLogFileSize(16 << 20). // nothing is ever in it
		WithMemTableSize(table).
		WithNumMemtables(int(waiting)).
		WithNumCompactors(2).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithMetricsEnabled(false).
		// Every block has been checked before Badger sees it, see verify.go.
		WithChecksumVerificationMode(options.NoVerification).
		WithLogger(logger{o.log()})
	if o.Compress {
		opt = opt.WithCompression(options.Snappy)
	}
	if o.Compress || compressed {
		opt = opt.WithBlockCacheSize(32 << 20) // of unpacked blocks
	}
	opt.BypassLockGuard = ownLock // which Open holds then
	return opt
}

// check returns an error if a database that someone else opened cannot keep
// the promises of a Store.
func (o *Options) check(db *badger.DB) error {
	opt := db.Opts()
	var bad []string
	if opt.ReadOnly {
		bad = append(bad, "it is open for reading only")
	}
	if !opt.SyncWrites && !opt.InMemory && !o.AcceptNoSync {
		bad = append(bad, "SyncWrites is off, so a power cut loses acknowledged writes (AcceptNoSync takes it)")
	}
	if opt.ValueThreshold < 1<<20 && !opt.InMemory && !o.AcceptValueLog {
		bad = append(bad, "ValueThreshold is below 1 MiB, so values may be in the value log, where damage goes unnoticed (AcceptValueLog takes it)")
	}
	if opt.VLogPercentile > 0 && !o.AcceptValueLog {
		bad = append(bad, "VLogPercentile is set, so values may be in the value log, where damage goes unnoticed (AcceptValueLog takes it)")
	}
	if m := opt.ChecksumVerificationMode; (m == options.OnBlockRead || m == options.OnTableAndBlockRead) && !o.AcceptBlockRead {
		bad = append(bad, "it checks blocks when they are read, and then takes damage for absence (AcceptBlockRead takes it; OnTableRead is safe)")
	}
	if managed(db) {
		bad = append(bad, "it is open in managed mode, where others choose the timestamps")
	}
	if len(bad) > 0 {
		return &HandleError{Reasons: bad}
	}
	return nil
}

// managed reports whether a database was opened with OpenManaged: Badger says
// so only by a panic.
func managed(db *badger.DB) (yes bool) {
	defer func() { yes = recover() != nil }()
	db.NewTransaction(false).Discard()
	return false
}

// A HandleError says why a database that someone else opened cannot be used.
// It wraps store.ErrRefused.
type HandleError struct{ Reasons []string }

// Error names all reasons.
func (e *HandleError) Error() string {
	return "the Badger database cannot be used: " + strings.Join(e.Reasons, "; ")
}

// Unwrap returns store.ErrRefused.
func (e *HandleError) Unwrap() error { return store.ErrRefused }

// limits returns what fits one transaction of a database.
func limits(db *badger.DB, prefix int) (store.Limits, error) {
	l := store.Limits{
		Key:         badgerKey - prefix,
		Value:       1<<20 - 4096,
		CommitBytes: stream.MaxCommitBytes,
		CommitOps:   stream.MaxOps,
	}
	// Strictly less than either bound is what Badger takes.
	entries := int(db.MaxBatchCount()) - extraOps - 1
	size := int(db.MaxBatchSize()) - logCost - extraCost - 1
	l.CommitOps = min(l.CommitOps, entries)
	if need := l.CommitBytes + l.CommitOps*prefix; need > size {
		// Shrink both alike.
		l.CommitOps = int(int64(l.CommitOps) * int64(size) / int64(need))
		l.CommitBytes = int(int64(l.CommitBytes) * int64(size) / int64(need))
	}
	l.Value = min(l.Value, l.CommitBytes)
	if l.CommitOps < 1000 || l.CommitBytes < 64<<10 {
		return store.Limits{}, &HandleError{Reasons: []string{fmt.Sprintf(
			"its transactions of %d bytes are too small; a MemTableSize of %d MiB is enough", db.MaxBatchSize(), memTable(prefix)>>20)}}
	}
	return l, nil
}

func (o *Options) log() *slog.Logger {
	if o.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Logger
}

// A logger passes Badger's warnings and errors on. What Badger says in passing
// is not worth a line in someone's service.
type logger struct{ l *slog.Logger }

func (l logger) Errorf(format string, args ...any) {
	l.l.Error("badger", "message", line(format, args))
}
func (l logger) Warningf(format string, args ...any) {
	l.l.Warn("badger", "message", line(format, args))
}
func (logger) Infof(string, ...any)  {}
func (logger) Debugf(string, ...any) {}

func line(format string, args []any) string {
	return strings.TrimSpace(fmt.Sprintf(format, args...))
}

// only returns the options that were given, if any.
func only(opts []Options) Options {
	switch len(opts) {
	case 0:
		return Options{}
	case 1:
		return opts[0]
	}
	panic("badgerstore: more than one Options")
}
