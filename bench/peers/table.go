package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Columns that are not the name of a method or system.
const (
	oursColumn  = "sdiff"
	leastColumn = "least possible"
)

// A table is what has been measured: a row for each figure, a column for each
// who was measured.
type table struct {
	head    []string // lines above it
	columns []string
	rows    []*row
	notes   []string // lines below it
	curve   []point
}

// A row is one figure of everybody: a value for each turn.
type row struct {
	title  string
	format func(float64) string
	cells  map[string][]float64
	// texts are shown instead of values, where there is none.
	texts map[string]string
	// plain rows have no ratios.
	plain bool
}

// A point is a row about so many differences, for the picture.
type point struct {
	d   int
	row *row
}

// row adds a row.
func (t *table) row(title string, format func(float64) string) *row {
	r := &row{title: title, format: format, cells: map[string][]float64{}, texts: map[string]string{}}
	t.rows = append(t.rows, r)
	return r
}

// column adds a column, once.
func (t *table) column(name string) {
	if !slices.Contains(t.columns, name) {
		t.columns = append(t.columns, name)
	}
}

// note adds a line, once, below the table.
func (t *table) note(line string) {
	if !slices.Contains(t.notes, line) {
		t.notes = append(t.notes, line)
	}
}

// add adds the value of the next turn.
func (r *row) add(column string, v float64) { r.cells[column] = append(r.cells[column], v) }

// text returns a cell: the median, and in parentheses the median of the ratios
// to sdiff's value of the same turn.
func (r *row) text(column string) string {
	if s, ok := r.texts[column]; ok {
		return s
	}
	values, ours := r.cells[column], r.cells[oursColumn]
	if len(values) == 0 {
		return ""
	}
	s := r.format(median(values))
	if r.plain || column == oursColumn || len(ours) != len(values) {
		return s
	}
	var ratios []float64
	for i := range values {
		if ours[i] == 0 || values[i] == 0 {
			return s
		}
		ratios = append(ratios, values[i]/ours[i])
	}
	return fmt.Sprintf("%s (×%s)", s, short(median(ratios)))
}

// write writes the table as Markdown, with what stands above and below it.
func (t *table) write(w io.Writer) error {
	var b strings.Builder
	for _, line := range t.head {
		fmt.Fprintf(&b, "%s\n\n", line)
	}
	fmt.Fprintf(&b, "| |%s|\n| --- |%s\n", " "+strings.Join(t.columns, " | ")+" ", strings.Repeat(" --: |", len(t.columns)))
	for _, r := range t.rows {
		fmt.Fprintf(&b, "| %s |", r.title)
		for _, c := range t.columns {
			fmt.Fprintf(&b, " %s |", r.text(c))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for _, line := range t.notes {
		fmt.Fprintf(&b, "* %s\n", line)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if len(s) == 0 {
		return 0
	}
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// thousands formats a number without a fraction: 12,345.
func thousands(v float64) string {
	s := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// short formats a number with two digits that count: 0.012, 3.4, 56, 789.
func short(v float64) string {
	switch a := math.Abs(v); {
	case a == 0:
		return "0"
	case a >= 10:
		return thousands(v)
	case a >= 1:
		return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
	}
	return strconv.FormatFloat(v, 'f', 1-int(math.Floor(math.Log10(math.Abs(v)))), 64)
}
