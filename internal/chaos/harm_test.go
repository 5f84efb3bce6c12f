//go:build chaos

package chaos

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// damageKeys changes a stopped follower's database behind its back, with
// Badger's own library.
func (c *cluster) damageKeys() {
	i := c.follower()
	c.halt(i)
	c.harm(i)
	c.up(i)
}

// halt ends a process, cleanly or not.
func (c *cluster) halt(i int) {
	if c.rng.IntN(2) == 0 {
		c.kill(i)
		return
	}
	c.stop(i)
}

// harm deletes, changes and adds keys in a stopped node's database.
func (c *cluster) harm(i int) {
	db, err := badger.Open(badger.DefaultOptions(c.nodes[i].dir).WithLogger(nil).WithValueThreshold(1 << 20))
	if err != nil {
		if c.nodes[i].broken {
			c.did("node %d cannot be harmed: its files are damaged", i)
			return
		}
		c.fatalf("open node %d's database: %v", i, err)
	}
	keys := c.storedKeys(db)
	damaged := map[string]int64{}
	amount := 1 + c.rng.IntN(1+[]int{3, 50, len(keys) / 5}[c.rng.IntN(3)])
	batch := db.NewWriteBatch()
	for range amount {
		c.harmKey(batch, keys, damaged)
	}
	if err := batch.Flush(); err != nil {
		c.fatalf("harm node %d: %v", i, err)
	}
	if err := db.Close(); err != nil {
		c.fatalf("close node %d's database: %v", i, err)
	}
	// What is in doubt is noted before the process can show it.
	c.hist.Load().addReset(histReset{node: i, damaged: damaged})
	c.did("harmed %d keys of node %d", len(damaged), i)
}

// storedKeys returns the user's keys in a database.
func (c *cluster) storedKeys(db *badger.DB) (keys []string) {
	err := db.View(func(txn *badger.Txn) error {
		opt := badger.DefaultIteratorOptions
		opt.PrefetchValues = false
		it := txn.NewIterator(opt)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if k := string(it.Item().Key()); !strings.HasPrefix(k, "!") {
				keys = append(keys, k)
			}
		}
		return nil
	})
	if err != nil {
		c.fatalf("list a follower's database: %v", err)
	}
	return keys
}

// harmKey deletes, changes or adds one key.
func (c *cluster) harmKey(batch *badger.WriteBatch, keys []string, damaged map[string]int64) {
	h := c.hist.Load()
	c.serial++
	foreign := -int64(c.serial) << valClassBits
	key := "k/x" + string(rune('a'+c.rng.IntN(26)))
	if kind := c.rng.IntN(3); kind < 2 && len(keys) > 0 {
		key = keys[c.rng.IntN(len(keys))]
		if kind == 0 {
			foreign = valAbsent
		}
	}
	if _, twice := damaged[key]; twice {
		return
	}
	var err error
	switch key = h.key([]byte(key)); {
	case foreign == valAbsent:
		c.count("keys deleted")
		err = batch.Delete([]byte(key))
	case strings.HasPrefix(key, "k/x"):
		c.count("keys added")
		err = batch.Set([]byte(key), valBytes(foreign))
	default:
		c.count("keys changed")
		err = batch.Set([]byte(key), valBytes(foreign))
	}
	if err != nil {
		c.fatalf("harm a key: %v", err)
	}
	damaged[key] = foreign
}

// damageFiles flips, cuts or removes a file of a stopped follower.
func (c *cluster) damageFiles() {
	i := c.follower()
	c.halt(i)
	n := c.nodes[i]
	files, err := filepath.Glob(filepath.Join(n.dir, "*"))
	if err != nil {
		c.fatalf("%v", err)
	}
	var whole []string
	for _, f := range files {
		name := filepath.Base(f)
		info, err := os.Lstat(f)
		if err == nil && info.Mode().IsRegular() && name != "LOCK" && name != "follower-id" && info.Size() > 0 {
			whole = append(whole, f)
		}
	}
	if len(whole) == 0 {
		c.up(i)
		return
	}
	file := whole[c.rng.IntN(len(whole))]
	how := []string{"flipped a bit in", "cut", "removed", "zeroed a part of"}[c.rng.IntN(4)]
	c.did("%s %s of node %d", how, filepath.Base(file), i)
	if err := c.damageFile(file, how[0]); err != nil {
		c.fatalf("damage %s: %v", file, err)
	}
	c.count("file damaged")
	n.broken = true
	// What it holds now nobody knows.
	c.hist.Load().addReset(histReset{node: i, all: true})
	c.up(i)
}

// damageFile damages a file in the way that a letter says.
func (c *cluster) damageFile(file string, how byte) error {
	if how == 'r' {
		return os.Remove(file)
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	// A table in memory and the value log are mostly empty: the front counts.
	at := c.rng.Int64N(min(info.Size(), 1<<c.rng.IntN(25)))
	switch how {
	case 'c':
		return f.Truncate(at)
	case 'z':
		_, err = f.WriteAt(make([]byte, min(info.Size()-at, 4096)), at)
		return err
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	b[0] ^= 1 << c.rng.IntN(8)
	_, err = f.WriteAt(b, at)
	return err
}

// wipeFollower takes a follower's directory away.
func (c *cluster) wipeFollower() {
	i := c.follower()
	c.halt(i)
	c.wipe(i)
	c.count("directory wiped")
	c.wait(0, 500*time.Millisecond)
	c.up(i)
}
