package main

import (
	"os"

	"golang.org/x/term"
)

// isTerminal reports whether a stream is a terminal. Anything but an open file
// is not.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && f != nil && term.IsTerminal(int(f.Fd()))
}

// The colours that are used, in the codes that every terminal knows.
const (
	red   = "31"
	green = "32"
	cyan  = "36"
)

// paint colours text for a stream that takes colours.
func paint(on bool, code, text string) string {
	if !on {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// painted reports whether text on standard output may have colours.
func (a *app) painted() bool {
	return a.outTerminal && a.output == "text" && a.env["NO_COLOR"] == "" && a.env["TERM"] != "dumb"
}
