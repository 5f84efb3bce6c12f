package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

func testViewIsolated(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	write(t, st, &store.Txn{
		Ops: []stream.Op{put("a", "1"), put("b", "1")}, Log: record(1, 1, 1),
		Records: []store.Record{{Name: "r", Value: []byte("1")}}, Meta: store.Meta{Verified: 1},
	})
	old, err := st.View()
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	held, err := old.Get([]byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		write(t, st, &store.Txn{
			Ops: []stream.Op{put("a", fmt.Sprint(i)), del("b"), put("c", "1")}, Log: record(uint64(i+2), uint64(i+2), 1),
			Records: []store.Record{{Name: "r", Value: []byte("2")}}, Meta: store.Meta{Verified: 2},
		})
	}
	want(t, "items of the old view", items(t, old, nil, nil), "a=1", "b=1")
	if string(held) != "1" {
		t.Errorf("what Get returned has become %q", held)
	}
	if r, err := old.Record("r"); string(r) != "1" || err != nil {
		t.Errorf("the old view's record is %q, %v", r, err)
	}
	if m, err := old.Meta(); m.Verified != 1 || m.Seq != 1 || err != nil {
		t.Errorf("the old view's meta is %+v, %v", m, err)
	}
	n := 0
	if err := old.Log(0, func(stream.Record) bool { n++; return true }); n != 1 || err != nil {
		t.Errorf("the old view's log has %d records, %v", n, err)
	}
	want(t, "items of a new view", storeItems(t, st), "a=99", "c=1")
	old.Close()
	old.Close() // twice does no harm
	_, err = old.Get([]byte("a"))
	wantErr(t, "Get from a closed view", err, store.ErrClosed)
}

func testSlices(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	tx := &store.Txn{
		Ops: []stream.Op{put("key", "value")}, Log: record(1, 1, 100),
		Records: []store.Record{{Name: "r", Value: []byte("value")}},
		Meta:    store.Meta{History: []stream.Position{position(1)}},
	}
	write(t, st, tx)
	for _, b := range [][]byte{tx.Ops[0].Key, tx.Ops[0].Value, tx.Log.Body, tx.Records[0].Value} {
		clear(b)
	}
	tx.Meta.History[0] = position(2)
	want(t, "items", storeItems(t, st), "key=value")
	want(t, "log", logRecords(t, st, 0), "1-1")
	view(t, st, func(v store.View) {
		if r, err := v.Record("r"); string(r) != "value" || err != nil {
			t.Errorf("Record = %q, %v", r, err)
		}
		if m, err := v.Meta(); err != nil || len(m.History) != 1 || m.History[0] != position(1) {
			t.Errorf("Meta = %+v, %v", m, err)
		}
	})
}

func testLimits(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	l := st.Limits()
	writeOps(t, st, put("a", "1"))
	// The secret must not be in an error, wherever it stands.
	secret := bytes.Repeat([]byte("secret"), (max(l.Key, l.Value)+10)/6+1)
	many := make([]stream.Op, l.CommitOps+1)
	for i := range many {
		many[i] = del(fmt.Sprint(i))
	}
	big := make([]stream.Op, l.CommitBytes/l.Value+1)
	for i := range big {
		big[i] = stream.Op{Key: fmt.Append(nil, i), Value: secret[:l.Value]}
	}
	ops := func(ops ...stream.Op) *store.Txn {
		return &store.Txn{Ops: append([]stream.Op{put("b", "new")}, ops...)}
	}
	for _, c := range []struct {
		name string
		tx   *store.Txn
	}{
		{"an empty key", ops(put("", "secret"))},
		{"deleting the empty key", ops(del(""))},
		{"too long a key", ops(stream.Op{Key: secret[:l.Key+1]})},
		{"too long a value", ops(stream.Op{Key: []byte("k"), Value: secret[:l.Value+1]})},
		{"sdiff's own key", ops(put("!sdiff!secret", "1"))},
		{"sdiff's own meta", ops(put("!sdiff!//m", "1"))},
		{"Badger's own key", ops(put("!badger!secret", "1"))},
		{"too many ops", &store.Txn{Ops: many}},
		{"too many bytes", &store.Txn{Ops: big}},
		{"too large a log record", &store.Txn{Ops: ops().Ops, Log: &stream.Record{First: 1, Last: 1, Body: make([]byte, store.MaxLogBody+1)}}},
		{"a log record at no offset", &store.Txn{Ops: ops().Ops, Log: &stream.Record{}}},
		{"a log record that ends before it begins", &store.Txn{Ops: ops().Ops, Log: &stream.Record{First: 2, Last: 1}}},
		{"a record without a name", &store.Txn{Ops: ops().Ops, Records: []store.Record{{Value: []byte("secret")}}}},
		{"a record with a control byte in its name", &store.Txn{Ops: ops().Ops, Records: []store.Record{{Name: "secret\n"}}}},
		{"a record with too long a name", &store.Txn{Ops: ops().Ops, Records: []store.Record{{Name: string(secret[:256])}}}},
		{"too large a record", &store.Txn{Ops: ops().Ops, Records: []store.Record{{Name: "r", Value: secret[:store.MaxRecordValue+1]}}}},
		{"too long a history", &store.Txn{Ops: ops().Ops, Meta: store.Meta{History: make([]stream.Position, store.MaxHistory+1)}}},
	} {
		err := st.Write(c.tx)
		wantErr(t, c.name, err, store.ErrRefused)
		if err != nil && (len(err.Error()) > 300 || bytes.Contains([]byte(err.Error()), []byte("secret"))) {
			t.Errorf("%s: the error holds what was refused: %.300s", c.name, err)
		}
		want(t, c.name+": items", storeItems(t, st), "a=1")
	}
	writeOps(t, st, put("b", "2"))
	want(t, "items", storeItems(t, st), "a=1", "b=2")
}

