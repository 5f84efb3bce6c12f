// Package storetest tests that a store keeps every promise of package store.
//
// A package with a store of its own calls [Run] from a test:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) func() store.Store {
//			dir := t.TempDir()
//			return func() store.Store { return open(t, dir) }
//		})
//	}
package storetest
