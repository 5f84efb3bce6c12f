package main

import (
	"os"
	"os/exec"
	"syscall"
)

// endWithParent has the kernel kill the child when the thread that starts it
// ends, be it by kill -9 of the process: the child holds the directory.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// killed reports whether a process was ended by a signal that somebody sent,
// the kernel for want of memory among them.
func killed(s *os.ProcessState) bool {
	w, ok := s.Sys().(syscall.WaitStatus)
	if !ok || !w.Signaled() {
		return false
	}
	switch w.Signal() {
	case syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT:
		return true
	}
	return false
}
