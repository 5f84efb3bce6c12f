package badgerstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// TestDefaultReserve shows that a small volume is not all reserve.
func TestDefaultReserve(t *testing.T) {
	for _, test := range []struct{ volume, want int64 }{
		{-1, DefaultReserve}, // cannot be told
		{1 << 40, DefaultReserve},
		{10 * DefaultReserve, DefaultReserve},
		{1 << 30, 1 << 30 / 10},
		{48 << 20, 48 << 20 / 10},
	} {
		if got := defaultReserve(test.volume); got != test.want {
			t.Errorf("defaultReserve(%d) = %d, want %d", test.volume, got, test.want)
		}
	}
}

// TestL7LatchOpensAQuarterAboveTheReserve shows that writes that were refused are
// taken again only when a quarter of the reserve more is free, or they would go
// on and off with every file that comes and goes.
func TestL7LatchOpensAQuarterAboveTheReserve(t *testing.T) {
	const reserve = 1 << 30
	free := int64(2 * reserve)
	s := newSpace(t.TempDir(), reserve)
	s.volume = func(string) (int64, int64) { return free, 1 << 40 }
	for _, step := range []struct {
		free int64
		full bool
	}{
		{reserve + 100, false}, {reserve + 99, true}, {reserve + 100, true}, {reserve + reserve/4 + 99, true},
		{reserve + reserve/4 + 100, false}, {reserve + 100, false}, {reserve, true}, {2 * reserve, false},
	} {
		free, s.at = step.free, time.Time{}
		err := s.check(100)
		if errors.Is(err, store.ErrNoSpace) != step.full || (err != nil) != step.full {
			t.Errorf("with %d bytes free: %v, want it full: %v", free, err, step.full)
		}
	}
}

// TestSpaceIsAskedAhead shows that where writes go on the file system is asked
// beside them, that what was written meanwhile counts, and that nothing is
// written on the strength of an answer that is too old.
func TestSpaceIsAskedAhead(t *testing.T) {
	const reserve = 1 << 30
	asked, answer := make(chan bool), make(chan int64)
	s := newSpace(t.TempDir(), reserve)
	s.volume = func(string) (int64, int64) { asked <- true; return <-answer, 1 << 40 }
	ago := func(d time.Duration) { s.at = time.Now().Add(-d) }
	s.at, s.slack = time.Now(), reserve
	s.lookAhead()
	if s.ahead != nil {
		t.Fatal("it is asked at once")
	}
	ago(spaceAhead)
	if err := s.check(100); err != nil {
		t.Fatal(err)
	}
	s.lookAhead()
	<-asked
	began := s.ahead
	s.lookAhead()
	if began == nil || s.ahead != began {
		t.Error("it is not asked ahead, or twice")
	}
	s.at = time.Now().Add(time.Hour) // the answer takes its time
	if err := s.check(spaceBytes / 2); err != nil || s.ahead == nil {
		t.Errorf("a write before the answer: %v, and it waited: %t", err, s.ahead == nil)
	}
	answer <- 2 * reserve
	s.wait()
	if s.written != spaceBytes/2 {
		t.Errorf("%d bytes were written since it was asked, want %d", s.written, spaceBytes/2)
	}
	if since := time.Since(s.at); s.ahead != nil || s.slack == 0 || since < 0 {
		t.Errorf("the answer was not taken: %+v", s)
	}
	// Too old, and the answer is on its way: it is waited for.
	ago(spaceAge)
	s.lookAhead()
	<-asked
	go func() { answer <- reserve - 1 }()
	go func() { <-asked; answer <- reserve - 1 }() // a refusal is looked at again
	if err := s.check(1); !errors.Is(err, store.ErrNoSpace) || !s.full {
		t.Errorf("a write on a disk that has filled up: %v", err)
	}
}

