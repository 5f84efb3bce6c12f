package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
)

// The picture: its size, and the part of it inside the axes, in pixels.
const (
	pictureWidth, pictureHeight = 760, 460
	plotLeft, plotRight         = 70, 500
	plotTop, plotBottom         = 56, 400
)

// The colours of the lines, on a light ground and on a dark one.
var (
	light = []string{"#0550ae", "#0a7a5c", "#bc4c00", "#57606a"}
	dark  = []string{"#6cb6ff", "#4ac9a0", "#f69d50", "#9198a1"}
)

// style makes the picture readable on light and on dark pages: it has a ground
// of its own, which follows the reader's preference where the viewer tells it.
func style() string {
	return `
text{font:13px system-ui,sans-serif}text.title{font-size:16px;font-weight:600}text.name{font-weight:600}
.line{fill:none;stroke-width:2.5}.c3 .line{stroke-dasharray:6 4}
.ground{fill:#ffffff}.text{fill:#24292f}.faint{fill:#57606a}.grid{stroke:#d8dee4}.axis{stroke:#57606a}
` + colours(light) + `@media (prefers-color-scheme: dark){
.ground{fill:#0d1117}.text{fill:#e6edf3}.faint{fill:#9198a1}.grid{stroke:#30363d}.axis{stroke:#9198a1}
` + colours(dark) + `}
`
}

func colours(list []string) string {
	var b strings.Builder
	for i, c := range list {
		fmt.Fprintf(&b, ".c%d .line{stroke:%s}.c%[1]d .mark,.c%[1]d .name{fill:%[2]s}\n", i, c)
	}
	return b.String()
}

// A series is one line of the picture.
type series struct {
	column string // of the table
	label  string
	x, y   []float64
}

// A scale maps values to pixels so that equal ratios are equal distances.
type scale struct{ lo, hi, from, to float64 }

func (s scale) at(v float64) float64 {
	return s.from + (s.to-s.from)*(math.Log10(v)-math.Log10(s.lo))/(math.Log10(s.hi)-math.Log10(s.lo))
}

// ticks returns the powers of ten on the scale.
func (s scale) ticks() (list []float64) {
	for v := s.lo; v <= s.hi*1.001; v *= 10 {
		list = append(list, v)
	}
	return list
}

