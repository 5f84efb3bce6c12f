package badgerstore

import (
	"log/slog"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/sdiff/sdiff/replica/store"
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

	// Memory bounds, about, the anonymous memory that the database takes: its
	// tables in memory, and the buffers of tables that are written out and
	// merged. What the process has beside it and what the garbage collector has
	// not collected yet comes on top; debug.SetMemoryLimit bounds that. If zero,
	// DefaultMemory or FullMemory, whichever is more; less than MinMemory is
	// refused. Under FullMemory the largest commits are smaller, see
	// Store.Limits. It is for Open only.
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

	unmerged bool // do not merge tables; for tests
}

// DefaultReserve is the default of Options.Reserve on a volume of 5 GiB and
// more, in bytes: room for the logs of all tables in memory to grow, for the
// tables to be written out, and for some to be merged. A merge in a database of
// many gigabytes can take more.
const DefaultReserve = 512 << 20

// badgerOptions returns the options for a database of our own.
func badgerOptions(dir string, o Options, compressed bool, broken *breakage) badger.Options {
	plan := planMemory(o.Memory, len(o.Prefix))
	opt := badger.DefaultOptions(dir).
		WithSyncWrites(!o.NoSync).
		WithDetectConflicts(false). // there is one writer
		WithValueThreshold(1 << 20).
		WithValueLogFileSize(16 << 20). // nothing is ever in it
		WithMemTableSize(plan.memTable).
		WithNumMemtables(1).
		WithNumLevelZeroTables(plan.merge).
		WithNumLevelZeroTablesStall(plan.stall).
		WithBaseTableSize(plan.table).
		WithNumCompactors(2).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithMetricsEnabled(false).
		// Every block has been checked before Badger sees it, see verify.go.
		WithChecksumVerificationMode(options.NoVerification).
		WithLogger(logger{o.log(), broken})
	if o.unmerged {
		opt = opt.WithNumCompactors(0)
	}
	if o.Compress {
		opt = opt.WithCompression(options.Snappy)
	}
	if o.Compress || compressed {
		opt = opt.WithBlockCacheSize(32 << 20) // of unpacked blocks
	}
	opt.TableSizeMultiplier = 1   // for the buffers' sake: they are twice a table
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

func (o *Options) log() *slog.Logger {
	if o.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Logger
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
