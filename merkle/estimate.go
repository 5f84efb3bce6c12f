package merkle

// countersLen is how many counters there are. The estimate's standard deviation
// is sqrt(2/countersLen), 11 %.
const countersLen = 160

// Counters tell about how many items two sets do not have in common: each item
// adds 1 to one of them or takes 1 away, as its hash decides, modulo 256. In
// the difference of two sets' counters, items of both cancel out, and the mean
// square of what is left grows with the number of those that do not.
//
// That is the second moment's sketch of Alon, Matias and Szegedy ("The space
// complexity of approximating the frequency moments", STOC 1996) in the form of
// Thorup and Zhang, where each item touches one counter only (SODA 2004).
type Counters [countersLen]uint8

// add counts an item that came, by 1, or went, by -1.
func (c *Counters) add(hash uint64, by int8) {
	x := mix(hash ^ 0xbb67ae8584caa73b)
	if x&1 != 0 {
		by = -by
	}
	c[x>>32*countersLen>>32] += uint8(by)
}

// Difference estimates how many items the sets of c and o do not have in
// common: within a quarter of the truth in 97 of 100 cases, up to about 300,000
// items; of more it returns 300,000 at least.
func (c *Counters) Difference(o *Counters) uint64 {
	var sum uint64
	for i := range c {
		d := int64(int8(c[i] - o[i]))
		sum += uint64(d * d)
	}
	return sum
}
