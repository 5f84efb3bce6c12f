package main

import "math"

// leastBytes returns the fewest bytes that can tell a party which s elements of
// a universe of 2^64 it does not share with another, whatever it holds itself:
//
//	log2 binom(2^64, s) / 8  ≈  s (64 - log2 s + log2 e) / 8
//
// by Stirling's formula, which says log2(2πs)/2 bits too much in all: one or two
// bytes at most, whatever s is. s counts hashes, so a key whose value differs counts
// twice: once with each of its hashes. It is zero for s = 0.
//
// It is a bound for those who tell the hashes apart and nothing else about the
// sets, as all do that reconcile sets of 64-bit hashes in one message. Hashes of
// 32 bytes have a bound of their own, four times as large and more.
func leastBytes(s int) float64 {
	if s == 0 {
		return 0
	}
	return float64(s) * (64 - math.Log2(float64(s)) + math.Log2E) / 8
}