// testLargest writes as much as one transaction may hold of everything at once.
func testLargest(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	l := st.Limits()
	meta := store.Meta{History: make([]stream.Position, store.MaxHistory), Hash: string(bytes.Repeat([]byte("h"), 255))}
	for i := range meta.History {
		meta.History[i] = position(1<<63 + uint64(i))
	}
	var records []store.Record
	for i := range store.MaxRecords {
		records = append(records, store.Record{Name: fmt.Sprintf("%0255d", i), Value: make([]byte, 700)})
	}
	for _, c := range []struct {
		name string
		ops  []stream.Op
	}{
		{"the most ops", equalOps(l, l.CommitOps)},
		{"the most bytes in few ops", equalOps(l, l.CommitBytes/(l.Value/2)+1)},
		{"the longest keys", func() (ops []stream.Op) {
			for i := range l.CommitBytes / (l.Key + 16) {
				ops = append(ops, stream.Op{Key: append(make([]byte, l.Key-4), fmt.Sprintf("%04d", i)...)})
			}
			return ops
		}()},
		{"the largest values", func() (ops []stream.Op) {
			for i := range l.CommitBytes / (l.Value + 20) {
				ops = append(ops, stream.Op{Key: fmt.Appendf(nil, "%04d", i), Value: make([]byte, l.Value)})
			}
			return ops
		}()},
	} {
		tx := &store.Txn{Ops: c.ops, Log: record(1, 1, store.MaxLogBody), Records: records, Meta: meta}
		if err := st.Write(tx); err != nil {
			t.Fatalf("%s: %d ops of %d bytes: %v", c.name, len(c.ops), stream.Size(c.ops), err)
		}
		for i := range c.ops {
			c.ops[i] = stream.Op{Key: c.ops[i].Key, Delete: true}
		}
		if n := len(storeItems(t, st)); n != len(c.ops) {
			t.Fatalf("%s: %d items are there, want %d", c.name, n, len(c.ops))
		}
		write(t, st, &store.Txn{Ops: c.ops})
		want(t, c.name+": items after deleting them", storeItems(t, st))
	}
}

// equalOps returns n ops that together have all the bytes that a commit may
// have, or nearly.
func equalOps(l store.Limits, n int) []stream.Op {
	value := make([]byte, min(l.CommitBytes/n-16-8, l.Value))
	ops := make([]stream.Op, n)
	for i := range ops {
		ops[i] = stream.Op{Key: fmt.Appendf(nil, "%08d", i), Value: value}
	}
	return ops
}

func testCallbacks(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	for i := range uint64(3) {
		write(t, st, &store.Txn{
			Ops: []stream.Op{put(fmt.Sprint(i), fmt.Sprint(i))}, Log: record(i+1, i+1, 1),
			Records: []store.Record{{Name: fmt.Sprint(i), Value: []byte("r")}},
		})
	}
	view(t, st, func(v store.View) {
		calls := 0
		err := errors.Join(
			v.Ascend(nil, nil, func(key, value []byte) bool {
				calls++
				got, err := v.Get(key)
				if err != nil || !bytes.Equal(got, value) {
					t.Errorf("Get(%s) within Ascend = %s, %v", key, got, err)
				}
				// Anyone may write meanwhile.
				writeOps(t, st, put("new", "new"))
				return calls < 2
			}),
			v.Log(0, func(stream.Record) bool { calls++; return calls < 4 }),
			v.Records("", func(string, []byte) bool { calls++; return calls < 6 }),
		)
		if calls != 6 || err != nil {
			t.Errorf("callbacks that stop were called %d times, want 2 each; %v", calls, err)
		}
		defer func() {
			if r := recover(); r != "mine" {
				t.Errorf("the panic of a callback became %v", r)
			}
			want(t, "items after a panic", items(t, v, nil, []byte("1")), "0=0")
		}()
		v.Ascend(nil, nil, func(key, value []byte) bool { panic("mine") })
	})
}

