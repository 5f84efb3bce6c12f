package badgerstore

import "testing"

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
