package replica

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A lifecycle is what a replica says of itself: its state, since when and why.
// It is safe for concurrent use.
type lifecycle struct {
	observer Observer

	mu    sync.Mutex
	state State
	since time.Time
	why   string
	err   error
}

func (l *lifecycle) init(o Observer) {
	l.observer, l.state, l.since = o, Starting, time.Now()
}

// set changes the state. The observer is told if that is a change.
func (l *lifecycle) set(s State, why string) {
	l.mu.Lock()
	changed := l.state != s || l.why != why
	if l.state != s {
		l.since = time.Now()
	}
	l.state, l.why = s, why
	l.mu.Unlock()
	if changed && l.observer.State != nil {
		l.observer.State(s, why)
	}
}

// end notes why Run ended.
func (l *lifecycle) end(err error) {
	l.mu.Lock()
	l.err = err
	l.mu.Unlock()
	if err == nil || errors.Is(err, context.Canceled) {
		l.set(Ended, "")
		return
	}
	l.set(Failed, err.Error())
}

func (l *lifecycle) get() (State, time.Time, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.since, l.why
}

func (l *lifecycle) cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// A signal wakes everyone who waits when something has changed. The zero
// signal is ready; it is safe for concurrent use.
type signal struct {
	mu sync.Mutex
	c  chan struct{}
}

// wait returns a channel that is closed at the next broadcast.
func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c == nil {
		s.c = make(chan struct{})
	}
	return s.c
}

func (s *signal) broadcast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c != nil {
		close(s.c)
		s.c = nil
	}
}
