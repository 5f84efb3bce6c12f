package replica

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// A BadKey is a key that the store does not hold as it should. In JSON the key
// is "key" if it is text, and otherwise "key64", in base64.
type BadKey struct {
	Key  []byte
	What string // "missing", "extra", "changed" or "unreadable"
}

type jsonKey struct {
	Key   *string `json:"key,omitempty"`
	Key64 []byte  `json:"key64,omitempty"`
	What  string  `json:"what"`
}

func newJSONKey(key []byte, what string) jsonKey {
	if utf8.Valid(key) {
		return jsonKey{Key: new(string(key)), What: what}
	}
	return jsonKey{Key64: key, What: what}
}

func (k jsonKey) bytes() []byte {
	if k.Key != nil {
		return []byte(*k.Key)
	}
	return k.Key64
}

// MarshalJSON encodes the key as described above.
func (k BadKey) MarshalJSON() ([]byte, error) { return json.Marshal(newJSONKey(k.Key, k.What)) }

// UnmarshalJSON decodes what MarshalJSON encodes.
func (k *BadKey) UnmarshalJSON(b []byte) error {
	var j jsonKey
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	k.Key, k.What = j.bytes(), j.What
	return nil
}

// MarshalJSON encodes a lag that is not known as null.
func (s Status) MarshalJSON() ([]byte, error) {
	type plain Status
	j := struct {
		plain
		LagCommits *uint64  `json:"lag_commits"`
		LagSeconds *float64 `json:"lag_seconds"`
	}{plain: plain(s)}
	if s.LagKnown {
		j.LagCommits, j.LagSeconds = &s.LagCommits, &s.LagSeconds
	}
	return json.Marshal(j)
}

type jsonDifference struct {
	Diff  string  `json:"diff"`
	Key   *string `json:"key,omitempty"`
	Key64 []byte  `json:"key64,omitempty"`
}

// MarshalJSON encodes the difference as described above.
func (d Difference) MarshalJSON() ([]byte, error) {
	k := newJSONKey(d.Key, "")
	return json.Marshal(jsonDifference{string(rune(d.Kind)), k.Key, k.Key64})
}

// UnmarshalJSON decodes what MarshalJSON encodes.
func (d *Difference) UnmarshalJSON(b []byte) error {
	var j jsonDifference
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	if len(j.Diff) != 1 {
		return fmt.Errorf("a difference of kind %q", j.Diff)
	}
	d.Kind, d.Key = Kind(j.Diff[0]), jsonKey{Key: j.Key, Key64: j.Key64}.bytes()
	return nil
}
