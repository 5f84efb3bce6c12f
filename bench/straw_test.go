package bench

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/sdiff/sdiff/stream"
)

// openStraw opens a database for the straw man: with Badger's own options, or
// with those that badgerstore.Open sets.
func openStraw(c call) (*badger.DB, error) {
	opt := badger.DefaultOptions(c.Dir).WithSyncWrites(c.Sync).WithLogger(nil)
	if c.Tuned {
		opt = opt.WithDetectConflicts(false).
			WithMemTableSize(64 << 20).WithNumMemtables(3).
			WithNumCompactors(2).
			WithCompression(options.None).
			WithBlockCacheSize(0).WithIndexCacheSize(0).
			WithMetricsEnabled(false).
			WithChecksumVerificationMode(options.NoVerification)
	}
	return badger.Open(opt)
}

// A strawFrame is what the straw man sends: one batch.
type strawFrame struct {
	//lint:ignore U1000 it tells msgpack to encode an array
	_msgpack struct{} `msgpack:",as_array"`
	Offset   uint64
	Ops      []strawOp
}

type strawOp struct {
	//lint:ignore U1000 it tells msgpack to encode an array
	_msgpack struct{} `msgpack:",as_array"`
	Delete   bool
	Key      []byte
	Value    []byte
}

// A strawMaster writes batches to its database and sends them to one follower.
// It keeps all frames, so that a follower that was away gets what it missed.
type strawMaster struct {
	db     *badger.DB
	l      net.Listener
	wg     sync.WaitGroup
	offset uint64
	frame  strawFrame
	buf    bytes.Buffer
	enc    *msgpack.Encoder // to buf

	mu      sync.Mutex
	changed *sync.Cond // after every change of what follows
	log     [][]byte   // encoded frames
	acked   uint64
	closed  bool
}

func (m *strawMaster) do(c call) (a answer, err error) {
	switch c.Do {
	case "open":
		m.changed, m.enc = sync.NewCond(&m.mu), msgpack.NewEncoder(&m.buf)
		if m.db, err = openStraw(c); err != nil {
			return a, err
		}
		if m.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return a, err
		}
		m.wg.Go(m.accept)
		a.Addr = m.l.Addr().String()
	case "load":
		err = newWorkload(c.Seed).each(c.N, c.Commit, m.write)
	case "pace":
		err = pace(c, m.write)
	}
	a.Offset = m.offset
	return a, err
}

func (m *strawMaster) accept() {
	for {
		nc, err := m.l.Accept()
		if err != nil {
			return
		}
		m.wg.Go(func() { m.serve(nc) })
	}
}

// serve sends a follower everything from the offset on that it asks for.
func (m *strawMaster) serve(nc net.Conn) {
	defer nc.Close()
	r := bufio.NewReader(nc)
	var word [8]byte
	if _, err := io.ReadFull(r, word[:]); err != nil {
		return
	}
	next := binary.BigEndian.Uint64(word[:])
	m.wg.Go(func() { m.acks(r) })
	for {
		m.mu.Lock()
		for next >= uint64(len(m.log)) && !m.closed {
			m.changed.Wait()
		}
		if m.closed {
			m.mu.Unlock()
			return
		}
		frames := m.log[next:]
		m.mu.Unlock()
		next += uint64(len(frames))
		buffers := net.Buffers(slices.Clone(frames))
		if _, err := buffers.WriteTo(nc); err != nil {
			return
		}
	}
}

func (m *strawMaster) acks(r io.Reader) {
	var word [8]byte
	for {
		if _, err := io.ReadFull(r, word[:]); err != nil {
			return
		}
		m.mu.Lock()
		m.acked = binary.BigEndian.Uint64(word[:])
		m.mu.Unlock()
	}
}

