package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// json prints one object on a line of its own. An error shows at the flush.
func (a *app) json(v any) {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		a.complain("write JSON: "+err.Error(), "")
	}
}

// printf prints text to standard output. An error shows at the flush.
func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.stdout, format, args...) }

// escape writes bytes as one line of text that no terminal takes for commands
// and that can be told from any other: what is not printable, backslashes and
// bytes that are no UTF-8 become escapes as in Go.
func escape(b []byte) string { return escaped(b, true) }

// visible escapes as escape does, but leaves backslashes alone: for sentences.
func visible(s string) string { return escaped([]byte(s), false) }

// escaped writes what strconv.IsPrint takes for printable as it is: that leaves
// out control characters of both sets and those that turn the direction of text.
func escaped(b []byte, backslash bool) string {
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&out, `\x%02x`, b[0])
		case r == '\\' && backslash:
			out.WriteString(`\\`)
		case strconv.IsPrint(r):
			out.Write(b[:n])
		default:
			q := strconv.QuoteRuneToASCII(r)
			out.WriteString(q[1 : len(q)-1])
		}
		b = b[n:]
	}
	return out.String()
}

// An encoding says how bytes are written on the command line.
type encoding struct{ hex, base64 bool }

// addEncoding adds the flags of an encoding.
func addEncoding(cmd *cobra.Command, e *encoding, what string) {
	cmd.Flags().BoolVar(&e.hex, "hex", false, what+" are in hex")
	cmd.Flags().BoolVar(&e.base64, "base64", false, what+" are in base64")
}

// check refuses both at once. cobra's own check comes before the variables of
// the environment have been looked at.
func (e encoding) check(cmd *cobra.Command) error {
	if e.hex && e.base64 {
		return usagef(cmd, "--hex and --base64 exclude each other")
	}
	return nil
}

// decode reads an argument. what names it in the error.
func (e encoding) decode(cmd *cobra.Command, what, text string) (b []byte, err error) {
	if err := e.check(cmd); err != nil {
		return nil, err
	}
	switch {
	case e.hex:
		b, err = hex.DecodeString(text)
	case e.base64:
		b, err = base64.StdEncoding.DecodeString(text)
	default:
		return []byte(text), nil
	}
	if err != nil {
		// The library's error quotes a byte of the input, ours does not.
		name := "hex"
		if e.base64 {
			name = "base64"
		}
		return nil, usagef(cmd, "the %s is not in %s", what, name)
	}
	return b, nil
}

// encode writes bytes as text on one line.
func (e encoding) encode(b []byte) string {
	switch {
	case e.hex:
		return hex.EncodeToString(b)
	case e.base64:
		return base64.StdEncoding.EncodeToString(b)
	}
	return escape(b)
}

// size writes a number of bytes for people: "14.2 MB".
func size[T int | int64 | uint64](n T) string {
	f, units := float64(n), []string{"bytes", "kB", "MB", "GB", "TB", "PB"}
	i := 0
	for ; f >= 999.5 && i < len(units)-1; i++ {
		f /= 1000
	}
	if i == 0 {
		return fmt.Sprintf("%.0f bytes", f)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// span writes a duration for people, in two or three digits: "3m12s", "41ms".
func span(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// plural writes a count and its noun: "1 key", "2 keys".
func plural(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "s") {
		noun += "e"
	}
	return strconv.FormatUint(n, 10) + " " + noun + "s"
}
