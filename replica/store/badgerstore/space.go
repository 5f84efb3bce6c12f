package badgerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sdiff/sdiff/replica/store"
)

// A space guards the reserve of free disk space, and sees when there is no disk
// to write to any more. It is the writing goroutine's.
type space struct {
	dir     string // empty: nothing to guard
	reserve int64
	head    string      // path of HEAD, or empty
	id      os.FileInfo // of the directory when it was opened
	volume  func(dir string) (free, size int64)

	full    bool // writes of data are refused
	at      time.Time
	written int64 // since then
	slack   int64 // how much more than needed was free then

	ahead  chan look // where the answer of a question asked ahead comes, or nil
	before int64     // what was written when it was asked
}

// A look is what the file system says at a time: how much more than needed is
// free, or why nothing should be written.
type look struct {
	at    time.Time
	slack int64
	err   error
}

const (
	// Asking the file system costs a few microseconds, so it is asked only after
	// so much was written, or after so long, or where it gets tight. What others
	// may fill in this time is what the reserve is for: whoever writes to a
	// memory map on a full disk gets a SIGBUS.
	spaceBytes = 8 << 20
	spaceAge   = 10 * time.Millisecond
	// Where writes go on it is asked after this time already, beside them: then
	// none has to wait for the answer.
	spaceAhead = 6 * time.Millisecond
	// plenty is what is taken for free where it does not matter or cannot be told:
	// then it is asked after spaceBytes or spaceAge.
	plenty = 4 * spaceBytes
	// Nothing at all is written where less than this is free: a Trim, or a
	// transaction without data, takes a part of it.
	floorBytes = 256 << 10
	// fewFiles is how many files it must still be possible to make: a log, a
	// value log and a table for each that is rotated.
	fewFiles = 16
	// What it takes beyond tables to open and to close a database.
	openBytes  = 2 << 20
	closeBytes = 512 << 10
)

func newSpace(dir string, reserve int64) space {
	if dir == "" {
		return space{}
	}
	s := space{dir: dir, reserve: reserve, volume: diskSpace}
	if reserve == 0 {
		_, size := diskSpace(dir)
		s.reserve = defaultReserve(size)
	}
	if info, err := os.Stat(dir); err == nil {
		s.id = info
	}
	return s
}

// defaultReserve returns what to keep free of a volume of so many bytes, or of
// -1 if that cannot be told.
func defaultReserve(volume int64) int64 {
	if volume < 0 {
		return DefaultReserve
	}
	return min(DefaultReserve, volume/10)
}

// check returns an error that wraps store.ErrNoSpace or store.ErrNotWritable if
// so many bytes of data should not be written now.
func (s *space) check(n int64) error {
	if s.dir == "" {
		return nil
	}
	s.written += n
	now := time.Now()
	if s.ahead != nil {
		select {
		case l := <-s.ahead:
			s.takeAhead(l)
		default:
		}
	}
	if s.due(now) && s.ahead != nil {
		s.takeAhead(<-s.ahead)
		now = time.Now()
	}
	if !s.due(now) {
		return nil
	}
	s.before = s.written - n
	l := s.look(n, s.full)
	s.take(l)
	return l.err
}

// due reports whether what is known is too old.
func (s *space) due(now time.Time) bool {
	return s.full || s.written >= min(spaceBytes, s.slack/4) || now.Sub(s.at) >= spaceAge
}

// take takes note of an answer.
func (s *space) take(l look) {
	s.written -= s.before
	s.at, s.slack, s.full = l.at, l.slack, l.err != nil
}

// takeAhead takes note of an answer that was asked for ahead. One that would
// refuse writes has refused none: it only makes the next write ask anew.
func (s *space) takeAhead(l look) {
	s.ahead = nil
	if l.err != nil {
		s.at = time.Time{}
		return
	}
	s.take(l)
}

// lookAhead asks the file system, without waiting for it, if it will soon be
// time to. It is to be called after a write.
func (s *space) lookAhead() {
	if s.dir == "" || s.ahead != nil || s.full || time.Since(s.at) < spaceAhead {
		return
	}
	c := make(chan look, 1)
	s.ahead, s.before = c, s.written
	asking := *s
	go func() { c <- asking.look(0, false) }()
}

// wait waits until nothing is asked any more.
func (s *space) wait() {
	if s.ahead != nil {
		s.takeAhead(<-s.ahead)
	}
}

// look asks the file system whether so many bytes can be written, where writes
// of data were refused before or not. It changes nothing.
func (s *space) look(n int64, full bool) look {
	l := look{at: time.Now()}
	l.slack, l.err = s.ask(n, full)
	return l
}