func (m *strawMaster) write(ops []stream.Op) error {
	if err := strawWrite(m.db, ops); err != nil {
		return err
	}
	m.frame.Offset, m.frame.Ops = m.offset, m.frame.Ops[:0]
	for _, op := range ops {
		m.frame.Ops = append(m.frame.Ops, strawOp{Delete: op.Delete, Key: op.Key, Value: op.Value})
	}
	m.buf.Reset()
	if err := m.enc.Encode(&m.frame); err != nil {
		return err
	}
	f := bytes.Clone(m.buf.Bytes())
	m.offset++
	m.mu.Lock()
	m.log = append(m.log, f)
	m.changed.Broadcast()
	m.mu.Unlock()
	return nil
}

// strawWrite writes a batch. It returns when the batch can be read.
func strawWrite(db *badger.DB, ops []stream.Op) error {
	wb := db.NewWriteBatch()
	defer wb.Cancel()
	for i := range ops {
		if err := wb.Set(ops[i].Key, ops[i].Value); err != nil {
			return err
		}
	}
	return wb.Flush()
}

func (m *strawMaster) close() error {
	if m.db == nil {
		return nil
	}
	m.mu.Lock()
	m.closed = true
	m.changed.Broadcast()
	m.mu.Unlock()
	m.l.Close()
	return m.db.Close()
}

// A strawFollower applies what a strawMaster sends.
type strawFollower struct {
	db   *badger.DB
	addr string
	wg   sync.WaitGroup

	bytes atomic.Uint64 // received on all connections

	mu      sync.Mutex
	changed *sync.Cond
	nc      net.Conn
	next    uint64
	err     error
	times   []time.Duration
}

func (f *strawFollower) do(c call) (a answer, err error) {
	switch c.Do {
	case "open":
		f.changed = sync.NewCond(&f.mu)
		f.addr = c.Addr
		if f.db, err = openStraw(c); err != nil {
			return a, err
		}
		err = f.connect()
	case "cut":
		f.mu.Lock()
		f.nc.Close()
		f.mu.Unlock()
		f.wg.Wait()
	case "heal":
		err = f.connect()
	case "wait": // until batch Offset is the next
		err = f.wait(c.Offset)
	case "times":
		f.mu.Lock()
		a.Times, f.times = f.times, nil
		f.mu.Unlock()
	}
	a.Bytes = f.bytes.Load()
	return a, err
}

func (f *strawFollower) wait(next uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.next < next && f.err == nil {
		f.changed.Wait()
	}
	return f.err
}

func (f *strawFollower) connect() error {
	nc, err := net.Dial("tcp", f.addr)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.nc = nc
	next := f.next
	f.mu.Unlock()
	if _, err := nc.Write(binary.BigEndian.AppendUint64(nil, next)); err != nil {
		return err
	}
	f.wg.Go(func() {
		if err := f.follow(nc); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
			f.mu.Lock()
			f.err = fmt.Errorf("follow: %w", err)
			f.changed.Broadcast()
			f.mu.Unlock()
		}
	})
	return nil
}

func (f *strawFollower) follow(nc net.Conn) error {
	dec := msgpack.NewDecoder(bufio.NewReaderSize(countedConn{nc, &f.bytes}, 64<<10))
	var frame strawFrame
	var list []stream.Op
	for {
		if err := dec.Decode(&frame); err != nil {
			return err
		}
		list = list[:0]
		for _, op := range frame.Ops {
			list = append(list, stream.Op{Key: op.Key, Value: op.Value, Delete: op.Delete})
		}
		if err := strawWrite(f.db, list); err != nil {
			return err
		}
		now := time.Now()
		f.mu.Lock()
		f.next = frame.Offset + 1
		f.times = appendAges(f.times, list, now)
		f.changed.Broadcast()
		f.mu.Unlock()
		if _, err := nc.Write(binary.BigEndian.AppendUint64(nil, f.next)); err != nil {
			return err
		}
	}
}

func (f *strawFollower) close() error {
	if f.db == nil {
		return nil
	}
	f.mu.Lock()
	f.nc.Close()
	f.mu.Unlock()
	f.wg.Wait()
	return f.db.Close()
}
