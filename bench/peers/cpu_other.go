//go:build !unix

package main

import "time"

var began = time.Now()

// cpuTime stands for the processor time of this process so far: the time since
// its start, where the system does not tell.
func cpuTime() time.Duration { return time.Since(began) }
