package live

import "strings"

// PairCode finds the one-time code in what a person pasted, or in a page's fragment: the whole link, "#pair=CODE" or the code
// alone. "" when there is none.
func PairCode(text string) string {
	text = strings.TrimSpace(text)
	if _, code, found := strings.Cut(text, "#pair="); found {
		text = code
	} else if strings.ContainsAny(text, "/#:") {
		return ""
	}
	if end := strings.IndexAny(text, "&# \t\r\n"); end >= 0 {
		text = text[:end]
	}
	return text
}
