package store_test

import (
	"testing"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() store.Store {
		var m *store.Memory
		return func() store.Store {
			if m == nil {
				m = store.NewMemory()
			} else {
				m = m.Reopen()
			}
			return m
		}
	})
}
