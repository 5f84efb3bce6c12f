package version

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestFrom(t *testing.T) {
	tests := []struct{ main, want string }{
		{"", Number},
		{"(devel)", Number},
		{"v0.3.1", "0.3.1"},
		{"v1.0.0-rc.1", "1.0.0-rc.1"},
		{"v0.0.0-20260102030405-0123456789ab", Number},
		{"v0.3.2-0.20260102030405-0123456789ab+dirty", Number},
	}
	for _, test := range tests {
		if got := from(&debug.BuildInfo{Main: debug.Module{Version: test.main}}).Version; got != test.want {
			t.Errorf("from(main version %q) = %q, want %q", test.main, got, test.want)
		}
	}
	if got := from(nil).Version; got != Number {
		t.Errorf("from(nil) = %q, want %q", got, Number)
	}
}

func TestString(t *testing.T) {
	info := from(&debug.BuildInfo{Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "3f2a"}, {Key: "vcs.modified", Value: "true"},
	}})
	if got, want := info.String(), Number+" (3f2a, modified) go"; !strings.HasPrefix(got, want) {
		t.Errorf("String() = %q, want prefix %q", got, want)
	}
}
