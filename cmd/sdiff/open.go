package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
)

// storeFlags say how the dataset in a directory is to be opened.
type storeFlags struct {
	prefix, sync, hash, hashKey string
	adopt                       bool
	scrub                       float64
	reserve                     int64 // bytes
	memory                      int64 // bytes
}

// add adds the flags that serve and follow share.
func (f *storeFlags) add(cmd *cobra.Command) {
	f.addIdentity(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.sync, "sync", "always", "`always|never`: whether a write is on disk before it is acknowledged; never may lose the newest ones in a power cut")
	flags.Float64Var(&f.scrub, "scrub", replica.DefaultScrub, "`SHARE` of a core for re-reading the store in the background; negative off")
	sizeVar(cmd, &f.memory, "memory", "use at most about so many `BYTES` of memory, the tree not counted; 128MiB or more")
	sizeVar(cmd, &f.reserve, "reserve", "refuse writes while fewer `BYTES` of the disk are free; 0 is 512MiB or a tenth of the volume, negative off")
	flags.BoolVar(&f.adopt, "adopt", false, "take over a database that holds keys sdiff did not write")
}

// addIdentity adds those that say which dataset it is. What the others say is
// the default.
func (f *storeFlags) addIdentity(cmd *cobra.Command) {
	f.sync, f.scrub, f.memory = "always", replica.DefaultScrub, defaultMemory
	flags := cmd.Flags()
	flags.StringVar(&f.prefix, "prefix", "", "the dataset is what lies under `P` in a database shared with others")
	flags.StringVar(&f.hash, "hash", "xxh64", "item hash, the same on all replicas: `xxh64|sha256`; sha256 if values come from people you do not trust")
	flags.StringVar(&f.hashKey, "hash-key", "", "`FILE` with the secret for sha256: 32 bytes, or 64 hex digits")
	complete(cmd.MarkFlagFilename("hash-key"))
}

// check returns the item hash, and an error for flags that make no sense.
func (f *storeFlags) check(cmd *cobra.Command, log *slog.Logger) (merkle.Hasher, error) {
	if f.sync != "always" && f.sync != "never" {
		return merkle.Hasher{}, usagef(cmd, "--sync %q is neither always nor never", f.sync)
	}
	for _, reserved := range []string{"!sdiff!", "!badger!"} {
		if f.prefix != "" && (strings.HasPrefix(f.prefix, reserved) || strings.HasPrefix(reserved, f.prefix)) {
			return merkle.Hasher{}, usagef(cmd, "--prefix %q is reserved", f.prefix)
		}
	}
	if f.scrub == 0 || f.scrub > 1 {
		return merkle.Hasher{}, usagef(cmd, "--scrub is a share above 0 and up to 1, or negative for off")
	}
	if f.memory < minMemory {
		return merkle.Hasher{}, usagef(cmd, "--memory is at least 128MiB")
	}
	if m := cmd.Flag("memory"); m != nil && !m.Changed {
		f.memory = max(f.memory, badgerstore.FullMemory(f.prefix)/7*8)
	}
	switch {
	case f.hash != "xxh64" && f.hash != "sha256":
		return merkle.Hasher{}, usagef(cmd, "--hash %q is neither xxh64 nor sha256", f.hash)
	case f.hash == "xxh64" && f.hashKey != "":
		return merkle.Hasher{}, usagef(cmd, "--hash-key goes with --hash sha256 only")
	case f.hash == "xxh64":
		return merkle.XXH64(), nil
	case f.hashKey == "":
		return merkle.Hasher{}, &failure{code: control.Usage, msg: "--hash sha256 needs --hash-key FILE",
			hint: "(umask 077; head -c 32 /dev/urandom > FILE) makes one; all replicas need the same"}
	}
	secret, err := readSecret(f.hashKey, log)
	if err != nil {
		return merkle.Hasher{}, err
	}
	return merkle.SHA256(secret)
}

// readSecret reads the 32 bytes of a key file, raw or in hex. Its errors never
// say what is in the file.
func readSecret(path string, log *slog.Logger) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &failure{code: control.BadOption, msg: fmt.Sprintf("the hash key: %v", err), hint: "make one with: head -c 32 /dev/urandom > FILE; chmod 600 FILE"}
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().Perm()&0o077 != 0 {
		log.Warn("others may read the hash key", "file", path, "mode", info.Mode().Perm().String())
	}
	b := make([]byte, 128)
	n, err := f.Read(b)
	if err != nil {
		n = 0
	}
	if b = b[:n]; len(b) == 32 {
		return b, nil
	}
	if secret, err := hex.DecodeString(string(bytes.TrimSpace(b))); err == nil && len(secret) == 32 {
		return secret, nil
	}
	return nil, &failure{code: control.BadOption, msg: fmt.Sprintf("the hash key in %s is neither 32 bytes nor 64 hex digits", path)}
}

