package badgerstore

import (
	"reflect"
	"sync"
	"time"
	"unsafe"

	"github.com/dgraph-io/badger/v4"
)

// A drain empties the pool in which Badger keeps the buffers of tables that it
// has built. Buffers only ever grow there, each to the size of the largest table
// it was used for, and there are as many as were ever used at once: under a load
// that goes on they took three gigabytes and more. What leaves the pool is for
// the garbage collector.
type drain struct {
	stopc chan struct{}
	wg    sync.WaitGroup
}

// drainEvery is how often the pool is emptied. Buffers are taken from it a few
// times in a second.
const drainEvery = 200 * time.Millisecond

// poolSize is how many buffers Badger's pool holds.
const poolSize = 8

// start starts the goroutine, which stop ends. Where Badger has no such pool it
// does nothing.
func (d *drain) start(db *badger.DB) {
	pool, ok := allocPool(db)
	if !ok {
		return
	}
	d.stopc = make(chan struct{})
	d.wg.Go(func() {
		tick := time.NewTicker(drainEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				drainPool(pool)
			case <-d.stopc:
				return
			}
		}
	})
}

// stop ends the goroutine. It must come before the database is closed: its pool
// must not be used after that.
func (d *drain) stop() {
	if d.stopc != nil {
		close(d.stopc)
		d.wg.Wait()
	}
}

// drainPool releases the buffers that wait in a pool. One that it gets from an
// empty pool is new, and small.
func drainPool(pool reflect.Value) {
	args := []reflect.Value{reflect.ValueOf(0), reflect.ValueOf("")}
	for range poolSize {
		pool.MethodByName("Get").Call(args)[0].MethodByName("Release").Call(nil)
	}
}

// allocPool returns Badger's pool, a *z.AllocatorPool. There is no way to it but
// this one; it is only read, and its methods are safe for concurrent use.
func allocPool(db *badger.DB) (pool reflect.Value, ok bool) {
	field := reflect.ValueOf(db).Elem().FieldByName("allocPool")
	if !field.IsValid() || field.Kind() != reflect.Pointer || field.IsNil() || field.Type().String() != "*z.AllocatorPool" {
		return reflect.Value{}, false
	}
	return reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem(), true
}
