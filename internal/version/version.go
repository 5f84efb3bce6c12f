// Package version says which version of sdiff a binary was built from.
package version

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// Number is the version of the sources, after semantic versioning. Between
// two releases it is the next one with "-dev".
const Number = "0.1.0-dev"

// Info says what a binary was built from.
type Info struct {
	Version  string `json:"version"`            // such as "0.1.0"
	Revision string `json:"revision,omitempty"` // the commit, if the toolchain recorded it
	Modified bool   `json:"modified,omitempty"` // the tree had changes that were not committed
	Go       string `json:"go"`                 // the toolchain
	Platform string `json:"platform"`           // such as "linux/amd64"
}

// Get returns what is known of the running binary. A binary installed with
// "go install module@version" reports that version, any other one Number.
func Get() Info {
	bi, _ := debug.ReadBuildInfo() // nil without module support, which from accepts
	return from(bi)
}

func from(bi *debug.BuildInfo) Info {
	info := Info{Version: Number, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if bi == nil {
		return info
	}
	// A local build has "(devel)" or, with version control stamped, a pseudo
	// version made from the newest tag: Number says more than either.
	if v := bi.Main.Version; strings.HasPrefix(v, "v") && !strings.Contains(v, "-0.") && !strings.HasPrefix(v, "v0.0.0-") {
		info.Version = strings.TrimPrefix(v, "v")
	}
	for _, s := range bi.Settings {
		switch s.Key {
		case "vcs.revision":
			info.Revision = s.Value
		case "vcs.modified":
			info.Modified = s.Value == "true"
		}
	}
	return info
}

// String returns the line that "sdiff version" prints, without the program's
// name: "0.1.0 (3f2a…, modified) go1.26.0 linux/amd64".
func (i Info) String() string {
	text := i.Version
	if i.Revision != "" {
		text += " (" + i.Revision
		if i.Modified {
			text += ", modified"
		}
		text += ")"
	}
	return text + " " + i.Go + " " + i.Platform
}
