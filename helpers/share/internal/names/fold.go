package names

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// fold gives the form in which names are compared: what ext4 with casefold, APFS, HFS+ and NTFS would each take for
// the same name folds to the same string. It is coarser than any of them, never finer.
func fold(name string) string {
	// An NTFS stream: `.git::$INDEX_ALLOCATION` opens the directory `.git`.
	if colon := strings.IndexByte(name, ':'); colon > 0 {
		name = name[:colon]
	}
	if plain(name) {
		return name
	}
	var b strings.Builder
	b.Grow(len(name))
	for i := 0; i < len(name); {
		r, size := utf8.DecodeRuneInString(name[i:])
		if r == utf8.RuneError && size == 1 {
			b.WriteByte(name[i]) // not UTF-8: filesystems compare such bytes as they are
		} else if !ignorable(r) {
			foldRune(&b, r)
		}
		i += size
	}
	folded := b.String()
	// Windows drops dots and spaces at the end of a name.
	if trimmed := strings.TrimRight(folded, ". "); trimmed != "" {
		return trimmed
	}
	return folded
}

// plain tells that a name is its own folded form, as nearly all are.
func plain(name string) bool {
	for i := 0; i < len(name); i++ {
		if c := name[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return name == "" || name[len(name)-1] != '.' && name[len(name)-1] != ' '
}

// foldRune is Unicode's full case folding as far as it can give ASCII letters: all names of the table are ASCII, so
// what folds to something else differs from them anyway. No character but the Kelvin sign decomposes to an ASCII
// letter alone, so no other normalisation is needed.
func foldRune(b *strings.Builder, r rune) {
	switch r {
	case 'ſ':
		b.WriteByte('s')
	case 'ı': // upper case is I in the tables of exFAT and SMB servers
		b.WriteByte('i')
	case 'ß', 'ẞ':
		b.WriteString("ss")
	case 'ﬀ':
		b.WriteString("ff")
	case 'ﬁ':
		b.WriteString("fi")
	case 'ﬂ':
		b.WriteString("fl")
	case 'ﬃ':
		b.WriteString("ffi")
	case 'ﬄ':
		b.WriteString("ffl")
	case 'ﬅ', 'ﬆ':
		b.WriteString("st")
	default:
		b.WriteRune(unicode.ToLower(r)) // the Kelvin sign gives k
	}
}

// ignorable are Unicode's Default_Ignorable_Code_Point, which ext4's casefold and HFS+ leave out of a comparison.
func ignorable(r rune) bool {
	if r < 0xad {
		return false
	}
	switch {
	case r == 0xad, r == 0x34f, r == 0x61c, r == 0x115f, r == 0x1160, r == 0x17b4, r == 0x17b5, r == 0x3164, r == 0xfeff, r == 0xffa0,
		r >= 0x180b && r <= 0x180f, r >= 0x200b && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2060 && r <= 0x206f,
		r >= 0xfe00 && r <= 0xfe0f, r >= 0xfff0 && r <= 0xfff8, r >= 0x1bca0 && r <= 0x1bca3, r >= 0x1d173 && r <= 0x1d17a,
		r >= 0xe0000 && r <= 0xe0fff:
		return true
	}
	return false
}

// shortOf tells that a folded name can be the 8.3 name that NTFS gives a long one: `git~1` for `.git`. After four
// of one kind NTFS hashes the name, so two letters and any four hexadecimal digits count too.
func shortOf(short, long string) bool {
	short, extension, _ := strings.Cut(short, ".")
	base, number, found := strings.Cut(short, "~")
	if !found || number == "" || len(short) > 8 || strings.Trim(number, "0123456789") != "" {
		return false
	}
	long = strings.TrimLeft(long, ".")
	longExtension := ""
	if dot := strings.LastIndexByte(long, '.'); dot >= 0 {
		long, longExtension = long[:dot], long[dot+1:]
	}
	if extension != longExtension[:min(3, len(longExtension))] {
		return false
	}
	long = strings.ReplaceAll(strings.ReplaceAll(long, ".", ""), " ", "")
	if base == long[:min(len(long), 6, 7-len(number))] {
		return true
	}
	return len(base) == 6 && base[:2] == (long + "__")[:2] && strings.Trim(base[2:], "0123456789abcdef") == ""
}

// spread gives the folded components of a path. A backslash separates on Windows, so here too.
func spread(components []string) []string {
	folded := make([]string, 0, len(components))
	for _, c := range components {
		for strings.IndexByte(c, '\\') >= 0 {
			var head string
			head, c, _ = strings.Cut(c, "\\")
			folded = append(folded, fold(head))
		}
		folded = append(folded, fold(c))
	}
	return folded
}
