package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMain lets the test binary be the processes that the program starts.
func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestQuick runs everything with few keys, and looks at the table and the
// picture. That results are right is for the program itself to check.
func TestQuick(t *testing.T) {
	dir := t.TempDir()
	md, svg := filepath.Join(dir, "table.md"), filepath.Join(dir, "picture.svg")
	var out, progress bytes.Buffer
	if err := command([]string{"-quick", "-o", md, "-svg", svg}, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	saved, err := os.ReadFile(md)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(saved, out.Bytes()) {
		t.Error("the file holds another table than was printed")
	}
	checkTable(t, out.String())
	picture, err := os.ReadFile(svg)
	if err != nil {
		t.Fatal(err)
	}
	checkPicture(t, picture, 4)
}

// checkTable looks for what every table has to have.
func checkTable(t *testing.T, text string) {
	t.Helper()
	var rows [][]string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "|") {
			cells := strings.Split(strings.Trim(line, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows = append(rows, cells)
		}
	}
	if want := 2 + 3*5 + 10; len(rows) != want {
		t.Fatalf("%d rows, want %d:\n%s", len(rows), want, text)
	}
	head := rows[0]
	nats, redis := slices.Index(head, "NATS KV mirror"), slices.Index(head, "Redis replica")
	if head[1] != oursColumn || nats < 0 || redis < 0 {
		t.Fatalf("the columns are %q", head)
	}
	for _, row := range rows[2:] {
		path := !strings.HasPrefix(row[0], "d =")
		switch {
		case len(row) != len(head):
			t.Errorf("%d cells, not %d: %q", len(row), len(head), row)
		case row[1] == "" || strings.Contains(strings.Join(row, " "), "NaN"):
			t.Errorf("no figure: %q", row)
		case !path && (row[2] == "" || row[3] == "" || row[4] == ""), path && row[nats] == "" && !strings.HasPrefix(row[0], "nothing on disk"):
			t.Errorf("figures of others are missing: %q", row)
		case strings.Contains(row[0], "healed within") && row[1] != "100":
			t.Errorf("sdiff did not heal all: %q", row)
		}
	}
	if redisMissing() != "" && !strings.Contains(text, "Redis replica was **skipped**") {
		t.Error("that Redis was skipped is not said")
	}
}

// checkPicture parses a picture, which must hold so many lines, and no script.
func checkPicture(t *testing.T, b []byte, lines int) {
	t.Helper()
	if bytes.Contains(b, []byte("NaN")) || bytes.Contains(b, []byte("Inf")) {
		t.Error("there are places that are no numbers")
	}
	count := map[string]int{}
	for d := xml.NewDecoder(bytes.NewReader(b)); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, b)
		}
		if e, ok := token.(xml.StartElement); ok {
			count[e.Name.Local]++
		}
	}
	if count["svg"] != 1 || count["polyline"] != lines || count["title"] != 1 || count["desc"] != 1 || count["script"] != 0 {
		t.Errorf("the picture has %v", count)
	}
	if count["text"] < lines {
		t.Errorf("the picture has %d texts", count["text"])
	}
}

// TestBadArguments shows that nothing is measured then.
func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{{"-n", "10"}, {"-rounds", "0"}, {"-only", "nothing"}, {"word"}, {"-no"}} {
		if err := command(args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}

// TestLeastBytes holds the formula against the sum of the logarithms.
func TestLeastBytes(t *testing.T) {
	if got := leastBytes(0); got != 0 {
		t.Errorf("leastBytes(0) = %v", got)
	}
	for _, s := range []int{1, 2, 10, 1333, 100_000} {
		var bits float64
		for i := range s {
			bits += math.Log2((math.Exp2(64) - float64(i)) / float64(i+1))
		}
		if got, want := leastBytes(s), bits/8; got < want || got > want+2 {
			t.Errorf("leastBytes(%d) = %v, want %v and up to 2 more", s, got, want)
		}
	}
}

// TestFormats shows how figures look.
func TestFormats(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{thousands(0), "0"}, {thousands(999), "999"}, {thousands(1234567), "1,234,567"}, {thousands(12.6), "13"},
		{short(0), "0"}, {short(0.0123), "0.012"}, {short(0.5), "0.50"}, {short(1), "1"}, {short(3.44), "3.4"}, {short(56.7), "57"}, {short(1234), "1,234"},
		{size(999), "999 B"}, {size(3100), "3.1 kB"}, {size(58e6), "58 MB"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// TestRatios shows that a ratio is the median of those of the turns, not the
// ratio of the medians.
func TestRatios(t *testing.T) {
	r := new(table).row("x", short)
	for i, ours := range []float64{1, 10, 100} {
		r.add(oursColumn, ours)
		r.add("other", []float64{7, 20, 300}[i])
	}
	if got, want := r.text("other"), "20 (×3)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := r.text(oursColumn), "10"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
