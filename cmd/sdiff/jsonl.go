package main

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// An item is a line of load's input and of list's output:
//
//	{"key":"…","value":"…"}
//
// with key64 or value64, in base64, for bytes that are no UTF-8. The parser is
// our own because encoding/json takes more than it gives back: it replaces bad
// UTF-8 and lone surrogates, takes the last of two equal fields, and ignores
// unknown ones. A tool that copies data must not.

// appendItem writes an item, with or without its value, and ends the line.
func appendItem(b, key, value []byte, values bool) []byte {
	b = appendField(append(b, '{'), "key", key)
	if values {
		b = appendField(append(b, ','), "value", value)
	}
	return append(b, "}\n"...)
}

// appendField writes bytes as the field name, or as name64 if they are no
// UTF-8.
func appendField(b []byte, name string, value []byte) []byte {
	if utf8.Valid(value) {
		b = append(append(append(b, '"'), name...), `":`...)
		return appendString(b, value)
	}
	b = append(append(append(b, '"'), name...), `64":"`...)
	return append(base64.StdEncoding.AppendEncode(b, value), '"')
}

// appendString writes UTF-8 as a JSON string. What is not printable is
// escaped, so that no terminal takes it for a command.
func appendString(b, s []byte) []byte {
	b = append(b, '"')
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r == '\r':
			b = append(b, `\r`...)
		case strconv.IsPrint(r):
			b = append(b, s[:n]...)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, hi, lo)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		s = s[n:]
	}
	return append(b, '"')
}

// A lineError says where a line is no item. It never says what stands there.
type lineError struct {
	at  int // byte of the line, from 1
	msg string
}

func (e *lineError) Error() string { return fmt.Sprintf("byte %d: %s", e.at, e.msg) }

// parseItem reads a line. Key and value are the caller's.
func parseItem(line []byte) (key, value []byte, err error) {
	p := itemParser{in: line}
	fields := map[string][]byte{}
	if !utf8.Valid(line) {
		return nil, nil, &lineError{firstInvalid(line) + 1, "is no UTF-8; bytes go into key64 and value64"}
	}
	if err := p.object(fields); err != nil {
		return nil, nil, err
	}
	if key, err = oneOf(fields, "key"); err != nil {
		return nil, nil, err
	}
	if value, err = oneOf(fields, "value"); err != nil {
		return nil, nil, err
	}
	return key, value, nil
}

// oneOf returns the bytes of the field name or name64.
func oneOf(fields map[string][]byte, name string) ([]byte, error) {
	plain, ok := fields[name]
	coded, ok64 := fields[name+"64"]
	switch {
	case ok && ok64:
		return nil, fmt.Errorf("there are both %s and %s64", name, name)
	case ok:
		return plain, nil
	case !ok64:
		return nil, fmt.Errorf("there is no %s", name)
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(coded)))
	n, err := base64.StdEncoding.Strict().Decode(out, coded)
	// The decoder skips line breaks, which would make two forms of one value.
	if err != nil || base64.StdEncoding.EncodedLen(n) != len(coded) {
		return nil, fmt.Errorf("%s64 is not in base64", name)
	}
	return out[:n], nil
}

func firstInvalid(b []byte) int {
	at := 0
	for at < len(b) {
		r, n := utf8.DecodeRune(b[at:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		at += n
	}
	return at
}

// An itemParser reads one flat object of strings.
type itemParser struct {
	in []byte
	at int
}

func (p *itemParser) fail(msg string) error { return &lineError{p.at + 1, msg} }

// object reads the whole line into fields.
func (p *itemParser) object(fields map[string][]byte) error {
	if err := p.want('{', "an object in braces is expected"); err != nil {
		return err
	}
	for {
		if err := p.want('"', "a field name in quotes is expected"); err != nil {
			return err
		}
		start := p.at
		name, err := p.str()
		if err != nil {
			return err
		}
		switch string(name) {
		case "key", "key64", "value", "value64":
		default:
			return &lineError{start, "only key, key64, value and value64 are known"}
		}
		if _, twice := fields[string(name)]; twice {
			return &lineError{start, "the field " + string(name) + " occurs twice"}
		}
		if err := p.want(':', "a colon is expected"); err != nil {
			return err
		}
		if err := p.want('"', "a string in quotes is expected"); err != nil {
			return err
		}
		if fields[string(name)], err = p.str(); err != nil {
			return err
		}
		p.space()
		if p.at < len(p.in) && p.in[p.at] == '}' {
			p.at++
			break
		}
		if err := p.want(',', "a comma or the closing brace is expected"); err != nil {
			return err
		}
	}
	if p.space(); p.at < len(p.in) {
		return p.fail("the line goes on after its object")
	}
	return nil
}

func (p *itemParser) space() {
	for p.at < len(p.in) && (p.in[p.at] == ' ' || p.in[p.at] == '\t' || p.in[p.at] == '\r' || p.in[p.at] == '\n') {
		p.at++
	}
}

// want skips space and then one byte, which must be c.
func (p *itemParser) want(c byte, msg string) error {
	p.space()
	if p.at >= len(p.in) || p.in[p.at] != c {
		return p.fail(msg)
	}
	p.at++
	return nil
}

// str reads a string whose opening quote has been read. It never returns nil.
func (p *itemParser) str() ([]byte, error) {
	out := []byte{}
	for {
		start := p.at
		for p.at < len(p.in) && p.in[p.at] != '"' && p.in[p.at] != '\\' && p.in[p.at] >= ' ' {
			p.at++
		}
		out = append(out, p.in[start:p.at]...)
		switch {
		case p.at == len(p.in):
			return nil, p.fail("the line ends within a string")
		case p.in[p.at] == '"':
			p.at++
			return out, nil
		case p.in[p.at] < ' ':
			return nil, p.fail("a control byte within a string must be escaped")
		}
		r, err := p.escape()
		if err != nil {
			return nil, err
		}
		out = utf8.AppendRune(out, r)
	}
}

// escape reads an escape, a pair of surrogates included.
func (p *itemParser) escape() (rune, error) {
	begin := p.at
	if p.at+1 >= len(p.in) {
		return 0, p.fail("the line ends within an escape")
	}
	c := p.in[p.at+1]
	p.at += 2
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		r, ok := p.hex4()
		if ok && utf16.IsSurrogate(r) {
			// Half a pair has no UTF-8: it could not be given back.
			var lo rune
			if ok = p.at+1 < len(p.in) && p.in[p.at] == '\\' && p.in[p.at+1] == 'u'; ok {
				p.at += 2
				lo, ok = p.hex4()
				r = utf16.DecodeRune(r, lo)
				ok = ok && r != utf8.RuneError
			}
		}
		if ok {
			return r, nil
		}
	}
	return 0, &lineError{begin + 1, "is no escape that stands for a character"}
}

// hex4 reads four hex digits.
func (p *itemParser) hex4() (rune, bool) {
	if p.at+4 > len(p.in) {
		return 0, false
	}
	v, err := strconv.ParseUint(string(p.in[p.at:p.at+4]), 16, 16)
	p.at += 4
	return rune(v), err == nil
}