func (s *space) ask(n int64, full bool) (slack int64, err error) {
	if err := s.gone(); err != nil {
		return 0, err
	}
	if s.reserve < 0 {
		return plenty, nil
	}
	more := int64(0) // than needed, or it would flap
	if full {
		more = 4
	}
	if files, _ := diskFiles(s.dir); files >= 0 && files < fewFiles+more {
		return 0, fmt.Errorf("%w: %d more files can be made there, %d is the least", store.ErrNoSpace, files, fewFiles+more)
	}
	free, _ := s.volume(s.dir)
	if free < 0 {
		return plenty, nil // cannot be told here
	}
	// What is written must not take the room that the next Open needs.
	need := max(s.reserve, tables(memSize(s.dir)+n)+openBytes+2*floorBytes)
	if full {
		need += need / more
	}
	if slack = free - n - need; slack < 0 {
		return 0, fmt.Errorf("%w: %s are free, %s are to be", store.ErrNoSpace, human(free), human(need))
	}
	return slack, nil
}

// floor returns an error of the same kinds if nothing at all should be written
// now.
func (s *space) floor() error {
	if s.dir == "" {
		return nil
	}
	if err := s.gone(); err != nil {
		return err
	}
	if free, _ := s.volume(s.dir); s.reserve >= 0 && free >= 0 && free < floorBytes {
		return fmt.Errorf("%w: %s are free", store.ErrNoSpace, human(free))
	}
	return nil
}

// gone returns an error that wraps store.ErrNotWritable if what is written
// would be nowhere: the maps and open files of a database that was removed take
// writes as ever.
func (s *space) gone() error {
	info, err := os.Stat(s.dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && s.id != nil && !os.SameFile(info, s.id) {
		return fmt.Errorf("%w: the directory of the database was removed or moved", store.ErrNotWritable)
	}
	if s.head != "" {
		if _, err := os.Lstat(s.head); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: files of the database were removed", store.ErrNotWritable)
		}
	}
	if _, readOnly := diskFiles(s.dir); readOnly {
		return fmt.Errorf("%w: the file system is read-only", store.ErrNotWritable)
	}
	return nil
}

// toOpen returns an error that wraps store.ErrNoSpace if there is no room for
// what Badger does when it opens a database: it writes out what the logs hold.
func (s *space) toOpen() error { return s.forTables("opening", openBytes) }

// toClose does the same for closing.
func (s *space) toClose() error {
	if s.dir == "" {
		return nil
	}
	if err := s.gone(); err != nil {
		return err
	}
	return s.forTables("closing", closeBytes)
}

func (s *space) forTables(doing string, more int64) error {
	if s.dir == "" || s.reserve < 0 {
		return nil
	}
	need := tables(memSize(s.dir)) + more
	if free, _ := s.volume(s.dir); free >= 0 && free < need {
		return fmt.Errorf("%w: %s are free, %s takes %s", store.ErrNoSpace, human(free), doing, human(need))
	}
	if files, _ := diskFiles(s.dir); files >= 0 && files < fewFiles/2 {
		return fmt.Errorf("%w: %d more files can be made there, %s takes %d", store.ErrNoSpace, files, doing, fewFiles/2)
	}
	return nil
}

// human writes a number of bytes for people: "999 bytes", "1.5 GB".
func human(n int64) string {
	f, units := float64(n), []string{"bytes", "kB", "MB", "GB", "TB", "PB"}
	i := 0
	for ; f >= 999.5 && i < len(units)-1; i++ {
		f /= 1000
	}
	if i == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// tables returns what it takes to write out tables whose logs have so many
// bytes.
func tables(logs int64) int64 { return logs + logs/8 }

// memSize returns the bytes on disk of the logs of tables in memory. About as
// much again is needed to write the tables out, and their files are memory maps:
// where a disk is full then, the process gets a SIGBUS.
func memSize(dir string) int64 {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	var n int64
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".mem" {
			continue
		}
		if info, err := e.Info(); err == nil {
			size, _ := allocated(info)
			n += size
		}
	}
	return n
}

// A sizeCache keeps the size of a directory for a few seconds.
type sizeCache struct {
	mu   sync.Mutex
	at   time.Time
	size int64
}

func (c *sizeCache) get(dir string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.at.IsZero() || now.Sub(c.at) > 2*time.Second {
		c.at, c.size = now, dirSize(dir)
	}
	return c.size
}

// dirSize returns the bytes on disk of the database's files in a directory.
// Their apparent sizes say little: Badger makes large files with holes.
func dirSize(dir string) int64 {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return -1
	}
	var n int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if size, ok := allocated(info); ok {
			n += size
		} else if ext := filepath.Ext(e.Name()); ext == ".sst" || strings.HasPrefix(e.Name(), "MANIFEST") {
			n += info.Size()
		}
	}
	return n
}