// draw writes the bytes of all methods against the number of differences, both
// axes logarithmic. Equal sets have no place on such axes and are left out.
func draw(w io.Writer, t *table, n int) error {
	lines := t.series()
	if len(lines) == 0 || len(lines[0].x) < 2 {
		return fmt.Errorf("a picture takes two numbers of differences at least")
	}
	x, y := scales(lines)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img" aria-labelledby="t d">`+"\n", pictureWidth, pictureHeight)
	title := fmt.Sprintf("Bytes to find d differences among %s keys", thousands(float64(n)))
	element(&b, "title", `id="t"`, title)
	element(&b, "desc", `id="d"`, describe(lines))
	element(&b, "style", "", style())
	fmt.Fprintf(&b, `<rect class="ground" width="%d" height="%d"/>`+"\n", pictureWidth, pictureHeight)
	text(&b, "text title", "start", plotLeft, 26, title)
	text(&b, "faint", "start", plotLeft, 44, "both ways, without values; both axes logarithmic")
	axes(&b, x, y)
	for i, l := range lines {
		plot(&b, i, l, x, y)
	}
	names(&b, lines, y)
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// series returns the lines that the table has points for.
func (t *table) series() (lines []series) {
	for _, l := range []series{
		{column: "sdiff", label: "sdiff"},
		{column: "sdiff, ranges only", label: "sdiff, ranges only"},
		{column: "negentropy", label: "negentropy"},
		{column: leastColumn, label: "least possible for 64-bit hashes"},
	} {
		for _, p := range t.curve {
			if values := p.row.cells[l.column]; p.d > 0 && len(values) > 0 {
				l.x, l.y = append(l.x, float64(p.d)), append(l.y, median(values))
			}
		}
		if len(l.x) > 0 {
			lines = append(lines, l)
		}
	}
	return lines
}

// scales returns the scales that hold all points, from one power of ten to
// another.
func scales(lines []series) (x, y scale) {
	lox, hix, loy, hiy := math.Inf(1), 0.0, math.Inf(1), 0.0
	for _, l := range lines {
		for i := range l.x {
			lox, hix = min(lox, l.x[i]), max(hix, l.x[i])
			loy, hiy = min(loy, l.y[i]), max(hiy, l.y[i])
		}
	}
	x = scale{lox, hix, plotLeft, plotRight}
	y = scale{math.Pow(10, math.Floor(math.Log10(loy))), math.Pow(10, math.Ceil(math.Log10(hiy))), plotBottom, plotTop}
	return x, y
}

// axes draws the grid and what it says.
func axes(b *strings.Builder, x, y scale) {
	for _, v := range y.ticks() {
		line(b, "grid", plotLeft, y.at(v), plotRight, y.at(v))
		text(b, "faint", "end", plotLeft-8, y.at(v)+4, size(v))
	}
	for _, v := range x.ticks() {
		line(b, "grid", x.at(v), plotTop, x.at(v), plotBottom)
		text(b, "faint", "middle", x.at(v), plotBottom+20, thousands(v))
	}
	line(b, "axis", plotLeft, plotBottom, plotRight, plotBottom)
	line(b, "axis", plotLeft, plotTop, plotLeft, plotBottom)
	text(b, "text", "middle", (plotLeft+plotRight)/2, plotBottom+44, "d, keys that differ: a third missing, a third extra, a third changed")
}

// plot draws one line with a mark at each point.
func plot(b *strings.Builder, i int, l series, x, y scale) {
	var at []string
	for k := range l.x {
		at = append(at, fmt.Sprintf("%.1f,%.1f", x.at(l.x[k]), y.at(l.y[k])))
	}
	fmt.Fprintf(b, `<g class="c%d"><polyline class="line" points="%s"/>`, i, strings.Join(at, " "))
	for k := range l.x {
		cx, cy := x.at(l.x[k]), y.at(l.y[k])
		switch i {
		case 0:
			fmt.Fprintf(b, `<circle class="mark" cx="%.1f" cy="%.1f" r="4.5"/>`, cx, cy)
		case 1:
			fmt.Fprintf(b, `<rect class="mark" x="%.1f" y="%.1f" width="8" height="8"/>`, cx-4, cy-4)
		case 2:
			fmt.Fprintf(b, `<path class="mark" d="M%.1f %.1fl5.5 9.5h-11z"/>`, cx, cy-6)
		}
	}
	b.WriteString("</g>\n")
}

// names writes the name of each line at its end, and how many bytes that is,
// one below the other where lines end close together.
func names(b *strings.Builder, lines []series, y scale) {
	const apart = 34
	place := make([]float64, len(lines))
	for {
		// The next one from above, among those that have no place yet.
		next := -1
		for i, l := range lines {
			if place[i] == 0 && (next < 0 || l.last() > lines[next].last()) {
				next = i
			}
		}
		if next < 0 {
			return
		}
		at := max(y.at(lines[next].last()), plotTop)
		for _, p := range place {
			if p > 0 {
				at = max(at, p+apart)
			}
		}
		place[next] = at
		fmt.Fprintf(b, `<g class="c%d">`, next)
		text(b, "name", "start", plotRight+14, at+2, lines[next].label)
		b.WriteString("</g>\n")
		text(b, "faint", "start", plotRight+14, at+17, fmt.Sprintf("%s at d = %s", size(lines[next].last()), thousands(lines[next].x[len(lines[next].x)-1])))
	}
}

func (l series) last() float64 { return l.y[len(l.y)-1] }

// describe says what the picture shows to those who cannot see it.
func describe(lines []series) string {
	var all []string
	for _, l := range lines {
		var points []string
		for i := range l.x {
			points = append(points, fmt.Sprintf("%s for %s", size(l.y[i]), thousands(l.x[i])))
		}
		all = append(all, l.label+": "+strings.Join(points, ", "))
	}
	return strings.Join(all, "; ") + "."
}

// size formats a number of bytes.
func size(v float64) string {
	switch {
	case v >= 1e6:
		return short(v/1e6) + " MB"
	case v >= 1e3:
		return short(v/1e3) + " kB"
	}
	return short(v) + " B"
}

func line(b *strings.Builder, class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(b, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", class, x1, y1, x2, y2)
}

func text(b *strings.Builder, class, anchor string, x, y float64, s string) {
	element(b, "text", fmt.Sprintf(`class="%s" text-anchor="%s" x="%.1f" y="%.1f"`, class, anchor, x, y), s)
}

// element writes an element with attributes and text.
func element(b *strings.Builder, name, attributes, s string) {
	if attributes != "" {
		attributes = " " + attributes
	}
	fmt.Fprintf(b, "<%s%s>", name, attributes)
	_ = xml.EscapeText(b, []byte(s)) // a strings.Builder takes everything
	fmt.Fprintf(b, "</%s>\n", name)
}
