package demo

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// width is how many columns a line has at most.
const width = 80

// A page is what the demo is written on. Steps are numbered through both acts.
type page struct {
	w     io.Writer
	pause time.Duration
	step  int
	err   error // the first of w
}

func (p *page) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(p.w, format, args...); err != nil && p.err == nil {
		p.err = fmt.Errorf("write the demo's output: %w", err)
	}
}

// act begins an act.
func (p *page) act(title, about string) {
	if p.step > 0 {
		p.printf("\n")
	}
	p.printf("%s\n%s\n", title, strings.Repeat("=", len(title)))
	p.printf("%s\n", wrap(about, ""))
}

// next begins a step, after the pause that belongs to the one before.
func (p *page) next(ctx context.Context, format string, args ...any) error {
	if p.pause > 0 && p.step > 0 {
		t := time.NewTimer(p.pause)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	p.step++
	text := wrap(fmt.Sprintf(format, args...), "    ")
	p.printf("\n%2d. %s\n", p.step, strings.TrimLeft(text, " "))
	return p.err
}

// say goes on with the step's text.
func (p *page) say(format string, args ...any) {
	p.printf("%s\n", wrap(fmt.Sprintf(format, args...), "    "))
}

// row prints one line of a table.
func (p *page) row(name, format string, args ...any) {
	p.printf("      %-12s %s\n", name, fmt.Sprintf(format, args...))
}

// copyRow prints what a copy holds and its fingerprint at the right margin.
func (p *page) copyRow(name, keys, fingerprint string) {
	left := fmt.Sprintf("      %-12s %s", name, keys)
	p.printf("%s%*s\n", left, width-2-len(left), fingerprint)
}

// wrap breaks text into lines that fit the page, each indented.
func wrap(text, indent string) string {
	var b strings.Builder
	line := indent
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == indent:
			line += word
		case len(line)+1+len(word) > width-2:
			b.WriteString(line + "\n")
			line = indent + word
		default:
			line += " " + word
		}
	}
	return b.String() + line
}

// number returns n with commas: 100,000.
func number[T int | uint64](n T) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural returns a number and a noun: "1 key", "2 keys".
func plural[T int | uint64](n T, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return number(n) + " " + noun + "s"
}

// size returns a number of bytes in decimal units: "812 B", "21.4 KB".
func size(n uint64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1_000_000:
		return fmt.Sprintf("%.1f KB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

// seconds returns a time in the unit that suits it: "0.4 ms", "23 ms", "1.3 s".
func seconds(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
