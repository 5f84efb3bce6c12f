package badgerstore

import (
	"reflect"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// TestDrain shows that Badger's pool is where it is looked for, and that what
// waits in it is released. It fails when another version of Badger keeps its
// buffers elsewhere: then the budget of memory has to be measured again.
func TestDrain(t *testing.T) {
	db, err := badger.Open(badger.DefaultOptions("").WithInMemory(true).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	pool, ok := allocPool(db)
	if !ok {
		t.Fatal("this version of Badger has no allocPool")
	}
	get := func(size int) reflect.Value {
		return pool.MethodByName("Get").Call([]reflect.Value{reflect.ValueOf(size), reflect.ValueOf("test")})[0]
	}
	allocated := func(a reflect.Value) uint64 { return a.MethodByName("Allocated").Call(nil)[0].Uint() }
	const large = 1 << 20
	for range poolSize {
		pool.MethodByName("Return").Call([]reflect.Value{get(large)})
	}
	if a := get(0); allocated(a) < large {
		t.Errorf("the pool gave %d bytes, not what was returned to it", allocated(a))
	}
	drainPool(pool)
	if a := get(0); allocated(a) >= large {
		t.Errorf("after draining, the pool gave %d bytes", allocated(a))
	}
}