// TestOldAnswersDoNotCount shows that an answer that was asked for ahead, and came
// when nobody wrote any more, neither refuses what has room by now nor lets
// anything through.
func TestOldAnswersDoNotCount(t *testing.T) {
	const reserve = 1 << 30
	asked, answer := make(chan bool), make(chan int64)
	s := newSpace(t.TempDir(), reserve)
	s.volume = func(string) (int64, int64) { asked <- true; return <-answer, 1 << 40 }
	for _, step := range []struct {
		then, now int64 // free
		full      bool
	}{{reserve - 1, reserve + reserve/10, false}, {2 * reserve, reserve - 1, true}} {
		s.at, s.slack = time.Now().Add(-spaceAhead), reserve
		s.lookAhead()
		<-asked
		answer <- step.then
		l := <-s.ahead
		l.at = l.at.Add(-time.Hour)
		s.ahead <- l
		go func() { <-asked; answer <- step.now }()
		if err := s.check(1); errors.Is(err, store.ErrNoSpace) != step.full || s.full != step.full {
			t.Errorf("%d bytes were free once, %d are now: %v", step.then, step.now, err)
		}
	}
}

// TestAnswerThatTookLong shows that a write that has waited for an answer asks
// again if that was asked for too long ago.
func TestAnswerThatTookLong(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSpace(dir, 1)
		asked := 0
		s.volume = func(string) (int64, int64) { asked++; return 1 << 40, 1 << 40 }
		s.at = time.Now().Add(-spaceAge)
		ahead := make(chan look, 1)
		s.ahead = ahead
		l := look{at: time.Now(), slack: 1 << 40}
		go func() { time.Sleep(2 * spaceAge); ahead <- l }()
		if err := s.check(1); err != nil || asked != 1 {
			t.Errorf("asked %d times more, %v, want once", asked, err)
		}
	})
}

// TestSizesInRefusals shows that people can read what is free and what is to be.
func TestSizesInRefusals(t *testing.T) {
	s := newSpace(t.TempDir(), 100<<40)
	s.volume = func(string) (int64, int64) { return 71_492_624_384, 1 << 40 }
	if _, err := s.ask(1, false); err == nil || !strings.HasSuffix(err.Error(), ": 71.5 GB are free, 110.0 TB are to be") {
		t.Errorf("ask = %v", err)
	}
	s.volume = func(string) (int64, int64) { return 999, 1 << 40 }
	for _, err := range []error{s.floor(), s.toOpen(), s.toClose()} {
		if err == nil || !strings.Contains(err.Error(), ": 999 bytes are free") {
			t.Errorf("refused with %v", err)
		}
	}
}

// TestTablesInMemoryTakeRoom shows that RoomToOpen and Open count what is still
// to be written out, also where more than the reserve is free.
func TestTablesInMemoryTakeRoom(t *testing.T) {
	dir := t.TempDir()
	s := newSpace(dir, 1<<20)
	s.volume = func(string) (int64, int64) { return 4 << 20, 1 << 40 }
	if err := s.toOpen(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "00001.mem"), make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if memSize(dir) == 0 {
		t.Skip("what a file takes on disk cannot be told here")
	}
	if err := s.toOpen(); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("toOpen = %v, want ErrNoSpace", err)
	}
	if err := RoomToOpen(dir, Options{Reserve: -1}); err != nil {
		t.Errorf("RoomToOpen without a reserve = %v", err)
	}
}

// TestDirectoryMovedAway shows that nothing is written where nobody would find
// it: maps and open files of a directory that is gone take writes as ever.
func TestDirectoryMovedAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	s, err := Open(dir, Options{NoSync: true, Memory: MinMemory})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := func() *store.Txn { return &store.Txn{Ops: []stream.Op{{Key: []byte("k"), Value: []byte("v")}}} }
	if err := s.Write(data()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	s.space.wait()
	s.space.at = time.Time{} // as if it were a moment later
	for what, err := range map[string]error{
		"data": s.Write(data()), "meta": s.Write(&store.Txn{}), "Room": s.Room(), "closing": s.space.toClose(),
	} {
		if !errors.Is(err, store.ErrNotWritable) || !errors.Is(err, store.ErrRefused) {
			t.Errorf("%s: %v, want ErrNotWritable", what, err)
		}
	}
	if _, err := s.Trim(1); !errors.Is(err, store.ErrNotWritable) {
		t.Errorf("Trim: %v, want ErrNotWritable", err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"data": s.Write(data()), "meta": s.Write(&store.Txn{}), "Room": s.Room()} {
		if err != nil {
			t.Errorf("%s, with the directory back: %v", what, err)
		}
	}
}
