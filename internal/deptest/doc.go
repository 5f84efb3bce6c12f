// Package deptest holds no code, only the test of the architecture: which
// package of the module may import which, and which may import what from
// outside. The table is in imports_test.go.
package deptest