func testClosed(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	write(t, st, &store.Txn{Ops: []stream.Op{put("a", "1")}, Log: record(1, 1, 1), Records: []store.Record{{Name: "r", Value: []byte("1")}}})
	v, err := st.View()
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	wantErr(t, "second Close", st.Close(), store.ErrClosed)
	wantErr(t, "Write", st.Write(&store.Txn{}), store.ErrClosed)
	_, err = st.View()
	wantErr(t, "View", err, store.ErrClosed)
	_, err = st.Trim(9)
	wantErr(t, "Trim", err, store.ErrClosed)
	st.Info() // still answers
	st.Limits()

	_, err = v.Get([]byte("a"))
	wantErr(t, "Get", err, store.ErrClosed)
	_, err = v.Meta()
	wantErr(t, "Meta", err, store.ErrClosed)
	_, err = v.Record("r")
	wantErr(t, "Record", err, store.ErrClosed)
	never := func() bool { t.Error("a callback was called after Close"); return false }
	wantErr(t, "Ascend", v.Ascend(nil, nil, func([]byte, []byte) bool { return never() }), store.ErrClosed)
	wantErr(t, "Log", v.Log(0, func(stream.Record) bool { return never() }), store.ErrClosed)
	wantErr(t, "Records", v.Records("", func(string, []byte) bool { return never() }), store.ErrClosed)
	v.Close()

	want(t, "items", storeItems(t, openStore(t, open)), "a=1")
}

// testConcurrent reads while one goroutine writes. Every transaction sets all
// keys to one value, so a view in which they differ has seen half of one.
func testConcurrent(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	const keys, rounds = 50, 60
	txn := func(n uint64) *store.Txn {
		tx := &store.Txn{Log: record(n, n, 10), Meta: store.Meta{Verified: n}}
		tx.Records = []store.Record{{Name: "r", Value: fmt.Append(nil, n)}}
		for k := range keys {
			tx.Ops = append(tx.Ops, put(fmt.Sprintf("%04d", k), fmt.Sprint(n)))
		}
		return tx
	}
	write(t, st, txn(1))
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for last := uint64(0); ; {
				last = checkWhole(t, st, keys, last)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for n := range uint64(rounds) {
		write(t, st, txn(n+2))
		if n%10 == 0 {
			if _, err := st.Trim(n); err != nil {
				t.Errorf("Trim: %v", err)
			}
		}
		st.Info()
	}
	close(done)
	wg.Wait()
}

// testStart starts transactions without waiting for them, some of which are
// refused, and writes and trims between.
func testStart(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	var ends []chan error
	var keys []string
	start := func(n int) {
		key := fmt.Sprintf("%03d", n)
		keys = append(keys, key+"=v")
		tx := &store.Txn{Ops: []stream.Op{put(key, "v")}, Meta: store.Meta{Verified: uint64(n)}}
		endc := make(chan error, 1)
		if err := store.Start(st, tx, endc); err != nil {
			t.Fatalf("Start: %v", err)
		}
		if tx.Meta.Seq != uint64(len(keys)) {
			t.Errorf("transaction %d has sequence %d", len(keys), tx.Meta.Seq)
		}
		ends = append(ends, endc)
		want(t, "items in a view after Start", storeItems(t, st), keys...)
	}
	for n := range 40 {
		start(n)
		switch {
		case n%5 == 1:
			err := store.Start(st, &store.Txn{Ops: []stream.Op{put("", "v")}}, make(chan error))
			wantErr(t, "Start of what is not taken", err, store.ErrRefused)
		case n%5 == 2:
			keys = append(keys, fmt.Sprintf("%03d+=v", n))
			writeOps(t, st, put(fmt.Sprintf("%03d+", n), "v"))
		case n%5 == 3:
			if _, err := st.Trim(1); err != nil {
				t.Errorf("Trim: %v", err)
			}
		}
	}
	for _, endc := range ends[:len(ends)-1] {
		if err := <-endc; err != nil {
			t.Errorf("a transaction ended with %v", err)
		}
	}
	st = reopen(t, st, open) // the last one may still be on its way
	if err := <-ends[len(ends)-1]; err != nil {
		t.Errorf("the last transaction ended with %v", err)
	}
	want(t, "items after reopening", storeItems(t, st), keys...)
}

// checkWhole takes a view and sees that it holds all of one transaction, not
// older than the last one seen.
func checkWhole(t *testing.T, st store.Store, keys int, last uint64) uint64 {
	v, err := st.View()
	if err != nil {
		t.Errorf("View: %v", err)
		return last
	}
	defer v.Close()
	m, err := v.Meta()
	if err != nil || m.Verified < last {
		t.Errorf("Meta in a view = %d, %v, after %d", m.Verified, err, last)
	}
	n := 0
	err = v.Ascend(nil, nil, func(key, value []byte) bool {
		n++
		if string(value) != fmt.Sprint(m.Verified) {
			t.Errorf("key %s has value %s in a view of transaction %d", key, value, m.Verified)
			return false
		}
		return true
	})
	if err != nil || n != keys {
		t.Errorf("a view has %d of %d items, %v", n, keys, err)
	}
	if r, err := v.Record("r"); string(r) != fmt.Sprint(m.Verified) || err != nil {
		t.Errorf("a view of transaction %d has record %s, %v", m.Verified, r, err)
	}
	var newest uint64
	err = v.Log(m.Verified, func(r stream.Record) bool { newest = r.Last; return true })
	if err != nil || newest != m.Verified {
		t.Errorf("a view of transaction %d has a log up to %d, %v", m.Verified, newest, err)
	}
	return m.Verified
}
