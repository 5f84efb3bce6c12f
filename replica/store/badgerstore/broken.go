package badgerstore

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

// A breakage is an I/O error outside of a transaction, when Badger writes out a
// table: it logs that and tries again. By then MANIFEST may name a table that
// was removed (see unfinished.go), and with every further table it becomes
// harder to tell what belongs to what. So it may not try again, and the next Open
// goes on from what is on disk. Other goroutines of Badger do not stop: one that
// merges tables may go on, and then Open may have to refuse.
type breakage struct {
	once sync.Once
	c    chan struct{} // closed after err is set
	err  error
}

func newBreakage() *breakage { return &breakage{c: make(chan struct{})} }

func (b *breakage) set(err error) {
	b.once.Do(func() {
		b.err = err
		close(b.c)
	})
}

// broken returns a channel that is closed when the database is broken. It may
// be called on nil.
func (b *breakage) broken() <-chan struct{} {
	if b == nil {
		return nil
	}
	return b.c
}

// failed returns why the database is broken, or nil. It may be called on nil.
func (b *breakage) failed() error {
	select {
	case <-b.broken():
		return b.err
	default:
		return nil
	}
}

// A logger passes Badger's warnings and errors on. What Badger says in passing
// is not worth a line in someone's service.
type logger struct {
	l      *slog.Logger
	broken *breakage
}

// early are errors that come before MANIFEST is written to. They change nothing,
// and Badger is right to try again.
var early = []string{"while creating table", "non-empty level", "Filesizes cannot be zero"}

// lastWords begin what Badger logs, and then waits for the logger, when a table
// could not be written out, from memory or merged. After the second it goes on
// with tables of which MANIFEST says that they are gone.
var lastWords = []string{"error flushing memtable", "While running doCompact"}

func (l logger) Errorf(format string, args ...any) {
	l.l.Error("badger", "message", line(format, args))
	l.stop(format, args)
}

func (l logger) Warningf(format string, args ...any) {
	l.l.Warn("badger", "message", line(format, args))
	l.stop(format, args)
}

func (logger) Infof(string, ...any)  {}
func (logger) Debugf(string, ...any) {}

// stop keeps the goroutine that logs from ever going on.
func (l logger) stop(format string, args []any) {
	begins := func(w string) bool { return strings.HasPrefix(format, w) }
	text := line(format, args)
	has := func(w string) bool { return strings.Contains(text, w) }
	if slices.ContainsFunc(lastWords, begins) && !slices.ContainsFunc(early, has) {
		l.broken.set(fmt.Errorf("write out a table: %s", text))
		select {}
	}
}

func line(format string, args []any) string {
	return strings.TrimSpace(fmt.Sprintf(format, args...))
}
