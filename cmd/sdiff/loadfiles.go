package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sdiff/sdiff/internal/control"
)

// A folder is what a walk before loading found.
type folder struct {
	files []string // in the order in which they are loaded
	bytes uint64
	skip  []skipped
}

// walk loads the files below a folder, in the order of their paths.
func (l *loader) walk(ctx context.Context, root string) error {
	info, err := os.Stat(root)
	if err != nil || !info.IsDir() {
		if err == nil {
			err = fmt.Errorf("%s is no folder", root)
		}
		return &failure{code: control.BadInput, msg: err.Error(), hint: "--files takes the folder whose files are to be loaded"}
	}
	found, err := l.survey(ctx, root)
	if err != nil {
		return err
	}
	l.progress.total = found.bytes
	for _, s := range found.skip {
		l.skip(s.Path, s.Reason)
	}
	var at uint64
	for _, path := range found.files {
		content, err := l.read(path)
		if err != nil {
			l.skip(path, err.Error())
			continue
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		at += uint64(len(content))
		if err := l.add(ctx, []byte(filepath.ToSlash(rel)), content, 0, path, at); err != nil {
			return err
		}
	}
	return nil
}

// survey lists the files below a folder, so that there is something to
// measure progress against. It keeps the paths only.
func (l *loader) survey(ctx context.Context, root string) (folder, error) {
	var found folder
	own, err := os.Stat(l.a.data)
	if err != nil {
		own = nil
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			found.skip = append(found.skip, skipped{path, reason(err)})
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		switch {
		case err != nil:
			found.skip = append(found.skip, skipped{path, reason(err)})
		case d.IsDir() && own != nil && os.SameFile(info, own):
			// A database that loads its own files would never come to an end.
			found.skip = append(found.skip, skipped{path, "it is the master's own directory"})
			return fs.SkipDir
		case d.IsDir():
		case !d.Type().IsRegular():
			found.skip = append(found.skip, skipped{path, "it is no regular file"})
		case info.Size() > int64(l.limits.Value):
			found.skip = append(found.skip, skipped{path, tooLarge(info.Size(), l.limits.Value)})
		default:
			found.files = append(found.files, path)
			found.bytes += uint64(info.Size())
		}
		return nil
	})
	return found, err
}

// read returns a file's content. It may have grown since the survey.
func (l *loader) read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s", reason(err))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(l.limits.Value)+1))
	if err != nil {
		return nil, fmt.Errorf("%s", reason(err))
	}
	if len(b) > l.limits.Value {
		return nil, fmt.Errorf("%s", tooLarge(int64(len(b)), l.limits.Value))
	}
	return b, nil
}

func tooLarge(n int64, limit int) string {
	return fmt.Sprintf("%d bytes are over the value limit of %d", n, limit)
}

// reason returns an error's words without the path, which is told beside it.
func reason(err error) string {
	if e, ok := err.(*fs.PathError); ok {
		return e.Err.Error()
	}
	return err.Error()
}