// openStore opens the database in a directory, or makes one, and takes the
// directory for this process.
func openStore(ctx context.Context, dir string, f *storeFlags, log *slog.Logger) (store.Store, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	st, err := badgerstore.Open(dir, badgerstore.Options{Prefix: f.prefix, NoSync: f.sync == "never", Reserve: f.reserve, Memory: storeMemory(f.memory), Logger: log, First: firstTry(ctx, f)})
	if err != nil {
		return nil, openError(dir, err)
	}
	return st, nil
}

// openExisting opens the database in a directory, which must be there.
func openExisting(ctx context.Context, dir string, f *storeFlags, log *slog.Logger) (store.Store, error) {
	if _, err := os.Stat(filepath.Join(dir, "MANIFEST")); errors.Is(err, fs.ErrNotExist) {
		return nil, &failure{code: control.BadOption, msg: "there is no database in " + dir}
	}
	return openStore(ctx, dir, f, log)
}

// openError gives a store's error the code it has here.
func openError(dir string, err error) error {
	if e, ok := errors.AsType[*badgerstore.InUseError](err); ok {
		return &failure{code: control.InUse, msg: e.Error(), hint: "sdiff status --data " + dir + " asks the process that runs there; stop it, or choose another directory"}
	}
	if errors.Is(err, store.ErrNoSpace) || errors.Is(err, syscall.ENOSPC) {
		return &failure{code: control.ReadOnly, msg: fmt.Sprintf("open the store in %s: %v", dir, err), hint: "nothing was changed; free some space, and start again"}
	}
	if errors.Is(err, store.ErrRefused) {
		return &failure{code: control.BadOption, msg: err.Error()}
	}
	err = fmt.Errorf("open the store in %s: %w", dir, err)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return &failure{code: control.Permission, msg: err.Error(), hint: "the user who runs this must be able to write there: ls -ld " + dir}
	}
	return err
}

// checkDir refuses a directory that is somebody else's: whoever gives his home
// or a folder of files by mistake does not want a database made in it.
func checkDir(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // it will be made
	case errors.Is(err, fs.ErrPermission):
		return &failure{code: control.Permission, msg: fmt.Sprintf("not allowed to read the directory %s", dir), hint: "whose is it? ls -ld " + dir}
	case err != nil:
		return &failure{code: control.BadOption, msg: fmt.Sprintf("%s cannot be a replica's directory: %v", dir, err)}
	}
	// Whatever looks like a database, damaged or not, is for the store to judge.
	database := func(e fs.DirEntry) bool {
		name := e.Name()
		return strings.HasPrefix(name, "MANIFEST") || strings.HasPrefix(name, "HEAD") || name == "KEYREGISTRY" || name == "DISCARD" ||
			slices.Contains([]string{".sst", ".vlog", ".mem"}, filepath.Ext(name))
	}
	foreign := func(e fs.DirEntry) bool {
		name := e.Name()
		return !strings.HasPrefix(name, ".") && !strings.HasPrefix(name, idFile) && !slices.Contains([]string{"LOCK", "lost+found", "control.sock"}, name)
	}
	if i := slices.IndexFunc(entries, foreign); i >= 0 && !slices.ContainsFunc(entries, database) {
		return &failure{code: control.BadOption, msg: fmt.Sprintf("the directory %s holds other files (%q) and no database", dir, entries[i].Name()), hint: "choose a new directory, or an empty one"}
	}
	return nil
}

// idFile keeps a follower's name beside its database.
const idFile = "follower-id"

// followerID returns the name of the follower in a directory: the one given,
// else the one it had before, else one made of the host's name and the
// directory. It is kept in the directory, so that it survives a new host name
// or a move. The caller holds the directory.
func followerID(dir, given string) (string, error) {
	path := filepath.Join(dir, idFile)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the follower's name: %w", err)
	}
	id := given
	if id == "" {
		id = strings.TrimSpace(string(old))
		if id != "" && !validName(id) {
			return "", &failure{code: control.BadOption, msg: fmt.Sprintf("the file %s holds no name of a follower: 1 to 100 printable ASCII characters without spaces", path),
				hint: "give the follower its name again with --id NAME; the master's sdiff status lists those it knows"}
		}
	}
	if id == "" {
		id = newID(dir)
	}
	if id == strings.TrimSpace(string(old)) {
		return id, nil
	}
	// Written beside and moved: a torn file would be a new follower.
	if err := os.WriteFile(path+".new", []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the follower's name: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return "", fmt.Errorf("keep the follower's name: %w", err)
	}
	return id, nil
}

// newID makes a name that tells people where the follower is: the host's name,
// and a little of the directory for those who run two on one host.
func newID(dir string) string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "follower"
	}
	host = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '-'
		}
		return r
	}, host[:min(len(host), 64)])
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	sum := sha256.Sum256([]byte(dir))
	return host + "-" + hex.EncodeToString(sum[:2])
}
