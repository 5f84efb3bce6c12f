// Package faultnet puts a bad network between two ends of a connection, for
// tests and demos: slow, cut, silent, or changing what it carries.
//
// A [Link] stands for the network between a client and a server. It carries
// connections that Wrap, Dialer or ListenProxy give it; faults are switched on
// and off while it does, and each is counted when it happens, so that a test
// whose fault never fired can fail:
//
//	link := faultnet.New(seed)
//	defer link.Close()
//	cfg.Dial = link.Dialer(cfg.Dial)
//	…
//	link.BlackHole(faultnet.Both, true)
//	…
//	link.Heal()
//
// Bytes of a connection stay in order and whole as TCP keeps them, but for the
// faults that break exactly that: BlackHole, whose connections never recover,
// FlipByte, FlipProbability, and those on frames.
//
// # Concurrency
//
// All methods may be called by any goroutine at any time. A connection takes
// four goroutines until both its ends are closed, or the Link is. Each
// direction holds up to 4 MiB in flight; then its sender blocks.
//
// # Fake time
//
// Over pipes a Link can live in a testing/synctest bubble: it waits on channels
// and timers only. Chance comes from the seed, by connection and direction.
package faultnet
